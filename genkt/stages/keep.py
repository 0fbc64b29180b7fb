"""Keeps the better student: the one before the last stage on labels, or the one after it.

The last stage of a recipe trains on few labels and can do harm. Both students are then scored on
images that neither learned from (``genkt.stages.cross_validation``). The later one stays unless it
is worse by more than one paired standard error (``genkt.metrics.choices.chosen``). The baseline has
the same choice, between its end and the place where the method's last stage begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.metrics.choice_values import SHOWN, Metric, choice_share
from genkt.models.backbone import Backbone
from genkt.stages.cross_validation import Exam, choose, exams_of, folds_fault
from genkt.stages.student_training import Facts, StudentTraining
from genkt.types import EARLIER, JUDGED, KEPT, LATER, Cost

KEEPING = "keep"
"""What folds cost that were trained for the choice."""

logger = logging.getLogger("genkt")

Judged = Literal["images", "folds"]
"""Where both students are scored; None: nowhere, and the later one stays."""

Both = Callable[[StudentTraining], tuple[Backbone, Backbone]]
"""Trains a fresh student of a fold: as it is before the last stage, and after it."""


def judged_on(config: TransferConfig, splits: Splits) -> Judged | None:
    """Where the settings and the data let the two students be compared."""
    if not config.keeps_better:
        return None
    if config.validation == "cross":
        return "folds"
    has_images = config.validation == "images" and splits.validation is not None
    return "images" if has_images else None


def keep_notes(config: TransferConfig, splits: Splits) -> list[str]:
    """What the user should know before the run, where nothing can judge the last stage."""
    if not config.keeps_better or judged_on(config, splits) is not None:
        return []
    return [
        "finetune.keep=better: there are no validation images, so nothing says whether the last "
        "stage does harm, and its student stays; give validation images or validation=cross, or "
        "decide by finetune.keep=always | never."
    ]


@dataclass(frozen=True)
class Keeper:
    """Decides between two students of one training.

    Args:
        on: where they are scored.
    """

    on: Judged | None

    def kept(
        self, training: StudentTraining, earlier: Backbone, later: Backbone, both: Both
    ) -> Backbone:
        """One of the two; why goes to the extras.

        On validation images each student of a draw decides for itself. Folds are trained for the
        draw's first one, and the others follow it.

        Args:
            training: that both belong to.
            both: see ``Both``; called with folds alone.
        """
        if self.on is None:
            return later
        known = training.known if self.on == "folds" else {}
        if KEPT not in known and training.exam is None and self._can_judge(training):
            known = self._judged(training, earlier, later, both)
        training.extras |= {k: v for k, v in known.items() if k == KEPT or k.startswith(JUDGED)}
        return earlier if known.get(KEPT) == EARLIER else later

    def _can_judge(self, training: StudentTraining) -> bool:
        draw = training.pool.draws[training.draw.index]
        return self.on == "images" or folds_fault(draw, training.images.folds) is None

    def _judged(
        self, training: StudentTraining, earlier: Backbone, later: Backbone, both: Both
    ) -> Facts:
        found: dict[str, list[NDArray[np.float32]]] = {LATER: [], EARLIER: []}

        def judge(exam: Exam) -> tuple[Sequence[NDArray[np.float32]], Cost]:
            first, last, cost = earlier, later, Cost()
            if exam.name:
                own = training.for_exam(exam, replayed=False)
                first, last = both(own)
                own.log.close()
                cost = sum(own.costs.values(), cost)
            for name, student in ((LATER, last), (EARLIER, first)):
                found[name].append(exam.images.judged(student))
            return [scores[-1] for scores in found.values()], cost

        pool, metric = training.pool, training.images.metric
        exams = exams_of(training.images, pool, pool.draws[training.draw.index])
        index, cost = choose(exams, judge, default=0)
        if cost.steps:
            training.costs[KEEPING] = cost
        facts: Facts = {KEPT: list(found)[index]}
        for name, scores in found.items():
            facts[f"{JUDGED}{name}"] = choice_share(np.concatenate(scores), metric)
        logger.info("%s, last stage: %s", training.log.place, kept_text(facts, self.on, metric))
        return facts


def kept_text(facts: Mapping[str, object], on: Judged | None, metric: Metric = "accuracy") -> str:
    """Which of the two students was kept, and why.

    >>> kept_text({"kept": "earlier", "validation.earlier": 0.591, "validation.later": 0.479},
    ...           "images")
    'before the last stage 59.1, after it 47.9 % of the validation images: kept the earlier student'
    """
    earlier, later = (100 * float(str(facts[f"{JUDGED}{name}"])) for name in (EARLIER, LATER))
    where = "held-out labelled" if on == "folds" else "validation"
    figure = "" if metric == "accuracy" else f"{SHOWN[metric]} "
    of = "of" if metric == "accuracy" else "on"
    return (
        f"{figure}before the last stage {earlier:.1f}, after it {later:.1f} % {of} the {where} "
        f"images: kept the {facts[KEPT]} student"
    )
