"""The training stages of a transfer: one function each, all through the one loop."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genkt.methods.base import MethodOptions, Objective
from genkt.methods.build import build_objective, parse_options
from genkt.models.backbone import Backbone
from genkt.recipes.data import Draw
from genkt.recipes.run_folder import StageLog
from genkt.recipes.session import Session, TeacherSet, draw_seed
from genkt.training.batches import Batches
from genkt.training.loop import train
from genkt.training.settings import TrainSettings
from genkt.training.stage import Record, Stage
from genkt.types import Cost


def train_stage(
    session: Session, draw: Draw, name: str, student: Backbone, objective: Objective,
    batches: Batches, settings: TrainSettings, directory: Path, log: StageLog,
    *, teachers: TeacherSet | None = None, head_only: bool = False,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Train ``student`` in place for one stage; an interrupted stage is continued."""
    online = teachers.models if teachers is not None and teachers.online else ()
    has_validation = "validation" in session.pool.splits.parts and not name.startswith("adapt")

    def accuracy(model: Backbone) -> float:
        return session.predictions(model, "validation").accuracy

    stage = Stage(
        name=name,
        student=student,
        objective=objective,
        batches=batches,
        settings=settings,
        directory=directory,
        seed=draw_seed(draw, name),
        online=online,
        evaluate=accuracy if has_validation else None,
        log=log,
        head_only=head_only,
    )
    return train(session.fabric, stage)


def train_supervised(
    session: Session, draw: Draw, name: str, student: Backbone, settings: TrainSettings,
    directory: Path, log: StageLog, *, head_only: bool = False,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Training on the draw's labels: all of the model, or its head alone."""
    return train_stage(
        session, draw, name, student, _supervised(session, student),
        session.batches(draw, settings, [student.transform], labelled_only=True),
        settings, directory, log, head_only=head_only,
    )  # fmt: skip


def distil(
    session: Session, draw: Draw, student: Backbone, options: MethodOptions,
    teachers: TeacherSet, directory: Path, log: StageLog, *, name: str = "distil",
) -> tuple[Cost, list[Record], dict[str, Tensor]]:  # fmt: skip
    """The method itself, on labelled and transfer images together; also what it learned."""
    settings = session.config.train
    objective = build_objective(
        options,
        student_width=student.width,
        num_classes=session.num_classes,
        teachers=teachers.shapes,
        seed=draw_seed(draw, "objective"),
    )
    objective.check_labels(torch.from_numpy(draw.labels))
    if not teachers.online:
        row = draw.labelled[:1] * max(1, session.views.num_views)
        objective.check_teachers([store.rows(row) for store in teachers.stores])
    transforms = [student.transform]
    if teachers.online:
        transforms += [model.transform for model in teachers.models]
    batches = session.batches(draw, settings, transforms, teachers.stores, labelled_only=False)
    cost, curve = train_stage(
        session, draw, name, student, objective, batches, settings, directory, log,
        teachers=teachers,
    )  # fmt: skip
    return cost, curve, {name: value.cpu() for name, value in objective.artifacts().items()}


def distil_steps(session: Session, draw: Draw) -> int:
    """Optimizer steps of the distillation stage on this draw."""
    settings = session.config.train
    if not len(draw.transfer):
        return settings.num_steps(len(draw.labelled), settings.batch_size)
    transfer_per_batch = settings.batch_size - settings.labelled_per_batch
    return settings.num_steps(len(draw.transfer), transfer_per_batch)


def _supervised(session: Session, model: Backbone) -> Objective:
    return build_objective(
        parse_options({"name": "stl"}), student_width=model.width, num_classes=session.num_classes
    )
