"""Score intervals for shares: they stay within 0 and 1 and do not shrink to nothing at the ends."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from genkt.metrics.crossed import Array

Z = 1.959963984540054
"""1.96: the normal quantile of two-sided 95 %."""


def wilson_limits(
    share: ArrayLike, size: ArrayLike, quantile: ArrayLike = Z
) -> tuple[Array, Array]:
    """The two p that solve (share - p)^2 = quantile^2 p (1 - p) / size.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        share: 0..1.
        size: independent samples behind it; need not be whole.
        quantile: of the normal or of Student's t.
    """
    share, ratio = np.asarray(share, np.float64), np.square(quantile) / np.asarray(size)
    centre, shrink = share + ratio / 2, 1 + ratio
    reach = np.sqrt(ratio * (share * (1 - share) + ratio / 4))
    low, high = (centre - reach) / shrink, (centre + reach) / shrink
    return np.minimum(np.clip(low, 0, 1), share), np.maximum(np.clip(high, 0, 1), share)


def newcombe_phi(a: ArrayLike, b: ArrayLike, both: ArrayLike, size: ArrayLike) -> Array:
    """Correlation of two paired shares with Newcombe's correction; 0 where a margin is empty.

    Args:
        a, b: shares right, 0..1.  both: share that both have right.  size: pairs.
    """
    a, b, both, size = (np.asarray(each, np.float64) for each in (a, b, both, size))
    spread = np.sqrt(a * (1 - a) * b * (1 - b))
    product = both - a * b  # (e h - f g) / n^2
    product = np.where(product > 0, np.maximum(product - 0.5 / size, 0), product)
    return np.asarray(np.where(spread > 0, product / np.where(spread > 0, spread, 1), 0.0))


def newcombe_limits(
    a: ArrayLike, b: ArrayLike, phi: ArrayLike, size: ArrayLike, quantile: ArrayLike = Z
) -> tuple[Array, Array]:
    """95 % limits of a - b for paired shares: Wilson's for each, squared and added.

        low  = a - b - sqrt((a - l_a)^2 - 2 phi (a - l_a) (u_b - b) + (u_b - b)^2)

    Source: Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", 1998, method 10.
    """
    a, b, phi = (np.asarray(each, np.float64) for each in (a, b, phi))
    (low_a, high_a), (low_b, high_b) = (wilson_limits(share, size, quantile) for share in (a, b))
    down = _combined(a - low_a, high_b - b, phi)
    up = _combined(high_a - a, b - low_b, phi)
    return np.maximum(a - b - down, -1), np.minimum(a - b + up, 1)


def newcombe_p(a: ArrayLike, b: ArrayLike, phi: ArrayLike, size: ArrayLike) -> Array:
    """Two-sided p of a = b: 1 less the confidence at which Newcombe's interval reaches zero."""
    a, b = (np.asarray(each, np.float64) for each in (a, b))
    small, large = np.zeros(np.shape(a)), np.full(np.shape(a), 40.0)
    for _ in range(60):  # halving: 40 / 2^60
        middle = (small + large) / 2
        low, high = newcombe_limits(a, b, phi, size, middle)
        outside = (low > 0) | (high < 0)
        small, large = np.where(outside, middle, small), np.where(outside, large, middle)
    return np.asarray(np.where(a == b, 1.0, 2 * scipy.special.ndtr(-small)))


def ratio_limits(
    a: float, b: float, phi: float, size: float, quantile: float = Z
) -> tuple[float, float]:
    """95 % limits of a / b for paired shares, b above 0, from Wilson's limits of each.

    Source: Donner and Zou, "Closed-form confidence intervals for functions of the normal mean and
    standard deviation", 2012 (the ratio of two estimates from the limits of each).
    """
    (low_a, high_a), (low_b, high_b) = (
        [float(end) for end in wilson_limits(share, size, quantile)] for share in (a, b)
    )
    middle = a * b - phi * (a - low_a) * (high_b - b)
    under = max(middle**2 - low_a * high_b * (2 * a - low_a) * (2 * b - high_b), 0.0)
    scale = high_b * (2 * b - high_b)
    low = (middle - under**0.5) / scale if scale > 0 else 0.0
    middle = a * b - phi * (high_a - a) * (b - low_b)
    under = max(middle**2 - high_a * low_b * (2 * a - high_a) * (2 * b - low_b), 0.0)
    scale = low_b * (2 * b - low_b)
    high = (middle + under**0.5) / scale if scale > 0 else float("inf")
    return max(low, 0.0), high


def _combined(first: Array, second: Array, phi: Array) -> Array:
    square = first**2 - 2 * phi * first * second + second**2
    return np.asarray(np.sqrt(np.maximum(square, 0)))
