"""Opening a run: its data and models, checked against the settings before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from genkt.config.data_settings import CarvedData
from genkt.config.recipe_settings import (
    BASELINE,
    DistilStage,
    IrfRecipe,
    LinearProbeStage,
    TrainingStage,
)
from genkt.config.set_settings import SavedSet
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.disk import cache_home
from genkt.io import derive_seed, home_path
from genkt.methods.build import METHODS, beta_candidates, build_objective, with_beta
from genkt.models.backbone import Backbone
from genkt.runs.missing_parts import how_to_get
from genkt.runs.pool import Pool, build_pool, load_splits, stored_views
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog
from genkt.runs.session import (
    ModelFactory,
    Session,
    module_factory,
    shape_of,
    student_factory,
    teacher_factories,
)
from genkt.settings.objects import GivenObject, object_in
from genkt.training.fabric import make_fabric
from genkt.training.rows import rows_fault
from genkt.transfer_set.composition import TransferSet
from genkt.transfers.own_sets import check_generators
from genkt.types import UserError

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class Given:
    """Objects given in Python instead of settings; None: the settings count."""

    data: Splits | None = None
    student: Backbone | None = None
    teachers: Sequence[Backbone] | None = None
    transfer_set: TransferSet | None = None

    @classmethod
    def of(cls, config: TransferConfig) -> Given:
        """The objects that stand in the settings."""
        data, found = config.data, config.transfer_set
        teachers = [object_in(model) for model in config.teacher.models]
        return cls(
            data=object_in(data.root) if isinstance(data, CarvedData) else None,
            student=object_in(config.student.model),
            teachers=None if None in teachers else teachers,
            transfer_set=object_in(found.root) if isinstance(found, SavedSet) else None,
        )

    def found_by_name(self, config: TransferConfig) -> bool:
        """Whether another process can load all of it by the settings."""
        models = self.student is None and self.teachers is None and self.transfer_set is None
        root = config.data.root if isinstance(config.data, CarvedData) else None
        return models and not isinstance(root, GivenObject)


def open_session(config: TransferConfig, folder: RunFolder, given: Given) -> Session:
    """Read the data and check that models, method and data fit, before any training.

    Raises:
        UserError: the first thing that does not fit.
    """
    if config.smoke:
        raise UserError("smoke: expected false; only genkt transfer on the command line makes one")
    splits = load_splits(config.data, config.seed, given.data)
    if config.adaptation == "better" and "validation" not in splits.parts:
        raise UserError(
            "teacher.adapt: better compares on validation images, the data have none: "
            f"{how_to_get('validation', config.data, splits)}, or take teacher.adapt=linear_probe"
        )
    if "test" not in splits.parts:
        raise UserError(f"no test images: {how_to_get('test', config.data, splits)}")
    if config.train.select == "best" and "validation" not in splits.parts:
        raise UserError(
            "train.select: best needs validation images, the data have none: "
            f"{how_to_get('validation', config.data, splits)}, or take train.select=last"
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
        cache_home=home_path(config.cache) if config.cache else cache_home(),
        views=stored_views(config),
        student=student,
        teachers=teachers,
    )
    check_generators(session)
    session.log.enabled = session.fabric.is_global_zero and not config.dry_run
    _check_views(session)
    _check_fit(session, student, teachers)
    return session


def reopened(config: TransferConfig, plain: dict[str, Any]) -> Session:
    """The session of a run that another process has opened, and said all about."""
    before, logger.disabled = logger.disabled, True
    try:
        return open_session(config, RunFolder(config.out, plain, overwrite=False), Given())
    finally:
        logger.disabled = before


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
        settings = stage.settings(config.train)
        num_rows = settings.batch_size // settings.accumulate
        if num_rows < objective.min_batch:
            parts = f" in each of {settings.accumulate} micro-batches (train.accumulate)"
            raise UserError(
                f"{_batch_key(name, stage)}: method {options.name} needs at least "
                f"{objective.min_batch} rows{parts if settings.accumulate > 1 else ''}, "
                f"got {num_rows}"
            )
    _check_batch_norm(session, model, built)


def _check_batch_norm(session: Session, student: Backbone, teachers: Sequence[Backbone]) -> None:
    """Refuse every training whose micro-batches leave a batch norm one value a channel."""
    config, train = session.config, session.config.train
    found: list[tuple[str, Backbone, int]] = []
    if config.adaptation in ("fine_tune", "better", "irf") and config.adapt.steps:
        found += [("adapt.batch_size", teacher, config.adapt.batch_size) for teacher in teachers]
    if isinstance(config.recipe, IrfRecipe):
        found.append(("recipe.batch_size", student, config.recipe.batch_size))
    else:
        if BASELINE in config.arms:
            found.append(("train.batch_size", student, train.batch_size))
        stages = config.recipe.trained if config.main_arm != BASELINE else {}
        found += [
            (_batch_key(name, stage), student, stage.settings(train).batch_size)
            for name, stage in stages.items()
            if not isinstance(stage, LinearProbeStage)  # its batch norm stands still
        ]
    faults = [
        rows_fault(
            key, model, replace(train, batch_size=size), session.fabric.world_size, train.accumulate
        )
        for key, model, size in found
    ]
    if told := [fault for fault in dict.fromkeys(faults) if fault]:
        raise UserError("\n".join(told))


def _batch_key(name: str, stage: TrainingStage) -> str:
    """The setting that says how many rows a step of a stage has."""
    return "train.batch_size" if stage.batch_size is None else f"recipe.stages.{name}.batch_size"


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
