"""Stages that train all of the student except its classifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from genkt.methods.base import Objective
from genkt.models.backbone import Backbone
from genkt.runs.notices import warn
from genkt.stages.student_training import StudentTraining
from genkt.training.batches import Batches
from genkt.training.loop import train
from genkt.training.stage import Stage
from genkt.training.train_settings import TrainSettings


def train_body(
    training: StudentTraining,
    name: str,
    objective: Objective,
    batches: Batches,
    settings: TrainSettings,
) -> None:
    """Train the student's backbone; an interrupted stage is continued.

    The classifier is frozen, and still random if no earlier stage trained it. So there is no
    validation: its answers would say nothing about the backbone.
    """
    if settings.select == "best":
        warn(
            training.log, name,
            "trains no classifier, so it is not validated: its last weights count, not the best",
        )  # fmt: skip
    stage = Stage(
        name=name,
        student=training.student,
        objective=objective,
        batches=batches,
        settings=settings,
        directory=training.directory / name,
        seed=training.draw.seed_for(name),
        log=training.log,
    )
    with _still_classifier(training.student):
        cost, records = train(training.images.fabric, stage)
    training.add(name, cost, records)


@contextmanager
def _still_classifier(student: Backbone) -> Iterator[None]:
    """Freeze the classifier (no gradient, so no weight decay) within this block."""
    parameters = student.classifier_parameters()
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, was_trainable in zip(parameters, before, strict=True):
            parameter.requires_grad_(was_trainable)
