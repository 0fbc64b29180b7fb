"""The main job: method and baseline on several label draws, then report and exported student."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from genkt.data.composition import TransferSet
from genkt.data.splits import Splits
from genkt.generative.precision import threads
from genkt.io import atomic_path, cache_home, derive_seed, fingerprint_ids
from genkt.methods.build import METHODS, beta_candidates, build_objective, with_beta
from genkt.models.backbone import Backbone
from genkt.recipes.cell import Cell, run_cell
from genkt.recipes.config import IN_PYTHON, TransferConfig
from genkt.recipes.data import Pool, build_pool, load_splits, stored_views
from genkt.recipes.distance import upstream_distance
from genkt.recipes.generated import check_generators, make_images, needed_generators
from genkt.recipes.present import report_data
from genkt.recipes.recipe_config import DistilStage
from genkt.recipes.run_folder import RunFolder, RunLog, log_to_file
from genkt.recipes.session import (
    ModelFactory,
    Session,
    module_factory,
    shape_of,
    student_factory,
    teacher_factories,
)
from genkt.recipes.side_by_side import (
    num_finished,
    show_finished,
    threads_each,
    train_others,
)
from genkt.report.build import ReportData, build_report, text_summary
from genkt.training.fabric import make_fabric
from genkt.types import UserError

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class TransferResult:
    """What a transfer gives back.

    Args:
        student: the exported student, in evaluation mode on the CPU.
        report: everything in report.json, as an object.
        out: the run folder.
        accuracy: mean test accuracy of the method over the draws, 0..1.
    """

    student: Backbone
    report: ReportData
    out: Path
    accuracy: float


@dataclass(frozen=True)
class Given:
    """Objects given in Python instead of settings; None: the settings count."""

    data: Splits | None = None
    student: Backbone | None = None
    teachers: Sequence[Backbone] | None = None
    transfer_set: TransferSet | None = None

    def found_by_name(self, config: TransferConfig) -> bool:
        """Whether another process can load all of it by the settings."""
        models = self.student is None and self.teachers is None and self.transfer_set is None
        return models and getattr(config.data, "root", None) != IN_PYTHON


def run_transfer(
    config: TransferConfig, plain: dict[str, Any], *, command: str, given: Given | None = None
) -> TransferResult:
    """Run, continue, or (where it has ended) re-open the transfer that ``config`` describes.

    Args:
        config: the settings.  plain: the same, as written to ``config.yaml``.
        command: how to repeat it, for the report.
        given: Python objects in place of the data, the student, the teachers or the set that
            ``transfer_set=saved`` names.

    Raises:
        UserError: every mistake in settings, data or models, before anything is trained.
    """
    started = time.perf_counter()
    folder = RunFolder(config.out, plain, overwrite=config.overwrite)
    session = open_session(config, folder, given or Given())
    if session.fabric.is_global_zero:
        folder.claim(command, _inputs(session, given or Given()))
    session.fabric.barrier()
    finished = folder.finished
    handler = log_to_file(folder.path / "train.log" if session.fabric.is_global_zero else None)
    try:
        make_images(session)
        upstream_distance(session)
        session.release_generators()
        shared = (given or Given()).found_by_name(config)
        cells = _run_cells(session, plain, shared=shared)
        chosen = _chosen_draw(session, cells)
        student = _restored(session, cells[config.main_arm][chosen])
        if session.fabric.is_global_zero and not finished:
            _export(session, student, cells[config.main_arm][chosen])
        data = report_data(session, cells, chosen, command)
        if session.fabric.is_global_zero and not finished:
            build_report(data, folder.path)
            folder.end()
            logger.info("finished in %.0f s", time.perf_counter() - started)
        session.fabric.barrier()
    finally:
        logger.removeHandler(handler)
        handler.close()
    accuracies = [cell.result.accuracy for cell in cells[config.main_arm]]
    return TransferResult(student, data, folder.path, sum(accuracies) / len(accuracies))


def _inputs(session: Session, given: Given) -> dict[str, str]:
    """Fingerprints of the images, and of models given in Python: the settings only name them."""
    pool, parts = session.pool, session.pool.splits.parts
    found = {"images": fingerprint_ids(pool.images.ids)}
    for name in sorted(parts.keys() & {"train", "validation", "test"}):
        labels = map(str, parts[name].labels.tolist())
        found[f"{name} images"] = fingerprint_ids([*parts[name].ids, *parts[name].classes, *labels])
    for name in needed_generators(session.config):
        found[f"generator {name}"] = session.generator(name).fingerprint()
    if given.student is not None:
        found["student"] = given.student.fingerprint()
    for index, teacher in enumerate(given.teachers or ()):
        found[f"teacher {index}"] = teacher.fingerprint()
    shared = pool.draws[0].parts
    if shared or given.transfer_set is not None:
        found["shares"] = ", ".join(f"{part.share} of {len(part.rows)}" for part in shared)
    return found


def open_session(config: TransferConfig, folder: RunFolder, given: Given) -> Session:
    """Read the data and check that models, method and data fit, before any training.

    Raises:
        UserError: the first thing that does not fit.
    """
    if config.smoke:
        raise UserError("smoke: expected false; only genkt transfer on the command line makes one")
    splits = given.data or load_splits(config.data, config.seed)
    if config.adaptation == "better" and "validation" not in splits.parts:
        raise UserError(
            "teacher.adapt: better compares on validation images, the data have none; give a val "
            "folder, data.validation_fraction above 0, or adapt=linear_probe"
        )
    if "test" not in splits.parts:
        raise UserError("no test images: give a test folder, or data.test_fraction above 0")
    if config.train.select == "best" and "validation" not in splits.parts:
        raise UserError(
            "train.select: best needs validation images, the data have none; give a val folder, "
            "data.validation_fraction above 0, or train.select=last"
        )
    student = module_factory(given.student) if given.student else student_factory(config.student)
    teachers = (
        [module_factory(model) for model in given.teachers]
        if given.teachers is not None
        else teacher_factories(config.teacher)
    )
    if not config.needs:
        teachers = []
    session = Session(
        config=config,
        fabric=make_fabric(config.train.precision, config.device),
        pool=_pool(config, splits, given.transfer_set),
        folder=folder,
        log=RunLog(folder.path),
        cache_home=Path(config.cache).expanduser() if config.cache else cache_home(),
        views=stored_views(config),
        student=student,
        teachers=teachers,
    )
    check_generators(session)
    session.log.enabled = session.fabric.is_global_zero and not config.dry_run
    _check_views(session)
    _check_fit(session, student, teachers)
    return session


def _pool(config: TransferConfig, splits: Splits, given: TransferSet | None) -> Pool:
    pool = build_pool(replace(config, transfer_set=config.read_set), splits, given)
    for note in pool.notes:
        logger.warning(note)
    return pool


def _check_views(session: Session) -> None:
    teachers_cached = session.teachers and session.config.teacher.outputs == "cached"
    if session.views.num_views == 0 and teachers_cached:
        raise UserError(
            "data.views.num_views=0 makes fresh views every epoch, which a cache cannot hold: "
            "give a number of stored views, or teacher.outputs=online"
        )


def _check_fit(session: Session, student: ModelFactory, teachers: Sequence[ModelFactory]) -> None:
    """Build every model and the objective once, so that a misfit shows before training."""
    config = session.config
    seed = derive_seed(config.seed, "check")
    model = student(session.num_classes, seed)
    heads = None if config.adaptation == "none" else session.num_classes
    built = [factory(heads, seed) for factory in teachers]
    for name, stage in config.distil_stages.items():
        options = stage.method or config.method
        if beta_candidates(options):
            options = with_beta(options, 1.0)
        chosen = _chosen(built, name, stage)
        if METHODS[options.name].objective.needs_frozen:
            chosen = [model, *chosen]
        objective = build_objective(
            options,
            student_width=model.width,
            student_map_width=model.map_width,
            num_classes=session.num_classes,
            teachers=[shape_of(each) for each in chosen],
        )
        num_rows = stage.settings(config.train).batch_size
        if num_rows < objective.min_batch:
            key = "train" if stage.batch_size is None else f"recipe.stages.{name}"
            raise UserError(
                f"{key}.batch_size: method {options.name} needs at least {objective.min_batch} "
                f"rows, got {num_rows}"
            )


def _chosen(teachers: Sequence[Backbone], name: str, stage: DistilStage) -> list[Backbone]:
    """The teachers that a stage names by their numbers, or all."""
    if not isinstance(stage.teachers, list):
        return list(teachers)
    if wrong := [index for index in stage.teachers if not 0 <= index < len(teachers)]:
        raise UserError(
            f"recipe.stages.{name}.teachers: expected numbers of the {len(teachers)} teachers, "
            f"counted from 0, got {wrong[0]}"
        )
    return [teachers[index] for index in stage.teachers]


def _run_cells(session: Session, plain: dict[str, Any], *, shared: bool) -> dict[str, list[Cell]]:
    """Every arm on every draw; arms of one draw share labels, order, views and first weights.

    Args:
        shared: other processes can load all that the run needs.
    """
    config = session.config
    cells: dict[str, list[Cell]] = {arm: [] for arm in config.arms}
    show = None if session.fabric.is_global_zero else True
    if not shared and config.executor.name == "pool":
        logger.warning(
            "executor=pool: other processes cannot load objects given in Python; this one does "
            "the work"
        )
    with (
        threads(threads_each(config) if shared else None),
        tqdm(total=config.draws * len(config.arms), desc="students", disable=show) as bar,
    ):
        for index in range(config.draws):
            if index == 1 and shared:
                seconds = sum(_own_seconds(found[0]) for found in cells.values())
                train_others(config, plain, seconds, bar)
            trained = train_draw(session, index, lambda: show_finished(config, bar))
            for arm, cell in trained.items():
                cells[arm].append(cell)
    return cells


_IN_COMMON = ("teachers", "synthesize", "retrieve", "re-represent")
"""Stages that may have worked for all draws."""


def _own_seconds(cell: Cell) -> float:
    """What its training took, whenever that was."""
    return sum(cost.seconds for name, cost in cell.stages.items() if name not in _IN_COMMON)


def train_draw(session: Session, index: int, told: Callable[[], None]) -> dict[str, Cell]:
    """Every arm on one draw; what is there is read, and what another process is at is waited for.

    Args:
        index: place of the draw in the run, 0 the first.
        told: called after each student.
    """
    draw, cells, config = session.pool.draws[index], {}, session.config
    missing = num_finished(config, [index]) < len(config.arms)
    first = session.fabric.is_global_zero  # the other processes of a launch follow it
    with session.folder.draw_lock(index) if first and missing else contextlib.nullcontext():
        for arm in config.arms:
            cells[arm] = run_cell(session, draw, arm)
            told()
    return cells


def reopened(config: TransferConfig, plain: dict[str, Any]) -> Session:
    """The session of a run that another process has begun, with the images it has made."""
    before, logger.disabled = logger.disabled, True  # the run has said it all
    try:
        session = open_session(config, RunFolder(config.out, plain, overwrite=False), Given())
        make_images(session)
    finally:
        logger.disabled = before
    session.release_generators()
    return session


def _chosen_draw(session: Session, cells: dict[str, list[Cell]]) -> int:
    """The draw whose student is exported: best on validation where there is such a part."""
    results = [cell.result for cell in cells[session.config.main_arm]]
    return max(
        range(len(results)),
        key=lambda i: (float(results[i].extras.get("validation_accuracy", 0.0)), -i),
    )


def _restored(session: Session, cell: Cell) -> Backbone:
    student = session.student(session.num_classes, 0)
    student.model.load_state_dict(cell.weights)
    return student.eval()


def _export(session: Session, student: Backbone, cell: Cell) -> None:
    """The student as timm loads it, and its checkpoints at the top of the run folder."""
    student.export(session.folder.path / "student", session.pool.splits.classes)
    source = session.folder.cell(cell.result.draw, cell.result.arm)
    ended = [stage for stage in cell.stages if (source / stage / "last.safetensors").is_file()]
    if not ended:
        return
    stage = ended[-1]
    for name in ("last", "best"):
        path = source / stage / f"{name}.safetensors"
        if path.is_file():
            target = session.folder.path / "checkpoints" / f"{name}.safetensors"
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)


def describe(result: TransferResult) -> str:
    """What is printed at the end: table, where the report is, and code that loads the student."""
    return "\n".join(
        [
            text_summary(result.report),
            "",
            f"report: {result.out / 'report.html'}",
            "",
            result.report.snippet,
        ]
    )
