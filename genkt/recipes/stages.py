"""The stages a transfer is made of: adapt a teacher, cache its outputs, train a student."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from genkt.data.cache import OutputStore
from genkt.methods.base import MethodOptions, Objective, TeacherShape
from genkt.methods.build import build_objective, parse_options
from genkt.models.backbone import Backbone
from genkt.recipes.data import Draw
from genkt.recipes.run_folder import StageLog
from genkt.recipes.session import Session, draw_seed
from genkt.training.batches import Batches
from genkt.training.loop import Record, Stage, train
from genkt.training.settings import TrainSettings
from genkt.training.teacher import cache_outputs
from genkt.types import Cost


@dataclass(frozen=True)
class TeacherSet:
    """The teachers of one draw: their cached outputs, or the models themselves when online."""

    models: tuple[Backbone, ...]
    stores: tuple[OutputStore, ...]
    online: bool

    @property
    def shapes(self) -> list[TeacherShape]:
        """What an objective must know of them."""
        return [TeacherShape(m.name, m.width, m.num_classes) for m in self.models]


def prepare_teachers(session: Session, draw: Draw, log: StageLog) -> tuple[TeacherSet, Cost]:
    """The teachers of a draw, adapted to its labels where asked for, outputs cached.

    Teachers that are not adapted are the same for every draw, and so is their cache.
    """
    cost = Cost()
    models = []
    for index, factory in enumerate(session.teachers):
        if session.adapt == "none":
            model = factory(None, draw_seed(draw, "teacher head"))
        else:
            model = factory(session.num_classes, draw_seed(draw, "teacher head"))
            directory = session.folder.cell(draw.index, f"teacher{index}")
            cost += adapt_teacher(session, draw, model, directory, log)
        models.append(model.freeze().to(session.fabric.device))
    online = session.config.teacher.outputs == "online"
    adapted = session.adapt != "none"
    home = session.folder.cell(draw.index, "cache") if adapted else session.cache_home
    stores = () if online else tuple(_cached(session, model, home) for model in models)
    return TeacherSet(tuple(models), stores, online), cost


def adapt_teacher(
    session: Session, draw: Draw, teacher: Backbone, directory: Path, log: StageLog
) -> Cost:
    """Train the teacher's new head, or all of it, on the draw's labels."""
    linear = session.adapt == "linear_probe"
    short = session.config.adapt
    settings = replace(session.config.train, steps=short.steps, lr=short.lr, ema=None, eval_every=0)
    cost, _ = train_stage(
        session, draw, "adapt", teacher, _supervised(session, teacher),
        session.batches(draw, settings, [teacher.transform], labelled_only=True),
        settings, directory, log, head_only=linear,
    )  # fmt: skip
    return cost


def _cached(session: Session, teacher: Backbone, home: Path) -> OutputStore:
    precision = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return cache_outputs(
        teacher,
        session.pool.images,
        session.views,
        home,
        dtype=session.config.cache_dtype,
        device=session.fabric.device,
        num_workers=session.workers,
        precision=precision[session.config.train.precision],  # type: ignore[arg-type]
    )


def train_stage(
    session: Session, draw: Draw, name: str, student: Backbone, objective: Objective,
    batches: Batches, settings: TrainSettings, directory: Path, log: StageLog,
    *, teachers: TeacherSet | None = None, head_only: bool = False,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Train ``student`` in place for one stage; an interrupted stage is continued."""
    online = teachers.models if teachers is not None and teachers.online else ()
    has_validation = "validation" in session.pool.splits.parts and name != "adapt"

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
    session: Session, draw: Draw, name: str, student: Backbone, num_steps: int, lr: float,
    directory: Path, log: StageLog,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Plain fine-tuning on the draw's labels."""
    settings = replace(session.config.train, steps=num_steps, lr=lr)
    return train_stage(
        session, draw, name, student, _supervised(session, student),
        session.batches(draw, settings, [student.transform], labelled_only=True),
        settings, directory, log,
    )  # fmt: skip


def distil(
    session: Session, draw: Draw, student: Backbone, options: MethodOptions,
    teachers: TeacherSet, directory: Path, log: StageLog,
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
    transforms = [student.transform]
    if teachers.online:
        transforms += [model.transform for model in teachers.models]
    batches = session.batches(draw, settings, transforms, teachers.stores, labelled_only=False)
    cost, curve = train_stage(
        session, draw, "distil", student, objective, batches, settings, directory, log,
        teachers=teachers,
    )  # fmt: skip
    return cost, curve, {name: value.cpu() for name, value in objective.artifacts().items()}


def distil_steps(session: Session, draw: Draw) -> int:
    """Optimizer steps of the distillation stage on this draw."""
    return session.config.train.num_steps(len(draw.transfer) or len(draw.labelled))


def _supervised(session: Session, model: Backbone) -> Objective:
    return build_objective(
        parse_options({"name": "stl"}), student_width=model.width, num_classes=session.num_classes
    )
