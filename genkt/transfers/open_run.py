"""Opening a run: its data and models, checked against the settings before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from genkt.config.stage_settings import DistilStage
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.data.views import ViewSpec
from genkt.disk import cache_home
from genkt.io import derive_seed, home_path
from genkt.methods.build import METHODS, beta_candidates, build_objective, with_beta
from genkt.models.backbone import Backbone
from genkt.runs.missing_parts import how_to_get
from genkt.runs.model_factories import (
    ModelFactory,
    student_factory,
    teacher_factories,
)
from genkt.runs.pool import Pool, build_pool, load_splits, stored_views
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog
from genkt.stages.build_stages import StageBuilder
from genkt.stages.cross_validation import choice_notes
from genkt.stages.keep import keep_notes
from genkt.stages.recipe_plan import plan_of
from genkt.stages.teacher_set import shape_of
from genkt.training.fabric import make_fabric
from genkt.training.rows import rows_fault
from genkt.transfers.generators import Generators
from genkt.transfers.make_sets import maker_of
from genkt.transfers.phases import OpenedRun
from genkt.types import UserError

logger = logging.getLogger("genkt")


def open_run(config: TransferConfig, folder: RunFolder, splits: Splits | None = None) -> OpenedRun:
    """Read the data and check that models, method and data fit, before any training.

    Args:
        splits: the data, if they are read already.

    Raises:
        UserError: the first setting, model or data set that does not fit.
    """
    if config.smoke:
        raise UserError(
            "smoke: expected false; only genkt transfer on the command line can do a smoke run"
        )
    splits = load_splits(config.data, config.seed, splits)
    _check_parts(config, splits)
    student = student_factory(config.student)
    teachers = teacher_factories(config.teacher) if config.needs else []
    fabric = make_fabric(config.train.precision, config.device)
    pool = _pool(config, splits)
    home = home_path(config.cache) if config.cache else cache_home()
    generators = Generators(fabric.device)
    for name in config.generators:
        generators.load(name)

    def alone(part: str) -> AbstractContextManager[float]:
        return folder.alone(part, first=fabric.is_global_zero)

    maker = maker_of(config, folder, home, generators, alone)
    if maker is not None:
        pool = replace(pool, notes=(*pool.notes, *_told(maker.notes(splits))))
        maker.check(built_in=config.data.built_in)
    views = stored_views(config)
    enabled = fabric.is_global_zero and not config.dry_run
    _check_views(config, views, teachers)
    _check_fit(config, len(splits.classes), fabric.world_size, student, teachers)
    return OpenedRun(
        config=config,
        folder=folder,
        log=RunLog(folder.path, enabled=enabled),
        cache_home=home,
        fabric=fabric,
        pool=pool,
        views=views,
        student=student,
        teachers=tuple(teachers),
        plan=plan_of(StageBuilder(config, splits, views, len(teachers))),
        generators=generators,
        maker=maker,
    )


def reopened(config: TransferConfig, plain: dict[str, Any]) -> OpenedRun:
    """A run that another process has opened and reported on."""
    before, logger.disabled = logger.disabled, True
    try:
        return open_run(config, RunFolder(config.out, plain, overwrite=False))
    finally:
        logger.disabled = before


def _check_parts(config: TransferConfig, splits: Splits) -> None:
    """Refuse data without a part that the settings need."""
    no_validation = config.validation == "images" and "validation" not in splits.parts
    if config.adaptation == "better" and no_validation:
        raise UserError(
            "teacher.adapt: better compares on validation images, but the data have none: "
            f"{how_to_get('validation', config.data, splits)}, or validation=cross, or "
            "teacher.adapt=linear_probe"
        )
    if "test" not in splits.parts:
        raise UserError(f"no test images: {how_to_get('test', config.data, splits)}")
    if config.train.select == "best" and no_validation:
        raise UserError(
            "train.select: best needs validation images, but the data have none: "
            f"{how_to_get('validation', config.data, splits)}, or set train.select=last"
        )


def _pool(config: TransferConfig, splits: Splits) -> Pool:
    pool = build_pool(replace(config, transfer_set=config.read_set), splits)
    notes = (*choice_notes(config, pool), *keep_notes(config, splits))
    pool = replace(pool, notes=(*pool.notes, *notes))
    _told(pool.notes)
    return pool


def _told(notes: Sequence[str]) -> Sequence[str]:
    """The notes, after they were logged."""
    for note in notes:
        logger.warning(note)
    return notes


def _check_views(config: TransferConfig, views: ViewSpec, teachers: Sequence[ModelFactory]) -> None:
    if views.num_views == 0 and teachers and config.teacher.outputs == "cached":
        raise UserError(
            "data.views.num_views=0 makes fresh views every epoch, which a cache cannot hold: "
            "give a number of stored views, or teacher.outputs=online"
        )


def _check_fit(
    config: TransferConfig, num_classes: int, world_size: int, student: ModelFactory,
    teachers: Sequence[ModelFactory],
) -> None:  # fmt: skip
    """Build every model and the objective once, so that errors show before training."""
    seed = derive_seed(config.seed, "check")
    model = student(num_classes, seed)
    heads = None if config.adaptation == "none" else num_classes
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
            num_classes=num_classes,
            teachers=[shape_of(each) for each in chosen],
        )
        settings = stage.settings(config.train)
        num_rows = settings.batch_size // settings.accumulate
        if num_rows < objective.min_batch:
            parts = f" in each of {settings.accumulate} micro-batches (train.accumulate)"
            raise UserError(
                f"{stage.batch_key(name)}.batch_size: method {options.name} needs at least "
                f"{objective.min_batch} rows{parts if settings.accumulate > 1 else ''}, "
                f"got {num_rows}"
            )
    _check_batch_norm(config, world_size, model, built)


def _check_batch_norm(
    config: TransferConfig, world_size: int, student: Backbone, teachers: Sequence[Backbone]
) -> None:
    """Refuse micro-batches that give a batch norm a single value per channel."""
    train = config.train
    found: list[tuple[str, Backbone, int]] = []
    if config.adapts_by_training and config.adapt.steps:
        found += [("adapt.batch_size", teacher, config.adapt.batch_size) for teacher in teachers]
    found += [(key, student, size) for key, size in config.batch_sizes]
    faults = [
        rows_fault(key, model, replace(train, batch_size=size), world_size, train.accumulate)
        for key, model, size in found
    ]
    if told := [fault for fault in dict.fromkeys(faults) if fault]:
        raise UserError("\n".join(told))


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
