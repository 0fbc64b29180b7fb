"""``dry_run=true``: build everything, time a few steps of each stage, write nothing."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genkt.methods.build import beta_candidates, with_beta
from genkt.recipes.cell import BASELINE
from genkt.recipes.config import TransferConfig
from genkt.recipes.data import Draw, draw_of
from genkt.recipes.run_folder import RunFolder
from genkt.recipes.session import Session
from genkt.recipes.stages import distil, distil_steps, train_supervised
from genkt.recipes.teachers import prepare_teachers
from genkt.recipes.transfer import Given, open_session

_STEPS = 4
_CACHED_IMAGES = 8


@dataclass(frozen=True)
class _Measured:
    """Seconds of one unit of work, and the bytes a full cache would take."""

    per_step: float
    per_adapt_step: float
    per_view: float
    cache_bytes: int
    student_bytes: int
    peak_bytes: int


def estimate(config: TransferConfig, plain: dict[str, Any], given: Given | None = None) -> str:
    """What the run would cost, from a few real steps; nothing stays on disk.

    Raises:
        UserError: whatever would stop the real run at its start.
    """
    RunFolder(config.out, plain, overwrite=config.overwrite)  # says now when it is taken
    with tempfile.TemporaryDirectory(prefix="genkt-") as temporary:
        folder = RunFolder(Path(temporary) / "run", plain, overwrite=False)
        session = open_session(config, folder, given or Given())
        session.cache_home = Path(temporary) / "cache"
        measured = _measure(session)
    return _text(session, measured)


def _measure(session: Session) -> _Measured:
    draw = draw_of(session.config, session.pool, 0)
    small, rows = _few_images(session, draw)
    log = session.log.stage(0, "dry_run")
    started = time.perf_counter()
    teachers, adapt = prepare_teachers(small, rows, log)
    cached = max(0.0, time.perf_counter() - started - adapt.seconds)
    options = session.config.method
    if beta_candidates(options):
        options = with_beta(options, beta_candidates(options)[0])
    student = session.student(session.num_classes, 0)
    for attempt in ("warm-up", "timed"):  # what comes first is slower than what follows
        home, lr = small.folder.path / attempt, small.config.train.lr
        cost, _, _ = distil(small, rows, student, options, teachers, home / "distil", log)
        cost += train_supervised(
            small, rows, "finetune", student, _STEPS, lr, home / "finetune", log
        )[0]
    num_views = max(1, session.views.num_views)
    num_rows = len(session.pool.images) * num_views
    num_cached = len(small.pool.images) * num_views
    if session.adapt == "linear_probe":
        num_cached += len(small.pool.splits.parts["test"])
    bytes_each = 2 if session.config.cache_dtype == "float16" else 4
    columns = sum(shape.width + (shape.num_classes or 0) for shape in teachers.shapes)
    row_bytes = bytes_each * columns if teachers.stores else 0
    return _Measured(
        per_step=cost.seconds / cost.steps,
        per_adapt_step=adapt.seconds / adapt.steps if adapt.steps else 0.0,
        per_view=cached / num_cached if teachers.stores else 0.0,
        cache_bytes=round(row_bytes * num_rows),
        student_bytes=4 * student.num_parameters,
        peak_bytes=cost.peak_memory_bytes,
    )


def _few_images(session: Session, draw: Draw) -> tuple[Session, Draw]:
    """The same run on a handful of images and steps."""
    import numpy as np

    keep = np.concatenate([draw.labelled[:_CACHED_IMAGES], draw.transfer[:_CACHED_IMAGES]])
    num_labelled = min(_CACHED_IMAGES, len(draw.labelled))
    train = replace(session.config.train, steps=_STEPS, eval_every=0, log_every=1)
    short = replace(session.config.adapt, steps=_STEPS if session.config.adapt.steps else 0)
    config = replace(session.config, train=train, adapt=short)
    pool = replace(session.pool, images=session.pool.images.select(keep))
    test = session.pool.splits.parts["test"]
    few = test.select(np.arange(min(_CACHED_IMAGES, len(test))))
    splits = replace(pool.splits, validation=None, test=few)
    small = replace(
        session, config=config, pool=replace(pool, splits=splits), _datasets={},
    )  # fmt: skip
    rows = Draw(
        index=0,
        seed=draw.seed,
        labels=draw.labels[keep],
        labelled=np.arange(num_labelled),
        transfer=np.arange(num_labelled, len(keep)),
    )
    return small, rows


def _text(session: Session, measured: _Measured) -> str:
    config = session.config
    draw = draw_of(config, session.pool, 0)
    steps = distil_steps(session, draw) + config.finetune.steps
    searched = len(beta_candidates(config.method)) * distil_steps(session, draw)
    arms = 2 if config.baseline and config.method.name != BASELINE else 1
    adapted = session.adapt == "fine_tune" and bool(session.teachers)
    views = len(session.pool.images) * max(1, session.views.num_views)
    num_caches = config.draws if adapted else 1
    seconds = config.draws * (arms * steps + searched) * measured.per_step
    seconds += config.draws * config.adapt.steps * measured.per_adapt_step
    seconds += num_caches * views * measured.per_view
    disk = measured.cache_bytes + config.draws * arms * 4 * measured.student_bytes
    draws = _count(config.draws, "draw")
    free = shutil.disk_usage(_existing(Path(config.out))).free
    return "\n".join(
        [
            "dry run: everything fits; nothing was written",
            f"  students   {draws} x {_count(arms, 'arm')}, {steps} steps each"
            + (f", and {searched} steps a draw to search beta" if searched else ""),
            f"  images     {len(draw.labelled)} labelled, {len(draw.transfer)} transfer a draw",
            f"  teachers   {views} views to cache" + (", every draw" if adapted else "")
            if session.teachers and config.teacher.outputs == "cached"
            else "  teachers   " + ("online" if session.teachers else "none"),
            f"  time       about {_duration(seconds)} on {session.fabric.device}",
            f"  memory     about {measured.peak_bytes / 1e9:.1f} GB",
            f"  disk       about {disk / 1e6:.0f} MB ({free / 1e9:.0f} GB free)",
        ]
    )


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _existing(path: Path) -> Path:
    path = path.expanduser().resolve()
    while not path.exists():
        path = path.parent
    return path


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
