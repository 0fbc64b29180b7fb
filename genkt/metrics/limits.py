"""95 % limits from mean squares; every function works on whole arrays of cases at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from genkt.metrics.crossed import Array, MeanSquares, variance_of_draws, variance_of_mean
from genkt.metrics.proportions import (
    Z,
    newcombe_limits,
    newcombe_p,
    newcombe_phi,
    wilson_limits,
)

SPARE_IMAGES = 0.5
"""Images more, on which every draw has the score that is farthest from its mean: in the variance of
a difference or ratio. Of 0/1 scores it is half an image that one arm alone has right. Without it
94 % becomes 90 % where an image or two make the whole difference (.999 against .98, 10 draws of 50
images)."""

SPARE_IMAGES_OF_A_SHARE = 2.0
"""Images more in the variance of one arm, of the size of those few that make the spread
(``MeanSquares.tail``): near 1 a larger size would outweigh all others. Without it Wilson's interval
covers 89 % at a mean of .97, 10 draws of 50 images."""

_LEVEL, _LEAST = 0.05, 1e-30
"""From the p of the intervals down to the least one that is told apart."""


@dataclass(frozen=True)
class Limits:
    """Mean, 95 % limits, degrees of freedom and two-sided p, one entry a case."""

    mean: Array
    low: Array
    high: Array
    dof: Array
    p: Array


def student_limits(squares: MeanSquares, pool_share: float = 0.0) -> Limits:
    """mean +- t sqrt(V), without bounds; p of a mean of zero, from the same t down to 0.05.

    Below it p is that of ``_small_p``, if it is larger.
    """
    variance, dof = variance_of_mean(squares, pool_share, SPARE_IMAGES * squares.largest)
    error = np.sqrt(variance)
    reach = scipy.special.stdtrit(dof, 0.975) * error
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.asarray(2 * scipy.special.stdtr(dof, -np.abs(squares.mean) / error))
    small = (p < _LEVEL) & (reach > 0)
    if squares.num_draws > 1 and small.any():
        of_draws = np.minimum(variance_of_draws(squares, pool_share), variance)
        parts = of_draws[small], (variance - of_draws)[small]
        wide = _small_p(squares.mean[small], reach[small], *parts, squares)
        p[small] = np.maximum(p[small], wide)
    return Limits(squares.mean, squares.mean - reach, squares.mean + reach, dof, p)


def _small_p(
    mean: Array, reach: Array, of_draws: Array, others: Array, squares: MeanSquares
) -> Array:
    """p of means that are outside of ``reach``: how far out is told by wider intervals.

    Their width at a level a grows as sqrt(t1(a)^2 V1 + t2(a)^2 V2) does, V1 what the draws bring,
    with t1 of D - 1 degrees of freedom, and V2 all else, with t2 of N - 1. At 0.05 the width is
    ``reach``. Degrees of freedom that are right at 0.05 give a p of 0.003 two to four times as
    often as it should be, at 3 or 5 draws; and Holm's correction asks for such p-values.

    Source: Banerjee, "Approximate confidence interval for linear functions of means of k
    populations when the population variances are not equal", 1960 (each part with its own t).

    Args:
        mean, reach, of_draws, others: [M] of M cases.
    """
    dof = squares.num_draws - 1, squares.num_images - 1

    def width(level: Array) -> Array:
        first, second = (np.square(scipy.special.stdtrit(each, level / 2)) for each in dof)
        return np.asarray(np.sqrt(first * of_draws + second * others))

    wanted = np.abs(mean) / reach * width(np.full_like(mean, _LEVEL))
    low, high = np.full_like(mean, math.log(_LEAST)), np.full_like(mean, math.log(_LEVEL))
    for _ in range(50):  # halving
        middle = (low + high) / 2
        wider = width(np.exp(middle)) > wanted
        low, high = np.where(wider, middle, low), np.where(wider, high, middle)
    return np.asarray(np.exp(high))


def share_limits(squares: MeanSquares, pool_share: float = 0.0) -> Limits:
    """Of one arm's mean score, within 0 and 1; p is NaN.

    V becomes the number of independent samples that would have it, n = mean (1 - mean) / V, and
    Wilson's interval is solved for n with t in place of z: near 1, mean +- t sqrt(V) is not only
    out of bounds, it covers 83 % (a mean of .97, 10 draws of 50 images). All scores equal: Wilson's
    interval with n the number of images.

    Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", 1998 (the number of independent samples).
    """
    variance, dof = variance_of_mean(squares, pool_share, SPARE_IMAGES_OF_A_SHARE * squares.tail)
    mean = np.clip(squares.mean, 0, 1)
    spread = mean * (1 - mean)
    plain = (variance > 0) & (spread > 0) & ~squares.equal
    size = np.where(plain, spread / np.where(plain, variance, 1), squares.num_images)
    quantile = np.where(plain, scipy.special.stdtrit(dof, 0.975), Z)
    low, high = wilson_limits(mean, size, quantile)
    return Limits(mean, low, high, dof, np.full_like(mean, np.nan))


def difference_limits(
    squares: MeanSquares, mean_a: Array, mean_b: Array, both: Array, pool_share: float = 0.0
) -> Limits:
    """Of a mean difference a - b, within -1 and 1. All differences equal: Newcombe's interval.

    Args:
        squares: of the differences.
        mean_a, mean_b: of each arm.  both: mean of the product of their scores.
    """
    plain = student_limits(squares, pool_share)
    low, high, p = np.maximum(plain.low, -1), np.minimum(plain.high, 1), plain.p
    if squares.equal.any():
        a, b = (np.clip(mean, 0, 1) for mean in (mean_a, mean_b))
        b = np.where(np.abs(a - b) < 1e-12, a, b)
        phi = newcombe_phi(a, b, both, squares.num_images)
        found = newcombe_limits(a, b, phi, squares.num_images)
        low, high = (
            np.where(squares.equal, new, old) for new, old in zip(found, (low, high), strict=True)
        )
        p = np.where(squares.equal, newcombe_p(a, b, phi, squares.num_images), p)
    return Limits(plain.mean, low, high, plain.dof, p)
