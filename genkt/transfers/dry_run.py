"""``dry_run=true``: build everything, time a few steps of each stage, write nothing."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.recipe_settings import IrfRecipe, StagedRecipe
from genkt.config.set_settings import DiggSet, RetrievedSet
from genkt.config.transfer_settings import TransferConfig
from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.precision import threads
from genkt.runs.estimate import disk_row, estimate_text, memory_row, time_row
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session
from genkt.stages.course import Course
from genkt.stages.distil import distil_steps
from genkt.stages.irf import SETTINGS, train_setting
from genkt.stages.prepare_teachers import prepare_teachers
from genkt.stages.stage_kinds import baseline_steps, run_stages
from genkt.transfers.average_notes import average_notes
from genkt.transfers.open_run import Given, open_session
from genkt.transfers.own_sets import HOME, make_images, num_made, planned_draw
from genkt.transfers.side_by_side import num_worth, threads_each
from genkt.types import Cost

_STEPS = 4
_CACHED_IMAGES = 8


@dataclass(frozen=True)
class _Measured:
    """Seconds of one unit of work, and the bytes a full cache and all sets would take."""

    per_step: float
    per_adapt_step: float
    per_view: float
    per_made: float
    per_represented: float
    cache_bytes: int
    made_bytes: int
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
        shared = (given or Given()).found_by_name(config)
        with threads(threads_each(config) if shared else None):
            measured = _measure(session)
    return _text(session, measured, shared=shared)


def _measure(session: Session) -> _Measured:
    small = _few_images(session)
    make_images(small)
    draw, log = small.pool.draws[0], session.log.stage(0, "dry_run")
    started = time.perf_counter()
    teachers, adapt = prepare_teachers(small, draw, log)
    cached = max(0.0, time.perf_counter() - started - adapt.seconds)
    student = session.student(session.num_classes, 0)
    for attempt in ("warm-up", "timed"):  # what comes first is slower than what follows
        cost = _few_steps(small, draw, student, small.folder.path / attempt, log)
    num_views = max(1, session.views.num_views)
    num_cached = len(small.pool.images) * num_views
    if session.config.adaptation in ("linear_probe", "better"):
        num_cached += len(small.pool.splits.parts["test"])
    bytes_each = 2 if session.config.cache_dtype == "float16" else 4
    columns = sum(shape.width + (shape.num_classes or 0) for shape in teachers.shapes)
    if "feature_map" in session.config.needs:
        columns += sum(math.prod(model.map_shape) for model in teachers.models)
    row_bytes = bytes_each * columns if teachers.stores else 0
    few_made = sum(len(own.found) for own in small.sets)
    represented, retrieves = small.represented, small.retriever is not None
    return _Measured(
        per_step=cost.seconds / cost.steps,
        per_adapt_step=adapt.seconds / adapt.steps if adapt.steps else 0.0,
        per_view=cached / num_cached if teachers.stores else 0.0,
        per_made=0.0 if retrieves else sum(own.seconds for own in small.sets) / max(1, few_made),
        per_represented=represented.seconds / len(represented.rows) if represented else 0.0,
        cache_bytes=round(row_bytes * _num_images(session) * num_views),
        made_bytes=_size(small.folder.path / HOME) // _CACHED_IMAGES * num_made(session),
        student_bytes=4 * student.num_parameters,
        peak_bytes=cost.peak_memory_bytes,
    )


def _few_steps(small: Session, draw: Draw, student: Backbone, home: Path, log: StageLog) -> Cost:
    """A few steps of every stage that trains the student."""
    recipe = small.config.recipe
    if isinstance(recipe, IrfRecipe):
        settings = replace(small.config.train, batch_size=recipe.batch_size)
        costs, _ = train_setting(small, draw, student, SETTINGS["irf"], settings, home, log)
        return sum(costs.values(), Cost())
    course = Course(small, draw, home, log, student)
    run_stages(course, recipe)
    return course.trained


def _few_images(session: Session) -> Session:
    """The same run on one draw, a handful of images and steps."""
    draw = session.pool.draws[0]
    keep = np.concatenate([draw.labelled[:_CACHED_IMAGES], draw.transfer[:_CACHED_IMAGES]])
    num_labelled = min(_CACHED_IMAGES, len(draw.labelled))
    train = replace(session.config.train, steps=_STEPS, eval_every=0, log_every=1)
    short = replace(session.config.adapt, steps=_STEPS if session.config.adapt.steps else 0)
    finetune = replace(session.config.finetune, steps=_STEPS)
    config = replace(session.config, train=train, adapt=short, finetune=finetune, draws=1)
    config = replace(config, method=_first_beta(config.method))
    if isinstance(config.recipe, StagedRecipe):
        config = replace(config, recipe=config.recipe.shortened(_STEPS))
    if isinstance(config.transfer_set, DiggSet):
        few = replace(config.transfer_set, num_images=_CACHED_IMAGES)
        config = replace(config, transfer_set=few)
    if isinstance(config.transfer_set, RetrievedSet):
        own = replace(config.transfer_set, num_images=_CACHED_IMAGES, multiplier=None)
        config = replace(config, transfer_set=replace(own, on_shortage="all"))
    images = session.pool.images.select(keep)
    rows = Draw(
        index=0,
        seed=draw.seed,
        images=images,
        labels=draw.labels[keep],
        labelled=np.arange(num_labelled),
        transfer=np.arange(num_labelled, len(keep)),
    )
    parts = session.pool.splits.parts
    few_of = {
        name: part.select(np.arange(min(_CACHED_IMAGES, len(part)))) for name, part in parts.items()
    }
    splits = replace(
        session.pool.splits,
        train=few_of["train"],
        # No stage is to be slowed by looking at them, but a choice between teachers needs some.
        validation=few_of.get("validation") if config.adaptation == "better" else None,
        test=few_of["test"],
    )
    pool = Pool(images, (rows,), splits)
    return replace(session, config=config, pool=pool, _datasets={})


def _first_beta(options: MethodOptions) -> MethodOptions:
    """The first value of a search: which one it is costs nothing."""
    candidates = beta_candidates(options)
    return with_beta(options, candidates[0]) if candidates else options


def _num_images(session: Session) -> int:
    """Images of the pool once every draw has made its own."""
    return len(session.pool.images) + session.config.draws * num_made(session)


def _text(session: Session, measured: _Measured, *, shared: bool) -> str:
    config, draw, made = session.config, planned_draw(session), num_made(session)
    if isinstance(config.recipe, IrfRecipe):
        steps, searched = config.recipe.steps, 0
    else:
        steps = baseline_steps(session, draw, config.recipe)
        searched = len(beta_candidates(config.method)) * distil_steps(draw, config.train)
    arms = len(config.arms)
    adapted = config.adaptation in ("fine_tune", "better", "irf") and bool(session.teachers)
    views = _num_images(session) * max(1, session.views.num_views)
    num_caches = config.draws if adapted else 1
    a_draw = (arms * steps + searched) * measured.per_step
    processes = num_worth(config, config.draws * arms, a_draw / arms) if shared else 1
    seconds = math.ceil(config.draws * arms / processes) / arms * a_draw
    rounds = math.ceil(config.draws / processes)
    seconds += rounds * config.adapt.steps * measured.per_adapt_step
    seconds += num_caches * views * measured.per_view
    seconds += rounds * made * measured.per_made
    seconds += config.draws * len(draw.labelled) * measured.per_represented
    disk = measured.cache_bytes + config.draws * arms * 4 * measured.student_bytes
    disk += config.draws * measured.made_bytes
    draws = _count(config.draws, "draw")
    how = "synthesized"
    if session.retriever is not None:
        how = "retrieved (genkt retrieve dry_run=true tells how long the gallery takes)"
    teachers = "online" if session.teachers else "none"
    if session.teachers and config.teacher.outputs == "cached":
        teachers = f"{views} views to cache" + (", every draw" if adapted else "")
    search = f", and {searched} steps a draw to search beta" if searched else ""
    rows = [
        ("students", f"{draws} x {_count(arms, 'arm')}, {steps} steps each{search}"),
        (
            "images",
            f"{len(draw.labelled)} labelled, {len(draw.transfer)} transfer a draw"
            + (f", {made} of them {how}" if made else ""),
        ),
        ("teachers", teachers),
        time_row(seconds, f"on {session.fabric.device}"),
        memory_row(
            measured.peak_bytes, f" in each of {processes} processes" if processes > 1 else ""
        ),
        disk_row(config.out, disk, "the run and its teacher cache"),
    ]
    return estimate_text([*rows, *(("note", note) for note in average_notes(session))])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
