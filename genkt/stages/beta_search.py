"""Chooses a setting on held-out labels, without images made from held-out images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from genkt.data.images import ImageSet
from genkt.data.splits import holdout
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates, with_beta
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool
from genkt.runs.run_images import RunImages
from genkt.training.predictions import predict
from genkt.types import UNLABELLED, Cost

Trial = Callable[[Draw, Backbone, MethodOptions, str], Cost]
"""(draw, student to train, options, name) -> cost."""

FOLDER = "search"
"""Folder of the trials, in the folder of their student."""


def cost_name(stage: str) -> str:
    """The name of a search among the costs of its student."""
    return FOLDER if stage == "distil" else f"{FOLDER}-{stage}"


@dataclass(frozen=True)
class Choice:
    """The best of some values.

    Args:
        cost: of all trials.  num_held: labels that judged them.
    """

    value: float
    cost: Cost
    num_held: int


def best_value(
    images: RunImages, pool: Pool, draw: Draw, student: Backbone, candidates: Sequence[float],
    trial: Callable[[Draw, Backbone, float, str], Cost], prefix: str,
) -> Choice:  # fmt: skip
    """The candidate that does best on a held-out tenth of the labels, at least one of a class.

    Every candidate trains a copy of the student on the other labels, without what was synthesized
    from the held-out images. Best: most right answers, then lowest cross-entropy, then the smaller
    value. The student itself is trained on all labels afterwards.

    Args:
        trial: (draw, student to train, value, name) -> cost.
        prefix: of the names.
    """
    kept, held = holdout(draw.images.select(draw.labelled), 0.1, draw.seed, "beta")
    labels = np.full_like(draw.labels, UNLABELLED)
    labels[draw.labelled[kept]] = draw.labels[draw.labelled[kept]]
    part = replace(
        pool.without(draw, draw.labelled[held]), labels=labels, labelled=draw.labelled[kept]
    )
    unseen = draw.images.select(draw.labelled[held])
    total, scores = Cost(), []
    for value in candidates:
        learner = copy.deepcopy(student)
        total += trial(part, learner, value, f"{prefix}-{value:g}")
        accuracy, loss = _held_out_score(learner, unseen, images.fabric.device)
        scores.append((-accuracy, loss, value))
    return Choice(min(scores)[2], total, len(held))


def searched(
    images: RunImages, pool: Pool, draw: Draw, student: Backbone, options: MethodOptions,
    trial: Trial, name: str,
) -> Choice | None:  # fmt: skip
    """The best beta for ``beta=search``; None where there is nothing to search.

    Args:
        name: of the stage.
    """
    candidates = beta_candidates(options)
    if not candidates:
        return None

    def with_value(part: Draw, learner: Backbone, beta: float, trial_name: str) -> Cost:
        return trial(part, learner, with_beta(options, beta), trial_name)

    return best_value(images, pool, draw, student, candidates, with_value, cost_name(name))


def rate_candidates(lr: float, number: int) -> tuple[float, ...]:
    """So many learning rates around one, half a decade apart, the nearest first.

    >>> [round(rate, 5) for rate in rate_candidates(0.01, 4)]
    [0.01, 0.00316, 0.03162, 0.001]
    """
    exponents = [(-1) ** (place % 2) * ((place + 1) // 2) for place in range(number)]
    return tuple(lr * 10 ** (exponent / 2) for exponent in exponents)


def _held_out_score(
    student: Backbone, images: ImageSet, device: torch.device
) -> tuple[float, float]:
    """(accuracy, cross-entropy) on training images, under the fixed view."""
    dataset = ViewDataset(images, FIXED_VIEW, [student.transform])
    prediction = predict(student, dataset, device=device)
    log_probabilities = prediction.probabilities.clamp_min(1e-12).log()
    return prediction.accuracy, cross_entropy(log_probabilities, prediction.labels).item()
