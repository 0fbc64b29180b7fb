"""Whether a classifier is as often right as it says: reliability curve and calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.metrics.crossed import Array
from genkt.types import UserError

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Answers by confidence, in bins of equal width: bin m has those in ((m - 1) / M, m / M].

    Args:
        count: [M] answers.
        confidence: [M] their mean confidence, 0..1; NaN in an empty bin.
        accuracy: [M] the share of them that is right; NaN in an empty bin.
    """

    count: NDArray[np.int64]
    confidence: Array
    accuracy: Array

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: mean over answers of abs(accuracy - confidence).

        With few answers a bin it is above 0 even where nothing is wrong.
        Source: Guo et al., "On calibration of modern neural networks", 2017 (15 bins).
        """
        used = self.count > 0
        gaps = np.abs(self.accuracy - self.confidence)[used]
        return float((self.count[used] * gaps).sum() / self.count.sum())


def reliability(
    confidence: ArrayLike, right: ArrayLike, *, num_bins: int = NUM_BINS
) -> Reliability:
    """The reliability curve of some answers, of several students together too.

    Args:
        confidence: [N] probability of the answer, 0..1.  right: [N] whether it is right.

    Raises: UserError for other shapes, or no answer.
    """
    sure, is_right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if sure.ndim != 1 or sure.shape != is_right.shape or not sure.size:
        raise UserError.of(
            "reliability", "one confidence and one truth of each answer",
            f"{list(sure.shape)} and {list(is_right.shape)}",
        )  # fmt: skip
    # Of a value on an edge the lower bin; what rounding puts outside of 0..1 is in the outer bins.
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, each, num_bins) / count for each in (sure, is_right)]
    return Reliability(count.astype(np.int64), *means)
