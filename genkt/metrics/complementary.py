"""Complementary knowledge: what one classifier has right that another has wrong, and where.

Source: Roth et al., "Fantastic Gains and Where to Find Them", 2024: positive flips and their
entropy in Sec. 3 and Fig. 1, areas of expertise in Fig. 2, transfer delta and transfer rate in
Sec. 5.1 and Fig. 5. Whether an answer is right is all that is read here, so that classifiers of
different heads can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.flips import Flips, flips_of
from genkt.types import UserError

Right = NDArray[np.bool_]
Counts = NDArray[np.int64]


def flips_matrix(right: Right) -> NDArray[np.float64]:
    """The share of all samples on which the model of the row is wrong, that of the column right.

    Source: Roth et al., Sec. 3 (rho_pos; the transposed entry is rho_neg).

    Args:
        right: [M, N] whether each of M models answers each sample correctly, N >= 1.

    Returns:
        [M, M], 0 on the diagonal; entry (a, b) - entry (b, a) = accuracy of b - accuracy of a.

    Raises:
        UserError: another shape, or no samples.

    Example:
        >>> flips_matrix(np.array([[True, False, False, True], [True, True, True, False]])).tolist()
        [[0.0, 0.5], [0.25, 0.0]]
    """
    if right.ndim != 2 or right.shape[1] < 1:
        raise UserError.of("flips", "[models, samples >= 1]", f"shape {list(right.shape)}")
    answers = right.astype(np.float64)  # counts below 2^53 are exact
    flips: NDArray[np.float64] = (1.0 - answers) @ answers.T / right.shape[1]
    return flips


def top_classes(flips: Counts, class_sizes: Counts, percent: float) -> Counts:
    """The classes that hold the first ``percent`` of the positive flips.

    Classes are ranked by the share of their samples that flip (ties: more flips first, then the
    smaller index); the fewest of them from the top that hold so many flips are taken.

    Source: Roth et al., Fig. 2b and 5a: "the classes containing the first 2 %, 5 %, ... of
    positive flips".

    Args:
        flips: [C] positive flips of each class.
        class_sizes: [C] samples of each class.
        percent: 0..100.

    Returns:
        Class indices, the highest share first; empty where nothing flips.

    Raises:
        UserError: more flips than samples, or a percentage outside of 0..100.

    Example:
        >>> top_classes(np.array([1, 6, 0, 3]), np.array([10, 10, 10, 4]), 50).tolist()
        [3, 1]
    """
    if flips.shape != class_sizes.shape or (flips < 0).any() or (flips > class_sizes).any():
        raise UserError("top classes: expected 0 <= flips <= samples for every class")
    if not 0 <= percent <= 100:
        raise UserError.of("top classes", "a percentage from 0 to 100", f"{percent:g}")
    total = int(flips.sum())
    if not total or not percent:
        return np.empty(0, dtype=np.int64)
    shares = flips / np.maximum(class_sizes, 1)
    order = np.lexsort((np.arange(len(flips)), -flips, -shares))
    reached = 100 * np.cumsum(flips[order]) >= percent * total
    return order[: int(np.argmax(reached)) + 1].astype(np.int64)


def class_means(
    features: NDArray[np.floating], labels: Counts, num_classes: int
) -> NDArray[np.float64]:
    """The mean feature of every class.

    Args:
        features: [N, D].  labels: [N] in 0..C-1.  num_classes: C.

    Returns:
        [C, D]; NaN for a class without samples.
    """
    rows = np.asarray(features, dtype=np.float64)
    sums = np.zeros((num_classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    counts = np.bincount(labels, minlength=num_classes)[:, None]
    means: NDArray[np.float64] = np.divide(
        sums, counts, out=np.full_like(sums, np.nan), where=counts > 0
    )
    return means


def mean_cosine(embeddings: NDArray[np.floating]) -> float:
    """The mean cosine similarity over all pairs of different rows.

    Args:
        embeddings: [K, D]; a row of zeros has similarity 0 with every other.

    Returns:
        -1..1; NaN for fewer than two rows, which have no pair.

    Raises:
        UserError: values that are not finite.

    Example:
        >>> mean_cosine(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))  # of 0, 1, 0
        0.3333333333333333
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise UserError.of("class similarity", "finite embeddings", "NaN or infinity")
    if len(rows) < 2:
        return float("nan")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    summed = units.sum(axis=0)
    pairs = float(summed @ summed - np.square(units).sum())
    return pairs / (len(rows) * (len(rows) - 1))


@dataclass(frozen=True)
class TransferChange:
    """What a student gained and lost by a transfer, and what of it the teacher had to give.

    Source: Roth et al., Sec. 5.1. The rates are strict: what counts is a sample that the student
    had wrong, the teacher has right, and the student has right afterwards. What the student learns
    beside its teacher raises no rate, and unlearning something else lowers none (see ``change``).
    Differs from the released script of Fig. 5a, whose value is near 100 for the first classes
    whatever was transferred.

    Args:
        change: the flips from the student before to the student after.
        offered: [C] samples that the student had wrong before and the teacher has right.
        taken: [C] those of them that the student has right after.
        class_sizes: [C] samples of each class.
    """

    change: Flips
    offered: Counts
    taken: Counts
    class_sizes: Counts

    @property
    def rate(self) -> float:
        """Share 0..1 of the teacher's positive flips that were transferred; NaN without any."""
        return self.rate_of(np.arange(len(self.offered)))

    def rate_of(self, classes: Counts) -> float:
        """The transfer rate within some classes; NaN where the teacher offers nothing there."""
        offered = int(self.offered[classes].sum())
        return int(self.taken[classes].sum()) / offered if offered else float("nan")

    def top_rate(self, percent: float) -> float:
        """The rate within the classes that hold the first ``percent`` of the teacher's flips."""
        return self.rate_of(top_classes(self.offered, self.class_sizes, percent))


def transfer_change(
    before: Right, after: Right, teacher: Right, labels: Counts, num_classes: int
) -> TransferChange:
    """Follow a transfer: what became of the teacher's positive flips over the student.

    Args:
        before, after, teacher: [N] whether each answers each sample correctly.
        labels: [N] in 0..C-1.
        num_classes: C.

    Raises:
        UserError: not the same samples, or none.
    """
    sizes = {len(before), len(after), len(teacher), len(labels)}
    if len(sizes) > 1 or not len(labels):
        raise UserError.of("transfer", "answers on the same samples", sorted(sizes))
    offered = ~before & teacher
    return TransferChange(
        flips_of(before, after, labels, num_classes),
        np.bincount(labels[offered], minlength=num_classes).astype(np.int64),
        np.bincount(labels[offered & after], minlength=num_classes).astype(np.int64),
        np.bincount(labels, minlength=num_classes).astype(np.int64),
    )
