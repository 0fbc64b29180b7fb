"""Held-out transfer images: how well a student agrees with its teachers, without any label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_images import RunImages
from genkt.stages.cross_validation import Exam, folds_of, without_labels
from genkt.stages.student_training import StudentTraining
from genkt.training.lost_images import readable_rows
from genkt.training.probe import OutputRows, ProbedStore

MOST_HELD = 512
"""More images tell little more, and every one is missing from the pilot's training."""

_LEAST = 50
_PART = 5


def held_exam(images: RunImages, pool: Pool, draw: Draw) -> Exam:
    """A draw without some images, and these as what its student is asked; nobody labelled them.

    They are a fifth of the transfer images, at most 512, by the draw's seed. Where there are fewer
    than 50 of them, they are a fold of the labelled images, which the student does not learn from.
    Transfer images that can no longer be read are counted as lost; nobody is asked for them.

    Raises:
        UserError: neither can be held out.
    """
    others = np.setdiff1d(draw.transfer, draw.labelled)
    if len(others) >= _LEAST:
        number = min(MOST_HELD, len(others) // _PART)
        generator = np.random.default_rng(derive_seed(draw.seed, "held out"))
        rows = np.sort(generator.choice(others, number, replace=False))
        learns_from = draw.without_transfer(rows)
        rows = readable_rows(draw.images, rows, images.lost)
    else:
        rows = draw.labelled[folds_of(draw, images.folds).held[0]]
        learns_from = without_labels(pool, draw, rows)
    asked = _labelled(images, draw.images.select(rows), np.zeros(len(rows), np.int64))
    return Exam("", learns_from, asked)


def _labelled(images: RunImages, asked: ImageSet, labels: NDArray[np.int64]) -> RunImages:
    """The images of a run where the "test" part are others; there is no validation part."""
    test = asked.replaced(labels=labels, classes=images.splits.classes)
    splits = replace(images.splits, validation=None, test=test)
    return replace(images, splits=splits)


def asked_by_teachers(training: StudentTraining, draw: Draw) -> StudentTraining:
    """The training with the teachers' answers as the labels of its "test" images.

    So the scores of its predictions are agreement with the teachers, under the fixed view. Several
    teachers answer by the mean of their probabilities. One without a head for the classes answers
    by a linear probe on the labels that the student learns from.

    Args:
        training: its "test" images are rows of ``draw``.
    """
    test = training.images.splits.parts["test"]
    place = {sample_id: row for row, sample_id in enumerate(draw.images.ids)}
    rows = np.array([place[sample_id] for sample_id in test.ids], dtype=np.int64)
    probabilities = [each.softmax(dim=1) for each in _logits(training, draw, rows)]
    labels = sum(probabilities[1:], probabilities[0]).argmax(dim=1).numpy()
    return replace(training, images=_labelled(training.images, test, labels))


def _logits(training: StudentTraining, draw: Draw, rows: NDArray[np.int64]) -> list[Tensor]:
    """[N, C] of every teacher."""
    every, teachers = training.all_teachers, training.teachers()
    found = []
    for index in range(len(every)):
        model = teachers.models[index]
        store = None if teachers.online else teachers.stores[index]
        if teachers.adapted[index] == "none" and not every.settings.teaches_logits:
            probed = every.probed(draw, index, training.log)
            model, store = probed.model, probed.store
        found.append(_answers(training, draw, model, store, rows))
    return found


def _answers(
    training: StudentTraining, draw: Draw, model: Backbone, store: OutputRows | None,
    rows: NDArray[np.int64],
) -> Tensor:  # fmt: skip
    """[N, C] of one teacher: of a head that was fitted to its kept features, or of its own."""
    output = training.all_teachers.fixed_outputs(draw, model, rows).rows(rows)
    logits = store.head(output.features) if isinstance(store, ProbedStore) else output.logits
    assert isinstance(logits, Tensor)
    return logits.float()
