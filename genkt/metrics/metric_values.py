"""What each test image brings to a metric: values whose mean is the metric, for intervals.

Scores and losses are means over images; of the others these are jackknife pseudo-values
(``jackknife.py``), made from what single images change, so that a thousand classes cost no more
memory than ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.metrics.classification import checked_probabilities, negative_log_likelihoods
from genkt.metrics.crossed import Array
from genkt.metrics.jackknife import centred_pseudo_values

ClassScore = Callable[[Array, Array, Array], Array]
"""(right, in truth, predicted) of some classes -> the score of each."""


def recall(right: Array, truth: Array, predicted: Array) -> Array:
    """Whose mean over classes is balanced accuracy."""
    return np.asarray(right / truth)


def f1(right: Array, truth: Array, predicted: Array) -> Array:
    """Whose mean over classes is macro F1."""
    return np.asarray(2 * right / (truth + predicted))


CLASS_SCORES: Mapping[str, ClassScore] = {"balanced_accuracy": recall, "macro_f1": f1}


def metric_values(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Array]:
    """Metric -> [N] values, for those that the images determine.

    Balanced accuracy and macro F1 need two images of every class that has one, AUROC two classes
    with two images each. Calibration error has none: it is not smooth enough.

    Args:
        labels: [N] in 0..C-1.  probabilities: [N, C].

    Raises: UserError as ``classification_metrics``.
    """
    truth, shares = checked_probabilities(labels, probabilities)
    predicted = shares.argmax(axis=1)
    found = {
        "accuracy": (predicted == truth).astype(np.float64),
        "nll": negative_log_likelihoods(truth, shares),
    }
    counts = np.bincount(truth, minlength=shares.shape[1])
    if counts[counts > 0].min() < 2:
        return found
    for name, score in CLASS_SCORES.items():
        found[name] = class_mean_values(truth, predicted, score)
    if len(counts) == 2 and counts.min() > 1:
        found["auroc"] = auroc_values(truth, shares[:, 1])
    return found


def class_mean_values(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], score: ClassScore
) -> Array:
    """[N] pseudo-values of the mean of a score over the classes that have an image.

    The same as ``pseudo_values`` of ``class_counts``. An image counts in two classes at most, the
    true one and the answer, so only their scores change without it.
    """
    classes, truth = np.unique(labels, return_inverse=True)
    # Answers of a class without an image count in no score: they share a number beyond the others.
    beyond = len(classes)
    answer = np.searchsorted(classes, predicted)
    answer = np.where(np.isin(predicted, classes), answer, beyond)
    hits = (truth == answer).astype(np.float64)
    one, none = np.ones_like(hits), np.zeros_like(hits)
    right, in_truth, answers = (
        np.asarray(np.bincount(of, weights, beyond + 1), np.float64)
        for of, weights in ((truth, hits), (truth, one), (answer, one))
    )

    def changed(of: NDArray[np.int64], hit: Array, true: Array, said: Array) -> Array:
        """What a class loses without the image."""
        now = score(right[of], in_truth[of], answers[of])
        without = score(right[of] - hit, in_truth[of] - true, answers[of] - said)
        return np.asarray(now - without)

    with np.errstate(invalid="ignore", divide="ignore"):
        lost = changed(truth, hits, one, hits)
        other = changed(answer, none, none, one)
    lost += np.where((hits == 0) & (answer < beyond), other, 0)
    whole = score(right[:-1], in_truth[:-1], answers[:-1]).mean(keepdims=True)
    return centred_pseudo_values(whole, whole - lost / beyond)


def auroc_values(labels: NDArray[np.int64], scores: Array) -> Array:
    """[N] pseudo-values of the area under the ROC curve; ties count half.

    Without an image all its pairs go: what it wins against the other class is its rank among all
    less its rank in its own.
    Source: DeLong et al., "Comparing the areas under two or more correlated ROC curves", 1988.

    Args:
        labels: [N] 1 for the class that should have the higher scores, else 0; two of each.
    """
    from scipy.stats import rankdata

    positive = labels == 1
    ranks = rankdata(scores)
    wins = np.empty_like(ranks)
    for own in (positive, ~positive):
        wins[own] = ranks[own] - rankdata(scores[own])
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    wins[~positive] = num_positive - wins[~positive]
    total = wins[positive].sum(keepdims=True)
    pairs = (num_positive - positive) * (num_negative - ~positive)
    return centred_pseudo_values(total / (num_positive * num_negative), (total - wins) / pairs)
