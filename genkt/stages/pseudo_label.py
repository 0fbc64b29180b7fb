"""Stages that use the student's confident answers on transfer images as labels."""

from __future__ import annotations

import copy
import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.io import write_text
from genkt.methods.shapes import Shapes
from genkt.methods.supervised import Supervised, SupervisedOptions
from genkt.models.backbone import Backbone
from genkt.runs.notices import warn
from genkt.runs.pool import Draw
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.stages.distil import distil_steps
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import StudentTraining
from genkt.stages.train_stage import train_stage
from genkt.training.predictions import predict
from genkt.training.train_settings import TrainSettings
from genkt.types import UNLABELLED, Prediction

logger = logging.getLogger("genkt")

ANSWERS = "answers.csv"
"""File of a round: the student's answer on every transfer image, and its probability."""

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
        """The draw with confident answers as labels, and without the other transfer images.

        Args:
            threshold: least probability of an answer that counts.
        """
        sure = self.probabilities >= threshold
        labels = draw.labels.copy()
        labels[self.rows[sure]] = self.classes[sure]
        return replace(draw.without_transfer(self.rows[~sure]), labels=labels)


@dataclass(frozen=True)
class PseudoLabelling(RecipeStage):
    """Answer, label and train, round after round.

    Source: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
    Neural Networks". Differs from the paper: labels are renewed from round to round, not from
    step to step; answers below the threshold do not count; and ``train.labelled_per_batch`` sets
    the weight of labelled and pseudo-labelled rows.

    Args:
        settings: as ``train``, with what the stage says; of one round.
        rounds, threshold, restart: see ``PseudoLabelStage``.
    """

    settings: TrainSettings
    rounds: int
    threshold: float
    restart: bool

    def run(self, training: StudentTraining) -> None:
        images = training.images
        student = training.student.to(images.fabric.device)
        settings = self._round_settings(training.draw)
        if not settings.steps:
            return
        before = copy.deepcopy(student.model.state_dict())
        for number in range(self.rounds):
            own = f"{self.name}-{number}"
            path = training.directory / own / ANSWERS
            answers = _answers(images, training.draw, student, path)
            draw = answers.label(training.draw, self.threshold)
            training.extras[f"labelled.{own}"] = _tell(training.log, own, answers, self.threshold)
            if self.restart:
                student.model.load_state_dict(before)
            # As no teacher has seen these images, their views are fresh, as in a fine-tuning.
            batches = images.batches(
                draw, settings, [student.transform], labelled_only=False, fresh_views=True
            )
            shapes = Shapes(student.width, images.num_classes)
            objective = Supervised(SupervisedOptions("stl"), shapes)
            cost, records = train_stage(
                images, draw, own, student, objective, batches, settings,
                training.directory / own, training.log,
            )  # fmt: skip
            training.add(own, cost, records)

    def num_images(self, draw: Draw) -> int:
        return self.rounds * distil_steps(draw, self.settings) * self.settings.batch_size

    def _round_settings(self, draw: Draw) -> TrainSettings:
        """Steps of one round; epochs are over all transfer images, however many get a label."""
        return replace(self.settings, steps=distil_steps(draw, self.settings))


def _answers(images: RunImages, draw: Draw, student: Backbone, path: Path) -> StudentAnswers:
    """The student's answers on all transfer images without a label, under their fixed view.

    Images that can no longer be read have none.

    They are kept in a file: a round that is continued, and every process, reads the same.
    """
    rows = np.unique(draw.transfer[draw.labels[draw.transfer] == UNLABELLED])
    fabric, names = images.fabric, images.splits.classes
    if not path.is_file():
        dataset = ViewDataset(draw.images.select(rows), FIXED_VIEW, [student.transform])
        found = predict(
            student, dataset, device=fabric.device, num_workers=images.num_workers,
            lost=images.lost,
        )  # fmt: skip
        if fabric.is_global_zero:
            _write(path, found, names)
    fabric.barrier()
    return _read(path, {draw.images.ids[row]: row for row in rows.tolist()}, names)


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


def _read(path: Path, rows: Mapping[str, int], names: tuple[str, ...]) -> StudentAnswers:
    with open(path, encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    numbers = {name: number for number, name in enumerate(names)}
    return StudentAnswers(
        np.array([rows[line["image"]] for line in lines], dtype=np.int64),
        np.array([numbers[line["class"]] for line in lines], dtype=np.int64),
        np.array([float(line["probability"]) for line in lines]),
    )


def _tell(log: StageLog, name: str, answers: StudentAnswers, threshold: float) -> int:
    """Log how many images get a label; none is not an error.

    Returns:
        How many.
    """
    count = int((answers.probabilities >= threshold).sum())
    logger.info(
        "%s, %s: %d of %d transfer images labelled (probability >= %g)",
        log.draw_text, name, count, len(answers.rows), threshold,
    )  # fmt: skip
    if not count:
        warn(
            log, name,
            f"none of {len(answers.rows)} transfer images has an answer of probability >= "
            f"{threshold:g}, so this round trains on the labelled images alone; a lower threshold "
            "or a student that learned longer would help",
        )  # fmt: skip
    return count
