"""Means, intervals and paired comparisons over label draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from genkt.metrics.proportions import wilson_limits
from genkt.types import Interval, UserError


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over n pairs, its 95 % Student-t interval and two-sided p-value.

    ``low``, ``high`` and ``p_value`` are NaN where the pairs say nothing about their own spread:
    fewer than two pairs, or differences that are all the same (other than all zero).
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether the pairs allow an interval at all."""
        return not math.isnan(self.low)

    @property
    def established(self) -> bool:
        """Whether the interval excludes zero."""
        return self.has_interval and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % Student-t half-width of the values, in their own unit.

    Raises: UserError for no values or values that are not finite.
    """
    array = _finite(values)
    half_width = math.nan
    if array.size >= 2:
        half_width = float(_t_quantile(array.size) * array.std(ddof=1) / math.sqrt(array.size))
    return Interval(float(array.mean()), half_width, int(array.size))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """Compare a with b, entry by entry: both were measured on the same draws in the same order.

    Raises: UserError for different lengths, no values or values that are not finite.
    """
    if len(a) != len(b):
        raise UserError.of("paired values", "equal lengths", f"{len(a)} and {len(b)}")
    # Accuracies are counts over a test size: rounding away the last bits keeps equal
    # differences equal, so that no spread is not mistaken for a tiny, very certain one.
    differences = np.round(_finite(a) - _finite(b), 12)
    mean, n = float(differences.mean()), int(differences.size)
    if n >= 2 and not differences.any():
        return PairedDifference(0.0, 0.0, 0.0, 1.0, n)
    if n < 2 or bool(np.all(differences == differences[0])):
        return PairedDifference(mean, math.nan, math.nan, math.nan, n)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    reach = _t_quantile(n) * error
    p_value = float(2 * stdtr(n - 1, -abs(mean) / error))
    return PairedDifference(mean, mean - reach, mean + reach, p_value, n)


def paired_by_draw(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference | None:
    """``paired_difference`` over the draws that both have; None where they share none."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    return paired_difference([a[draw] for draw in shared], [b[draw] for draw in shared])


def wilson_interval(num_right: int, num_samples: int) -> tuple[float, float]:
    """95 % Wilson score interval, as shares 0..1, of one accuracy on ``num_samples`` samples.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Raises: UserError unless 0 <= num_right <= num_samples and num_samples >= 1.
    """
    if num_samples < 1 or not 0 <= num_right <= num_samples:
        raise UserError.of(
            "Wilson interval",
            "0 <= right answers <= samples and at least one sample",
            f"{num_right} of {num_samples}",
        )
    low, high = wilson_limits(num_right / num_samples, num_samples)
    return float(low), float(high)


def _t_quantile(n: int) -> float:
    return float(stdtrit(n - 1, 0.975))


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise UserError.of("statistics", "one or more finite numbers", list(values))
    return array
