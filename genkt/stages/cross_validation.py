"""Chooses between candidates: on validation images, or on folds of the labelled images.

An exam is a set of images that candidates are asked, and what they learn from before it. With
``validation=images`` there is one: candidates learn from all labels and are asked the validation
images. With ``validation=cross`` there is one for each fold: they learn from the other labels of
the draw, without images made from those of the fold, and are asked the fold. Either way each
candidate has one score an image, and ``genkt.metrics.choices.chosen`` takes one of them. What wins
is then trained on all labels. Test images are not in an exam, so no choice can read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genkt.config.transfer_settings import KEEP, NumFolds, TransferConfig
from genkt.data.folds import Folds, stratified_folds
from genkt.data.splits import Splits
from genkt.metrics.choices import chosen
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_images import RunImages
from genkt.types import UNLABELLED, Cost, UserError, counted

FOLD = "fold"
"""Start of the names of folds."""


@dataclass(frozen=True)
class Exam:
    """One set of questions.

    Args:
        name: of the fold, for folders and logs; "" where candidates learn from all labels.
        draw: what they learn from.
        images: as those of the run, but the "test" part are the images that they are asked.
    """

    name: str
    draw: Draw
    images: RunImages


Judge = Callable[[Exam], tuple[Sequence[NDArray[np.floating]], Cost]]
"""Exam -> [N] scores of every candidate on its N images, and the cost of all of them."""


def choose(exams: Sequence[Exam], judge: Judge, default: int) -> tuple[int, Cost]:
    """The candidate that is best over all exams; the default wins ties (``chosen``).

    Args:
        default: its number.

    Returns:
        The number of the candidate, and the cost of all exams.
    """
    scores, total = [], Cost()
    for exam in exams:
        found, cost = judge(exam)
        scores.append(found)
        total += cost
    return chosen([np.concatenate(each) for each in zip(*scores, strict=True)], default), total


def exams_of(images: RunImages, pool: Pool, draw: Draw) -> tuple[Exam, ...]:
    """Where the candidates of a draw are compared.

    Args:
        draw: for its first student.

    Raises:
        UserError: labels that cannot be divided (``stratified_folds``).
    """
    splits = images.splits
    if images.has_validation:
        return (Exam("", draw, replace(images, splits=replace(splits, test=splits.validation))),)
    held = [draw.labelled[fold] for fold in folds_of(draw, images.folds).held]
    return tuple(
        Exam(
            f"{FOLD}{number}",
            without_labels(pool, draw, rows),
            replace(images, splits=replace(splits, test=draw.images.select(rows))),
        )
        for number, rows in enumerate(held)
    )


def folds_of(draw: Draw, wanted: NumFolds) -> Folds:
    """The folds of a draw's labelled images, as indices into them."""
    return stratified_folds(draw.images.select(draw.labelled), wanted, draw.seed)


def folds_fault(draw: Draw, wanted: NumFolds) -> UserError | None:
    """Why the labelled images of a draw cannot be divided; None where they can."""
    try:
        folds_of(draw, wanted)
    except UserError as error:
        return error
    return None


def without_labels(pool: Pool, draw: Draw, held: np.ndarray) -> Draw:
    """The draw without some labelled rows, and without images that were made from them."""
    kept = np.setdiff1d(draw.labelled, held)
    labels = np.full_like(draw.labels, UNLABELLED)
    labels[kept] = draw.labels[kept]
    return replace(pool.without(draw, held), labels=labels, labelled=kept)


def num_exams(config: TransferConfig, splits: Splits, draw: Draw) -> int:
    """How many trainings a candidate takes."""
    if config.validation == "images" and "validation" in splits.parts:
        return 1
    return len(folds_of(draw, config.folds).held)


def choice_notes(config: TransferConfig, pool: Pool) -> list[str]:
    """What the user should know about the choices of a run, before it starts.

    Raises:
        UserError: labels of a draw that cannot be divided into the folds that a choice needs.
    """
    splits, notes = pool.splits, []
    unread = splits.validation is not None and config.validation != "images"
    if unread and splits.validation is not None:
        carved = config.data.splits_off_validation
        hint = "; data.validation_fraction=0 splits none off" if carved else ""
        notes.append(
            f"The {counted(len(splits.validation), 'validation image', 'is')} not read: "
            f"validation={config.validation}{hint}."
        )
    asked = any(config.chooses.values())
    if config.validation == "cross" and not asked:
        notes.append("validation=cross: these settings choose nothing, so there are no folds.")
    if spared := spared_folds(config, pool):
        notes.append(f"{KEEP}: the last stage stays, as nothing can judge it ({spared}).")
    elif _on_folds(config, splits):
        found = [folds_of(draw, config.folds).note for draw in pool.draws]
        notes += [note for note in dict.fromkeys(found) if note]
    return notes


def spared_folds(config: TransferConfig, pool: Pool) -> UserError | None:
    """Why there are no folds where only ``finetune.keep=better``, a default, asks for them.

    The run goes on without that choice; None: there are folds, or something else needs them.
    """
    if _demanded(config) or not _on_folds(config, pool.splits):
        return None
    faults = (folds_fault(draw, config.folds) for draw in pool.draws)
    return next((fault for fault in faults if fault is not None), None)


def _demanded(config: TransferConfig) -> bool:
    """Whether a setting that was typed asks for a choice."""
    return any(asked for setting, asked in config.chooses.items() if setting != KEEP)


def _on_folds(config: TransferConfig, splits: Splits) -> bool:
    """Whether folds of the labels judge something."""
    if config.validation == "cross":
        return any(config.chooses.values())
    return _demanded(config) and splits.validation is None


def chosen_on(config: TransferConfig, splits: Splits, draw: Draw) -> str:
    """What choices of a run were made on, for the reader."""
    if config.validation == "images" and "validation" in splits.parts:
        return "the validation images"
    return f"{num_exams(config, splits, draw)} folds of the labelled images"
