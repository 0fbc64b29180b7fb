"""Stages in which the student's own sure answers on transfer images become labels."""

from __future__ import annotations

import copy
import csv
import io
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genkt.config.recipe_settings import PseudoLabelStage
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.io import write_text
from genkt.methods.shapes import Shapes
from genkt.methods.supervised import Supervised, SupervisedOptions
from genkt.models.backbone import Backbone
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.runs.session import Session
from genkt.stages.course import Course
from genkt.stages.distil import distil_steps
from genkt.stages.train_stage import train_stage
from genkt.training.predictions import predict
from genkt.training.train_settings import TrainSettings
from genkt.types import UNLABELLED, Prediction

logger = logging.getLogger("genkt")

ANSWERS = "answers.csv"
"""In the folder of a round: the student's answer on every transfer image, and how sure it was."""

_COLUMNS = ("image", "class", "probability")


@dataclass(frozen=True)
class StudentAnswers:
    """A student's answers.

    Args:
        rows: [N] of the draw's images, ascending.
        classes: [N] the most probable class of each.
        probabilities: [N] of that class, 0..1.
    """

    rows: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    def label(self, draw: Draw, threshold: float) -> Draw:
        """The draw with the sure answers as labels, and without the transfer images that have none.

        Args:
            threshold: least probability of an answer that counts.
        """
        sure = self.probabilities >= threshold
        labels = draw.labels.copy()
        labels[self.rows[sure]] = self.classes[sure]
        return replace(draw.without_transfer(self.rows[~sure]), labels=labels)


def pseudo_label_stage(course: Course, name: str, stage: PseudoLabelStage) -> None:
    """Answer, label and train, round after round.

    Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
    Neural Networks". Differs from the paper: labels are renewed from round to round, not from
    step to step; answers below the threshold do not count; and what labelled and pseudo-labelled
    rows weigh follows from ``train.labelled_per_batch``.
    """
    session, student = course.session, course.student.to(course.session.fabric.device)
    settings = _round_settings(session, course.draw, stage)
    if not settings.steps:
        return
    before = copy.deepcopy(student.model.state_dict())
    for number in range(stage.rounds):
        own = f"{name}-{number}"
        answers = _answers(session, course.draw, student, course.directory / own / ANSWERS)
        draw = answers.label(course.draw, stage.threshold)
        course.extras[f"labelled.{own}"] = _tell(session, draw.index, own, answers, stage.threshold)
        if stage.restart:
            student.model.load_state_dict(before)
        # No teacher has seen these images, so their views are as fresh as those of a fine-tuning.
        batches = replace(session, views=session.label_views).batches(
            draw, settings, [student.transform], labelled_only=False
        )
        objective = Supervised(SupervisedOptions("stl"), Shapes(student.width, session.num_classes))
        cost, records = train_stage(
            session, draw, own, student, objective, batches, settings, course.directory / own,
            course.log,
        )  # fmt: skip
        course.add(own, cost, records)


def pseudo_label_images(session: Session, draw: Draw, stage: PseudoLabelStage) -> int:
    """Images that the student sees in all rounds."""
    settings = _round_settings(session, draw, stage)
    assert settings.steps is not None
    return stage.rounds * settings.steps * settings.batch_size


def _round_settings(session: Session, draw: Draw, stage: PseudoLabelStage) -> TrainSettings:
    """Of one round; epochs are over all transfer images, however many get a label."""
    settings = stage.settings(session.config.train)
    return replace(settings, steps=distil_steps(draw, settings))


def _answers(session: Session, draw: Draw, student: Backbone, path: Path) -> StudentAnswers:
    """The student's answers on all transfer images without a label, under their fixed view.

    They are kept in a file: a round that is continued, and every process, reads the same.
    """
    rows = np.unique(draw.transfer[draw.labels[draw.transfer] == UNLABELLED])
    if not path.is_file():
        dataset = ViewDataset(draw.images.select(rows), FIXED_VIEW, [student.transform])
        found = predict(student, dataset, device=session.fabric.device, num_workers=session.workers)
        if session.fabric.is_global_zero:
            _write(path, found, session.pool.splits.classes)
    session.fabric.barrier()
    return _read(path, rows, session.pool.splits.classes)


def _write(path: Path, found: Prediction, names: tuple[str, ...]) -> None:
    probabilities = found.probabilities.max(dim=1).values
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for image, number, probability in zip(
        found.ids, found.predicted.tolist(), probabilities.tolist(), strict=True
    ):
        writer.writerow([image, names[number], repr(probability)])
    write_text(path, table.getvalue())


def _read(path: Path, rows: np.ndarray, names: tuple[str, ...]) -> StudentAnswers:
    with open(path, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    numbers = {name: number for number, name in enumerate(names)}
    return StudentAnswers(
        rows,
        np.array([numbers[line["class"]] for line in lines], dtype=np.int64),
        np.array([float(line["probability"]) for line in lines]),
    )


def _tell(session: Session, draw: int, name: str, answers: StudentAnswers, threshold: float) -> int:
    """Say how many images get a label; that none does is no error.

    Returns:
        How many.
    """
    count = int((answers.probabilities >= threshold).sum())
    logger.info(
        "draw %d, %s: %d of %d transfer images labelled (probability >= %g)",
        draw, name, count, len(answers.rows), threshold,
    )  # fmt: skip
    if not count:
        warn(
            session, draw, name,
            f"none of {len(answers.rows)} transfer images has an answer of probability >= "
            f"{threshold:g}, so this round trains on the labelled images alone; a lower threshold "
            "or a student that learned longer would help",
        )  # fmt: skip
    return count
