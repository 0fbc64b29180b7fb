"""Chooses a number of a training on images that its candidates did not learn from."""

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


def cost_name(stage: str) -> str:
    """The name of a search among the costs of its student."""
    return SEARCH if stage == "distil" else f"{SEARCH}-{stage}"


def best_value(
    training: StudentTraining, candidates: Sequence[float],
    trial: Callable[[StudentTraining, Backbone, float, str], Cost], prefix: str, default: int,
) -> tuple[float, Cost]:  # fmt: skip
    """The best of some numbers (``genkt.stages.cross_validation``), and the cost of all trials.

    Every candidate trains a copy of the student as it is now.

    Args:
        trial: (training that it belongs to, student to train, number, name) -> cost.
        prefix: of the names.
        default: place of the one that wins ties.
    """

    def judge(exam: Exam) -> tuple[Sequence[NDArray[np.float32]], Cost]:
        own, scores = training.for_exam(exam), []
        total = Cost()
        for value in candidates:
            learner = copy.deepcopy(own.student)
            total += trial(own, learner, value, f"{prefix}-{value:g}")
            scores.append(own.images.judged(learner))
        own.log.close()
        return scores, sum(own.costs.values(), total)

    pool = training.pool
    exams = exams_of(training.images, pool, pool.draws[training.draw.index])
    index, cost = choose(exams, judge, default)
    return candidates[index], cost


def searched(
    training: StudentTraining, options: MethodOptions, trial: Trial, name: str
) -> tuple[MethodOptions, Cost]:
    """Replace ``beta=search`` by a number of its grid.

    The default, which wins ties, is the (lower) middle of the grid.

    Args:
        name: of the stage.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return options, Cost()

    def with_value(own: StudentTraining, student: Backbone, beta: float, name: str) -> Cost:
        return trial(own, student, with_beta(options, beta), name)

    middle = (len(candidates) - 1) // 2
    beta, cost = best_value(training, candidates, with_value, cost_name(name), middle)
    return with_beta(options, beta), cost


def rate_candidates(lr: float, number: int) -> tuple[float, ...]:
    """So many learning rates around one, half a decade apart, the nearest first.

    >>> [round(rate, 5) for rate in rate_candidates(0.01, 4)]
    [0.01, 0.00316, 0.03162, 0.001]
    """
    exponents = [(-1) ** (place % 2) * ((place + 1) // 2) for place in range(number)]
    return tuple(lr * 10 ** (exponent / 2) for exponent in exponents)
