"""How good the answers of a classifier are, beyond accuracy: by class, as probabilities, ranked.

Labels and answers that are averaged over classes leave out classes without an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.metrics.calibration import Reliability, reliability
from genkt.metrics.crossed import Array
from genkt.types import UserError

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ClassMetrics:
    """Answers counted by class.

    Args:
        right, images, predicted: [C] right answers, images of the class, answers of the class.
        precision: [C] right / predicted, NaN where the class is never predicted.
        recall: [C] right / images, NaN where it has no image.
        f1: [C] 2 right / (images + predicted), NaN where it has neither.
    """

    right: Counts
    images: Counts
    predicted: Counts
    precision: Array
    recall: Array
    f1: Array

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0..1."""
        return float(self.right.sum() / self.images.sum())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have an image, 0..1."""
        return float(self.recall[self.images > 0].mean())

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have an image, 0..1."""
        return float(self.f1[self.images > 0].mean())


@dataclass(frozen=True)
class ClassificationMetrics:
    """What ``classification_metrics`` finds.

    Args:
        by_class: the answers, the most probable classes, counted by class.
        nll: mean negative log-likelihood of the true class, in nats.
        reliability: how often answers of some confidence are right; ``ece`` is its error.
        auroc: area under the ROC curve, 0..1, of two classes that both have an image. None else.
    """

    by_class: ClassMetrics
    nll: float
    reliability: Reliability
    auroc: float | None

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1."""
        return self.reliability.ece

    def as_dict(self) -> dict[str, float | None]:
        """The single figures: shares 0..1, and the NLL in nats."""
        return {
            "accuracy": self.by_class.accuracy,
            "balanced_accuracy": self.by_class.balanced_accuracy,
            "macro_f1": self.by_class.macro_f1,
            "nll": self.nll,
            "ece": self.ece,
            "auroc": self.auroc,
        }


@dataclass(frozen=True)
class Majority:
    """What an answer that never looks at the image reaches: always the most common class.

    Args:
        label: that class, the first of those with as many images.
        by_class: its figures, on the images that it is the most common class of.
    """

    label: int
    by_class: ClassMetrics


def classification_metrics(labels: ArrayLike, probabilities: ArrayLike) -> ClassificationMetrics:
    """All figures of one classifier.

    Args:
        labels: [N] in 0..C-1.  probabilities: [N, C]; of equal ones the first class is the answer.

    Raises: UserError for other shapes, no image, a label that is no class, or a number that is
    not in 0..1.

    >>> found = classification_metrics([0, 0, 0, 1], [[0.9, 0.1]] * 3 + [[0.6, 0.4]])
    >>> found.by_class.accuracy, found.by_class.balanced_accuracy, found.auroc
    (0.75, 0.5, 1.0)
    """
    truth, shares = checked_probabilities(labels, probabilities)
    predicted = shares.argmax(axis=1)
    return ClassificationMetrics(
        class_metrics(truth, predicted, shares.shape[1]),
        float(negative_log_likelihoods(truth, shares).mean()),
        reliability(shares.max(axis=1), predicted == truth),
        _auroc(truth, shares),
    )


def class_metrics(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> ClassMetrics:
    """[N] labels and [N] answers, both in 0..C-1, counted by class."""
    from sklearn.metrics import precision_recall_fscore_support

    truth, answers = np.asarray(labels), np.asarray(predicted)
    precision, recall, f1, images = precision_recall_fscore_support(
        truth, answers, labels=np.arange(num_classes), zero_division=np.nan
    )
    right, said = (
        np.bincount(each, minlength=num_classes) for each in (truth[truth == answers], answers)
    )
    return ClassMetrics(right, images.astype(np.int64), said, precision, recall, f1)


def majority(labels: ArrayLike, num_classes: int) -> Majority:
    """The most common of [N] labels in 0..C-1 as the answer to every image."""
    truth = np.asarray(labels)
    label = int(np.bincount(truth, minlength=num_classes).argmax())
    return Majority(label, class_metrics(truth, np.full_like(truth, label), num_classes))


def negative_log_likelihoods(labels: NDArray[np.int64], probabilities: Array) -> Array:
    """[N] of the true class, in nats.

    A probability below 2.2e-16 counts as that much, as in scikit-learn.
    """
    true = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(true, np.finfo(np.float64).eps)))


def checked_probabilities(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[NDArray[np.int64], Array]:
    """[N] labels and float64 [N, C]. Raises: UserError as ``classification_metrics``."""
    truth, shares = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    if truth.ndim != 1 or shares.ndim != 2 or len(truth) != len(shares) or 0 in shares.shape:
        raise UserError.of(
            "classification metrics",
            "[N] labels and [N, C] probabilities of at least one image",
            f"{list(truth.shape)} and {list(shares.shape)}",
        )
    num_classes = shares.shape[1]
    if truth.min() < 0 or truth.max() >= num_classes:
        odd = truth[(truth < 0) | (truth >= num_classes)][0]
        raise UserError.of("labels", f"classes 0 .. {num_classes - 1}", int(odd))
    bad = ~((shares >= 0) & (shares <= 1 + 1e-6))
    if bad.any():
        raise UserError.of("probabilities", "shares in 0..1", shares[bad][0])
    return truth, shares


def _auroc(truth: NDArray[np.int64], shares: Array) -> float | None:
    """The second class against the first; ties count half."""
    from sklearn.metrics import roc_auc_score

    if shares.shape[1] != 2 or truth.min() == truth.max():
        return None
    return float(roc_auc_score(truth, shares[:, 1]))
