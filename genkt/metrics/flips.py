"""Flips between two classifiers: what b gets right that a got wrong, and the reverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genkt.types import Prediction, UserError


@dataclass(frozen=True)
class Flips:
    """How the answers change from classifier a to classifier b on the same N labelled samples.

    Source: Roth et al., "Fantastic Gains and Where to Find Them", 2024, Sec. 3.

    Args:
        gained: [N] bool, a wrong and b right.  lost: [N] bool, a right and b wrong.
        gained_by_class, lost_by_class: [C] counts by true class.
    """

    gained: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    gained_by_class: NDArray[np.int64]
    lost_by_class: NDArray[np.int64]

    @property
    def positive(self) -> float:
        """Share of all samples where a is wrong and b right (rho_pos)."""
        return float(self.gained.mean())

    @property
    def negative(self) -> float:
        """Share of all samples where a is right and b wrong (rho_neg)."""
        return float(self.lost.mean())

    @property
    def net(self) -> float:
        """rho_pos - rho_neg: exactly the accuracy of b minus that of a."""
        return self.positive - self.negative


def flips(a: Prediction, b: Prediction) -> Flips:
    """Count the flips from ``a`` (say the baseline) to ``b`` (say the distilled student).

    Raises: UserError where the two are not on the same samples, or there are none.
    """
    labels_a, labels_b = a.labels.cpu().numpy(), b.labels.cpu().numpy()
    if a.ids != b.ids or not np.array_equal(labels_a, labels_b):
        raise UserError.of(
            "flips",
            "two predictions of the same samples in the same order",
            f"{len(a.ids)} and {len(b.ids)} samples that differ",
        )
    if not a.ids:
        raise UserError.of("flips", "at least one sample", "none")
    right_a = a.predicted.cpu().numpy() == labels_a
    right_b = b.predicted.cpu().numpy() == labels_a
    return flips_of(right_a, right_b, labels_a, int(a.probabilities.shape[1]))


def flips_of(
    right_a: NDArray[np.bool_], right_b: NDArray[np.bool_], labels: NDArray[np.int64],
    num_classes: int,
) -> Flips:  # fmt: skip
    """The same from what is known of every sample already.

    Args:
        right_a, right_b: [N] whether the answer of each was right.
        labels: [N] in 0..C-1.
        num_classes: C.
    """
    gained, lost = ~right_a & right_b, right_a & ~right_b
    return Flips(
        gained,
        lost,
        np.bincount(labels[gained], minlength=num_classes).astype(np.int64),
        np.bincount(labels[lost], minlength=num_classes).astype(np.int64),
    )


def histogram_entropy(counts: NDArray[np.int64]) -> float:
    """Entropy in nats of a [C] histogram: 0 where one class has all flips, log C where all share.

    An empty histogram has entropy 0.
    """
    total = int(counts.sum())
    shares = counts[counts > 0] / max(total, 1)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def confusion(prediction: Prediction) -> NDArray[np.int64]:
    """[C, C] counts: row the true class, column the predicted one."""
    num_classes = int(prediction.probabilities.shape[1])
    labels = prediction.labels.cpu().numpy().astype(np.int64)
    cells = labels * num_classes + prediction.predicted.cpu().numpy()
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)
