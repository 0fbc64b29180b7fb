"""What each image brings to the metric that choices go by: always defined, higher is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.classification import checked_probabilities, negative_log_likelihoods
from genkt.metrics.crossed import Array
from genkt.types import VALIDATED

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "nll"]
"""What choices go by."""

SHOWN: Mapping[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "nll": "likelihood",
}
"""What the reader calls a ``choice_share``."""


def choice_values(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating], metric: Metric
) -> NDArray[np.float32]:
    """[N] values whose mean is the metric, of the NLL its negative.

    Balanced accuracy and macro F1 are linearised around their value (infinitesimal jackknife), so
    that a class with a single image has values too; ``metric_values`` has what intervals need.
    Source: Efron, "The jackknife, the bootstrap and other resampling plans", 1982, chapter 6.

    Args:
        labels: [N] in 0..C-1.  probabilities: [N, C].

    Raises: UserError as ``classification_metrics``.
    """
    truth, shares = checked_probabilities(labels, probabilities)
    predicted = shares.argmax(axis=1)
    if metric == "accuracy":
        return np.asarray(predicted == truth, np.float32)
    if metric == "nll":
        return np.asarray(-negative_log_likelihoods(truth, shares), np.float32)
    return np.asarray(_linearised(truth, predicted, shares.shape[1], metric), np.float32)


def choice_share(values: NDArray[np.floating], metric: Metric) -> float:
    """The metric in 0..1, higher is better, from all its values.

    In place of the NLL exp(-NLL): the geometric mean of the true class's probability.
    """
    mean = float(np.mean(values, dtype=np.float64))
    return float(np.exp(mean)) if metric == "nll" else mean


def validation_key(metric: Metric) -> str:
    """The name of a ``choice_share`` on validation images, in curves and extras.

    >>> validation_key("accuracy"), validation_key("nll")
    ('validation_accuracy', 'validation_likelihood')
    """
    return VALIDATED + ("likelihood" if metric == "nll" else metric)


def shown_name(key: str) -> str:
    """What the reader calls the metric of a ``validation_key``.

    >>> shown_name("validation_macro_f1")
    'macro F1'
    """
    return next(name for metric, name in SHOWN.items() if validation_key(metric) == key)


def _linearised(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int, metric: Metric
) -> Array:
    """Of a mean over classes of hits / size, both sums over images.

    Recall is right / in truth. F1 is right / half of (in truth + predicted): an image adds a half
    to the size of its class, and a half to that of its answer.
    """
    hits = (predicted == truth).astype(np.float64)
    own, other = (1.0, 0.0) if metric == "balanced_accuracy" else (0.5, 0.5)
    right = np.bincount(truth, hits, num_classes)
    in_truth = np.bincount(truth, minlength=num_classes)
    size = own * in_truth + other * np.bincount(predicted, minlength=num_classes)
    there = in_truth > 0
    size = np.where(there, size, np.inf)  # a class without an image counts nowhere
    score = right / size
    mean = score.sum() / there.sum()
    change = (hits - own * score[truth]) / size[truth] - other * score[predicted] / size[predicted]
    return np.asarray(mean + len(truth) * change / there.sum())
