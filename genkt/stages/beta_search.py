"""Chooses a setting on images that its candidates did not learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.stages.cross_validation import Exam, choose, exams_of
from genkt.stages.student_training import SEARCH, StudentTraining
from genkt.types import Cost


def cost_name(stage: str) -> str:
    """The name of a search among the costs of its student."""
    return SEARCH if stage == "distil" else f"{SEARCH}-{stage}"


@dataclass(frozen=True)
class Choice:
    """The value of some that was taken, and the cost of all trials."""

    value: float
    cost: Cost


def best_value(
    training: StudentTraining, candidates: Sequence[float], default: int,
    trial: Callable[[StudentTraining, Backbone, float, str], Cost], prefix: str,
) -> Choice:  # fmt: skip
    """The candidate that does best on exams (``genkt.stages.cross_validation``).

    Every candidate trains a copy of the student as it is now. It itself is trained afterwards.

    Args:
        default: number of the candidate that wins ties.
        trial: (training that it belongs to, student to train, value, name) -> cost.
        prefix: of the names.
    """

    def judge(exam: Exam) -> tuple[Sequence[NDArray[np.float32]], Cost]:
        own, total = training.for_exam(exam), Cost()
        scores = []
        for value in candidates:
            learner = copy.deepcopy(own.student)
            total += trial(own, learner, value, f"{prefix}-{value:g}")
            scores.append(own.images.predictions(learner, "test").scores)
        own.log.close()
        return scores, sum(own.costs.values(), total)

    pool = training.pool
    exams = exams_of(training.images, pool, pool.draws[training.draw.index])
    number, cost = choose(exams, judge, default)
    return Choice(candidates[number], cost)


def searched(
    training: StudentTraining, options: MethodOptions,
    trial: Callable[[StudentTraining, Backbone, MethodOptions, str], Cost], name: str,
) -> Choice | None:  # fmt: skip
    """The best beta for ``beta=search``; None where there is nothing to search.

    The default is the (lower) middle of the grid.

    Args:
        trial: (training that it belongs to, student to train, options, name) -> cost.
        name: of the stage.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return None

    def with_value(own: StudentTraining, learner: Backbone, beta: float, trial_name: str) -> Cost:
        return trial(own, learner, with_beta(options, beta), trial_name)

    middle = (len(candidates) - 1) // 2
    return best_value(training, candidates, middle, with_value, cost_name(name))


def rate_candidates(lr: float, number: int) -> tuple[float, ...]:
    """So many learning rates around one, half a decade apart, the nearest first.

    >>> [round(rate, 5) for rate in rate_candidates(0.01, 4)]
    [0.01, 0.00316, 0.03162, 0.001]
    """
    exponents = [(-1) ** (place % 2) * ((place + 1) // 2) for place in range(number)]
    return tuple(lr * 10 ** (exponent / 2) for exponent in exponents)
