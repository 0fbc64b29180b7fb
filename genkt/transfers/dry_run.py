"""``dry_run=true``: build everything, time a few steps of each stage, write nothing."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.methods.build import beta_candidates, with_beta
from genkt.precision import threads
from genkt.progress import duration
from genkt.runs.estimate import disk_row, estimate_text, memory_row, time_row
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_folder import RunFolder
from genkt.settings.objects import has_objects
from genkt.stages.build_stages import StageBuilder
from genkt.stages.cross_validation import num_exams, spared_folds
from genkt.stages.recipe_plan import RecipePlan, plan_of
from genkt.training.store_job import TEACHER_BATCH
from genkt.transfers.average_notes import average_notes
from genkt.transfers.count_views import num_asked
from genkt.transfers.decide_run import longest, shortest
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun
from genkt.transfers.pilot_rules import most_pilot_steps
from genkt.transfers.set_maker import HOME
from genkt.transfers.side_by_side import num_worth, threads_each
from genkt.transfers.size_notes import size_notes
from genkt.types import counted

_STEPS = 4
_CACHED_IMAGES = 8


@dataclass(frozen=True)
class _Measured:
    """Seconds of one unit of work, and the bytes that a view's answers and all sets would take."""

    per_step: float
    per_adapt_step: float
    per_view: float
    per_made: float
    per_represented: float
    row_bytes: int
    made_bytes: int
    student_bytes: int
    peak_bytes: int


def estimate(config: TransferConfig, plain: dict[str, Any], splits: Splits | None = None) -> str:
    """Estimate the cost of the run from a few real steps; nothing stays on disk.

    Args:
        splits: the data, if they are read already.

    Raises:
        UserError: whatever would stop the real run at its start.
    """
    RunFolder(config.out, plain, overwrite=config.overwrite)  # fails now if it is in use
    with tempfile.TemporaryDirectory(prefix="genkt-") as temporary:
        folder = RunFolder(Path(temporary) / "run", plain, overwrite=False)
        opened = open_run(longest(config), folder, splits)
        opened = replace(opened, cache_home=Path(temporary) / "cache")
        shared = not has_objects(config)
        with threads(threads_each(opened.config) if shared else None):
            measured = _measure(opened)
    return _text(opened, measured, shared=shared, least=shortest(config))


def _measure(opened: OpenedRun) -> _Measured:
    run = with_sets(_few_images(opened))
    config, draw, arm = run.config, run.pool.draws[0], run.config.main_arm
    teachers, adapt = run.teachers.prepare(draw, opened.log.stage(0, "dry_run"))
    num_views = max(1, opened.views.num_views)
    started, every = time.perf_counter(), np.arange(len(run.pool.images) * num_views)
    for store in teachers.stores:
        store.fill(every)
    filled = time.perf_counter() - started
    student = opened.fresh_student()
    for attempt in ("warm-up", "timed"):  # the first attempt is slower
        training = run.training(draw, arm, run.folder.path / attempt, student)
        run.arm(arm).train(training)
        student, cost = training.student, training.trained
    bytes_each = 2 if config.cache_dtype == "float16" else 4
    columns = sum(shape.width + (shape.num_classes or 0) for shape in teachers.shapes)
    if "feature_map" in config.needs:
        columns += sum(math.prod(model.map_shape) for model in teachers.models)
    row_bytes = bytes_each * columns if teachers.stores else 0
    few_made, represented = sum(len(own.transfer_set) for own in run.sets), run.represented
    tells = opened.maker is not None and opened.maker.is_linear
    return _Measured(
        per_step=cost.seconds / max(1, cost.steps),
        per_adapt_step=adapt.seconds / adapt.steps if adapt.steps else 0.0,
        per_view=filled / (math.ceil(len(every) / TEACHER_BATCH) * TEACHER_BATCH),
        per_made=sum(own.seconds for own in run.sets) / max(1, few_made) if tells else 0.0,
        per_represented=represented.seconds / len(represented.rows) if represented else 0.0,
        row_bytes=row_bytes,
        made_bytes=_size(run.folder.path / HOME) // _CACHED_IMAGES * opened.num_made,
        student_bytes=4 * student.num_parameters,
        peak_bytes=cost.peak_memory_bytes,
    )


def _few_images(opened: OpenedRun) -> OpenedRun:
    """The same run on one draw, a handful of images and steps."""
    draw, splits = opened.pool.draws[0], opened.pool.splits
    keep = np.concatenate([draw.labelled[:_CACHED_IMAGES], draw.transfer[:_CACHED_IMAGES]])
    num_labelled = min(_CACHED_IMAGES, len(draw.labelled))
    config = _few_steps(opened.config)
    images = opened.pool.images.select(keep)
    rows = Draw(
        index=0,
        seed=draw.seed,
        images=images,
        labels=draw.labels[keep],
        labelled=np.arange(num_labelled),
        transfer=np.arange(num_labelled, len(keep)),
    )
    few_of = {
        name: part.select(np.arange(min(_CACHED_IMAGES, len(part))))
        for name, part in splits.parts.items()
    }
    splits = replace(
        splits,
        train=few_of["train"],
        # Validation would slow the stages, but a choice between teachers needs some images; a
        # handful cannot be divided into folds.
        validation=few_of.get("validation", few_of["train"])
        if config.adaptation == "better"
        else None,
        test=few_of["test"],
    )
    maker = opened.maker
    return replace(
        opened,
        config=config,
        pool=Pool(images, (rows,), splits),
        plan=_plan(opened, config, splits),
        maker=maker.shortened(_CACHED_IMAGES) if maker is not None else None,
    )


def _plan(opened: OpenedRun, config: TransferConfig, splits: Splits | None = None) -> RecipePlan:
    """What the recipe trains with other settings, and perhaps other data."""
    splits = splits or opened.pool.splits
    return plan_of(StageBuilder(config, splits, opened.views, len(opened.teachers)))


def _few_steps(config: TransferConfig) -> TransferConfig:
    """The same settings with a few steps of every stage; the first value of a search."""
    candidates = beta_candidates(config.method)
    return replace(
        config,
        train=replace(config.train, steps=_STEPS, eval_every=0, log_every=1),
        adapt=replace(config.adapt, steps=_STEPS if config.adapt.steps else 0),
        finetune=replace(config.finetune, steps=_STEPS),
        draws=1,
        seeds_per_draw=1,
        validation="images",
        cross_validate=False,
        method=with_beta(config.method, candidates[0]) if candidates else config.method,
        recipe=config.recipe.shortened(_STEPS),
        transfer_set=config.transfer_set.shortened(_CACHED_IMAGES),
    )


@dataclass(frozen=True)
class _Work:
    """What a run takes: steps of a student, of its searches, of the baseline's, and on folds.

    Args:
        views: that each teacher answers, over all draws.  adapted: anew for every draw.
    """

    steps: int
    searched: int
    also: int
    judged: int
    kept: int
    views: int
    adapted: bool

    @classmethod
    def of(cls, opened: OpenedRun) -> _Work:
        """Of a run, before it is started."""
        config, draw, plan = opened.config, opened.planned_draw, opened.plan
        steps, exams = plan.num_steps(draw), _num_exams(opened)
        on_folds = config.keeps_better and config.validation == "cross"
        return cls(
            steps=steps,
            searched=exams * plan.searched_steps(draw),
            also=exams * plan.baseline_searched_steps(draw),
            judged=exams * steps if config.cross_validate else 0,
            kept=exams * steps * len(config.arms) if on_folds else 0,
            views=num_asked(opened, plan),
            adapted=config.adapts_by_training and bool(opened.teachers),
        )


def _seconds(opened: OpenedRun, measured: _Measured, *, shared: bool) -> tuple[float, int]:
    """An estimate of the run, and the number of processes that share it."""
    config, made, work = opened.config, opened.num_made, _Work.of(opened)
    exams, arms, seeds = _num_exams(opened), len(config.arms), config.seeds_per_draw
    steps = arms * seeds * work.steps + work.searched + work.also + work.kept + seeds * work.judged
    a_draw = steps * measured.per_step
    processes = num_worth(config, config.num_draws * arms, a_draw / arms) if shared else 1
    seconds = math.ceil(config.num_draws * arms / processes) / arms * a_draw
    rounds = math.ceil(config.num_draws / processes)
    on_folds = config.adaptation == "better" and config.validation == "cross"
    adaptations = 1 + exams if on_folds else 1
    seconds += rounds * adaptations * config.adapt.steps * measured.per_adapt_step
    seconds += work.views * measured.per_view
    seconds += rounds * made * measured.per_made
    num_labelled = config.num_draws * len(opened.planned_draw.labelled)
    return seconds + num_labelled * measured.per_represented, processes


def _text(
    opened: OpenedRun, measured: _Measured, *, shared: bool, least: TransferConfig | None
) -> str:
    """The estimate.

    Args:
        least: the shortest run that a pilot may choose; None: nothing is open.
    """
    config, draw, made, work = opened.config, opened.planned_draw, opened.num_made, _Work.of(opened)
    arms, seeds = len(config.arms), config.seeds_per_draw
    num_students = config.num_students * arms
    seconds, processes = _seconds(opened, measured, shared=shared)
    disk = work.views * measured.row_bytes + num_students * 4 * measured.student_bytes
    disk += config.num_draws * measured.made_bytes
    draws = counted(config.num_draws, "draw") + (f" x {seeds} seeds" if seeds > 1 else "")
    students = f"{draws} x {counted(arms, 'arm')}"
    how = f", {made} of them {opened.maker.how}" if opened.maker and made else ""
    teachers = "online" if opened.teachers else "none"
    if opened.teachers and config.teacher.outputs == "cached":
        each_draw = ", anew for every draw" if work.adapted else ""
        teachers = f"{counted(work.views, 'view')} to answer, each once{each_draw}"
    search = f", and {work.searched} steps per draw to search beta" if work.searched else ""
    search += f", {work.also} for the baseline's learning rate" if work.also else ""
    search += f", and {work.kept} on folds to judge the last stage" if work.kept else ""
    search += f", and {work.judged} on folds" if work.judged else ""
    each = f" in each of {processes} processes" if processes > 1 else ""
    images = f"{len(draw.labelled)} labelled, {len(draw.transfer)} transfer per draw{how}"
    rows = [
        ("students", f"{students}, {counted(work.steps, 'step')} each{search}"),
        ("images", images),
        ("teachers", teachers),
        time_row(seconds, f"on {opened.fabric.device}"),
        memory_row(measured.peak_bytes, each),
        disk_row(config.out, disk, "the run and its teacher cache"),
    ]
    if least is not None:
        few = replace(opened, config=least, plan=_plan(opened, least))
        seconds, _ = _seconds(few, measured, shared=shared)
        rows.append(("pilot", _pilot_text(few, seconds, _Work.of(few).views)))
    notes = [*average_notes(config, opened.plan.lengths(draw)), *size_notes(opened)]
    return estimate_text([*rows, *(("note", note) for note in notes)])


def _pilot_text(shortest: OpenedRun, seconds: float, views: int) -> str:
    """What a pilot may choose in place of the longest run, and how long it is itself."""
    config = shortest.config
    steps = most_pilot_steps(config.pilot.least_steps, config.pilot.most_steps,
                             len(config.pilot.rates))  # fmt: skip
    return (
        f"decides what is auto in up to {steps} steps; this is the longest run; the shortest, "
        f"{counted(config.num_draws, 'draw')} of "
        f"{shortest.plan.num_steps(shortest.planned_draw)} steps, takes about {duration(seconds)} "
        f"and {counted(views, 'view')}"
    )


def _num_exams(opened: OpenedRun) -> int:
    """How often a candidate is trained for a choice; 0 where nothing is chosen."""
    config, pool = opened.config, opened.pool
    asked = any(config.chooses.values()) and not spared_folds(config, pool)
    return num_exams(config, pool.splits, pool.draws[0]) if asked else 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
