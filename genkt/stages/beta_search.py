"""Chooses a method's beta on images that its candidates did not learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.stages.cross_validation import Exam, choose, exams_of
from genkt.stages.student_training import SEARCH, StudentTraining
from genkt.types import Cost

Trial = Callable[[StudentTraining, Backbone, MethodOptions, str], Cost]
"""(training that it belongs to, student to train, options, name) -> cost."""


def searched(
    training: StudentTraining, options: MethodOptions, trial: Trial, name: str
) -> tuple[MethodOptions, Cost]:
    """Replace ``beta=search`` by a number of its grid (``genkt.stages.cross_validation``).

    Every candidate trains a copy of the student as it is before the stage. The default, which wins
    ties, is the (lower) middle of the grid.

    Args:
        name: of the stage.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return options, Cost()
    prefix = SEARCH if name == "distil" else f"{SEARCH}-{name}"

    def judge(exam: Exam) -> tuple[Sequence[NDArray[np.float32]], Cost]:
        own, scores = training.for_exam(exam), []
        total = Cost()
        for beta in candidates:
            learner = copy.deepcopy(own.student)
            total += trial(own, learner, with_beta(options, beta), f"{prefix}-{beta:g}")
            scores.append(own.images.predictions(learner, "test").scores)
        own.log.close()
        return scores, sum(own.costs.values(), total)

    pool = training.pool
    exams = exams_of(training.images, pool, pool.draws[training.draw.index])
    index, cost = choose(exams, judge, (len(candidates) - 1) // 2)
    return with_beta(options, candidates[index]), cost
