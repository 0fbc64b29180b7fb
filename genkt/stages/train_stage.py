"""One training stage of a run; all training uses the same loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genkt.methods.base import Objective, WeightRule
from genkt.methods.build import build_objective, parse_options
from genkt.metrics.choice_values import choice_share, validation_key
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.training.batches import Batches
from genkt.training.loop import train
from genkt.training.stage import Record, Stage
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost


def train_stage(
    images: RunImages, draw: Draw, name: str, student: Backbone, objective: Objective,
    batches: Batches, settings: TrainSettings, directory: Path, log: StageLog,
    *, online: Sequence[Backbone] = (), head_only: bool = False, validate: bool = True,
    momentum: WeightRule | None = None, snapshot: int = 0, steady: bool = False,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Train ``student`` in place for one stage; an interrupted stage is continued.

    Args:
        online: teachers that run on every batch.  head_only: the classifier alone is trained.
        validate: measure it on the validation images, if there are any.
        momentum: the slow weights that the method returns.
        snapshot: the step after which the weights are kept in a file; 0: none.
        steady: the rate does not fall, so that the stage can go on for more steps.
    """

    def measured(model: Backbone) -> float:
        return choice_share(images.judged(model, "validation"), images.metric)

    stage = Stage(
        name=name,
        student=student,
        objective=objective,
        batches=batches,
        settings=settings,
        directory=directory,
        seed=draw.seed_for(name),
        online=online,
        evaluate=measured if validate and images.has_validation else None,
        measured=validation_key(images.metric),
        log=log,
        head_only=head_only,
        momentum=momentum,
        snapshot=snapshot,
        is_steady=steady,
    )
    return train(images.fabric, stage)


def train_supervised(
    images: RunImages, draw: Draw, name: str, student: Backbone, settings: TrainSettings,
    directory: Path, log: StageLog, *, head_only: bool = False, validate: bool = True,
    snapshot: int = 0,
) -> tuple[Cost, list[Record]]:  # fmt: skip
    """Train on the draw's labels: all of the model, or only its head."""
    objective = build_objective(
        parse_options({"name": "stl"}), student_width=student.width, num_classes=images.num_classes
    )
    return train_stage(
        images, draw, name, student, objective,
        images.batches(draw, settings, [student.transform], labelled_only=True),
        settings, directory, log, head_only=head_only, validate=validate, snapshot=snapshot,
    )  # fmt: skip
