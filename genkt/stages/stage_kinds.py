"""What every kind of stage does, and how many images its students see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from genkt.config.recipe_settings import (
    AdaptStage,
    DistilStage,
    FinetuneStage,
    LinearProbeStage,
    PretrainStage,
    PseudoLabelStage,
    SelfSupervisedStage,
    SoupStage,
    StagedRecipe,
)
from genkt.runs.pool import Draw
from genkt.runs.session import Session
from genkt.stages.course import Course
from genkt.stages.distil import distil_images, distil_stage, soup_stage
from genkt.stages.finetune import (
    finetune_settings,
    finetune_stage,
    linear_probe_stage,
    probe_settings,
)
from genkt.stages.pretrain_backbone import pretrain_images, pretrain_stage
from genkt.stages.pseudo_label import pseudo_label_images, pseudo_label_stage
from genkt.stages.self_supervised_stage import self_supervised_images, self_supervised_stage
from genkt.training.train_settings import TrainSettings

ACCURACY = "accuracy."
"""Start of the extras that hold the test accuracy after a stage."""


@dataclass(frozen=True)
class Kind:
    """One kind of stage.

    Args:
        run: (course, name of the stage, its settings): does it.
        num_images: (session, draw, its settings): images that the student sees in it.
        on_labels: whether it learns from the given labels alone.
        trains_classifier: whether it does, so that the student's answers count.
    """

    run: Callable[[Course, str, Any], None]
    num_images: Callable[[Session, Draw, Any], int]
    on_labels: bool = False
    trains_classifier: bool = True


def _adapt(course: Course, name: str, stage: AdaptStage) -> None:
    """The draw's teachers, now rather than when they are first needed."""
    if course.session.teachers:
        course.teachers()


def _finetuned(session: Session, draw: Draw, stage: FinetuneStage) -> int:
    return _labelled_images(draw, finetune_settings(session, stage))


def _probed(session: Session, draw: Draw, stage: LinearProbeStage) -> int:
    return _labelled_images(draw, probe_settings(session, stage))


def _labelled_images(draw: Draw, settings: TrainSettings) -> int:
    return settings.num_steps(len(draw.labelled)) * settings.batch_size


KINDS: Mapping[type, Kind] = {
    AdaptStage: Kind(_adapt, lambda *_: 0),
    DistilStage: Kind(distil_stage, distil_images),
    SoupStage: Kind(soup_stage, distil_images),
    FinetuneStage: Kind(finetune_stage, _finetuned, on_labels=True),
    LinearProbeStage: Kind(linear_probe_stage, _probed, on_labels=True),
    PseudoLabelStage: Kind(pseudo_label_stage, pseudo_label_images),
    SelfSupervisedStage: Kind(
        self_supervised_stage, self_supervised_images, trains_classifier=False
    ),
    PretrainStage: Kind(pretrain_stage, pretrain_images, trains_classifier=False),
}


def run_stages(course: Course, recipe: StagedRecipe) -> float | None:
    """All stages of a recipe, in order; the test accuracy after each goes to the extras.

    Returns:
        Test accuracy (0..1) before the labels had the last word; None where they had no such word
        or were all there was.
    """
    before: float | None = None
    last: str | None = None
    for name, stage in recipe.stages.items():
        kind, done = KINDS[type(stage)], course.num_steps
        accuracy = None
        if last is not None:
            accuracy = course.session.predictions(course.student, "test").accuracy
        kind.run(course, name, stage)
        if course.num_steps > done:
            if accuracy is not None:
                course.extras[f"{ACCURACY}{last}"] = accuracy
            before = accuracy if kind.on_labels else None
            last = name if kind.trains_classifier else None
    return before


def baseline_steps(session: Session, draw: Draw, recipe: StagedRecipe) -> int:
    """Steps of plain fine-tuning that see as many images as all stages of the recipe together."""
    images = sum(
        KINDS[type(stage)].num_images(session, draw, stage) for stage in recipe.stages.values()
    )
    return math.ceil(images / session.config.train.batch_size)
