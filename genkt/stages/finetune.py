"""Stages that learn from the labels alone: everything, or the classifier."""

from __future__ import annotations

from dataclasses import replace

from genkt.config.recipe_settings import FinetuneStage, LinearProbeStage
from genkt.runs.session import Session
from genkt.stages.course import Course
from genkt.stages.irf import SETTINGS, train_setting
from genkt.stages.train_stage import train_supervised
from genkt.training.train_settings import TrainSettings


def finetune_stage(course: Course, name: str, stage: FinetuneStage) -> None:
    """Fine-tune the student on the labels, or (IRF) its head first on re-represented images."""
    session = course.session
    settings = finetune_settings(session, stage)
    settings = replace(settings, steps=settings.num_steps(len(course.draw.labelled)))
    if not settings.steps:
        return
    if (stage.how or session.config.finetune.recipe) == "irf":
        prefix = "" if name == "finetune" else f"{name}-"
        costs, records = train_setting(
            session, course.draw, course.student, SETTINGS["irf"], settings, course.directory,
            course.log, prefix=prefix,
        )  # fmt: skip
        first, *others = costs.items()
        course.add(*first, records)
        for other, cost in others:
            course.add(other, cost, [])
        return
    _train(course, name, settings, head_only=False)


def linear_probe_stage(course: Course, name: str, stage: LinearProbeStage) -> None:
    """Train the classifier alone; the backbone stands still."""
    settings = probe_settings(course.session, stage)
    if settings.num_steps(len(course.draw.labelled)):
        _train(course, name, settings, head_only=True)


def finetune_settings(session: Session, stage: FinetuneStage) -> TrainSettings:
    """As ``train``, with the steps and the learning rate of ``finetune``."""
    config = session.config
    base = replace(config.train, steps=config.finetune.steps, lr=config.finetune.lr)
    return stage.settings(base)


def probe_settings(session: Session, stage: LinearProbeStage) -> TrainSettings:
    """As ``train``, with the steps of ``finetune`` and the head's learning rate of ``irf``."""
    config = session.config
    base = replace(config.train, steps=config.finetune.steps, lr=config.irf.head_lr)
    return stage.settings(base)


def _train(course: Course, name: str, settings: TrainSettings, *, head_only: bool) -> None:
    cost, records = train_supervised(
        course.session, course.draw, name, course.student, settings, course.directory / name,
        course.log, head_only=head_only,
    )  # fmt: skip
    course.add(name, cost, records)
