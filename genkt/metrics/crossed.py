"""Variance of a mean of scores over draws crossed with images.

A score of draw d on image i is taken as

    x_di = mean + draw_d + image_i + rest_di

with all parts random: the draws are some of many students, the images some of many pictures. The
mean over D draws and N images then has the variance

    V = draws / D + images / N + rest / (D N)

and Student's t over the draws alone misses ``images / N`` wherever students err on the same images.

Sources: Owen, "The pigeonhole bootstrap", 2007 (crossed random effects); Satterthwaite, "An
approximate distribution of estimates of variance components", 1946; Nadeau and Bengio, "Inference
for the generalization error", 2003 (draws that share labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NO_SPREAD = 1e-24
"""Mean squares below it are rounding: scores that differ by less than 1e-12 count as equal."""


_TINY = float(np.finfo(np.float64).tiny)
_TIE = 1 + 1e-9  # terms that differ by rounding are equal, whatever the order of the scores


@dataclass(frozen=True)
class MeanSquares:
    """The two-way analysis of variance; every array has the leading axes of the scores.

    Args:
        mean: over all scores.
        draws: S2 of the D draw means, of D - 1 degrees of freedom.
        images: S2 of the N image means, of N - 1.
        rest: MSE, of (D - 1) (N - 1).
        seeds: S2 of the means of R seeds in a draw, over all draws, of D (R - 1).
        seeds_rest: MSE in a draw, over all draws, of D (R - 1) (N - 1).
        tail: sum of c^4 over sum of c^2, c the image means less the mean; 0 without a spread.
        largest: square of the score that is farthest from the mean of its draw and seed.
        num_draws, num_images, num_seeds: D, N, R.
    """

    mean: Array
    draws: Array
    images: Array
    rest: Array
    seeds: Array
    seeds_rest: Array
    tail: Array
    largest: Array
    num_draws: int
    num_images: int
    num_seeds: int = 1

    @property
    def equal(self) -> NDArray[np.bool_]:
        """Whether the scores (means over seeds) have no spread at all."""
        return np.maximum(np.maximum(self.draws, self.images), self.rest) <= NO_SPREAD

    @property
    def labels(self) -> Array:
        """Variance of one draw, less what its seeds and its images bring; may be below zero.

        With one seed per draw, labels and seed are one part.
        """
        found = self.draws - self.rest / self.num_images
        if self.num_seeds == 1:
            return found
        within = self.seeds - self.seeds_rest / self.num_images
        return np.asarray(found - within / self.num_seeds)


def mean_squares(scores: NDArray[Any]) -> MeanSquares:
    """Mean squares of scores [..., D, N], one seed per draw."""
    num_draws, num_images = scores.shape[-2:]
    mean, draws, images, rest, tail, largest = _two_way(scores)
    none = np.zeros_like(mean)
    return MeanSquares(
        mean, draws, images, rest, none, none, tail, largest, num_draws, num_images
    )  # fmt: skip


def mean_squares_of_seeds(scores: NDArray[Any]) -> MeanSquares:
    """Mean squares of scores [..., D, R, N]: R seeds on the labels of each draw."""
    num_draws, num_seeds, num_images = scores.shape[-3:]
    mean, draws, images, rest, tail, _ = _two_way(scores.mean(axis=-2))
    _, seeds, _, seeds_rest, _, largest = _two_way(scores)
    return MeanSquares(
        mean, draws, images, rest, seeds.mean(axis=-1), seeds_rest.mean(axis=-1), tail,
        largest.max(axis=-1), num_draws, num_images, num_seeds,
    )  # fmt: skip


def _two_way(scores: NDArray[Any]) -> tuple[Array, Array, Array, Array, Array, Array]:
    """(mean, S2 of rows, S2 of columns, MSE, tail, largest) of [..., rows, columns].

    With one row S2 of rows and MSE are 0.
    """
    num_rows, num_columns = scores.shape[-2:]
    mean = np.asarray(scores.mean(axis=(-2, -1), dtype=np.float64))
    centred = scores - mean[..., None, None]
    rows, columns = centred.mean(axis=-1), centred.mean(axis=-2) ** 2
    of_rows, of_columns = (rows**2).sum(axis=-1), columns.sum(axis=-1)
    left = np.einsum("...ij,...ij->...", centred, centred)
    left = np.maximum(left - num_columns * of_rows - num_rows * of_columns, 0)
    row_dof, column_dof = max(num_rows - 1, 1), max(num_columns - 1, 1)
    tail = (columns**2).sum(axis=-1) / np.maximum(of_columns, _TINY)
    rest = left / (row_dof * column_dof)
    above, below = centred.max(axis=-1) - rows, rows - centred.min(axis=-1)
    largest = np.maximum(above, below).max(axis=-1) ** 2
    return mean, of_rows / row_dof, of_columns / column_dof, rest, tail, largest


def variance_of_draws(squares: MeanSquares, pool_share: float = 0.0) -> Array:
    """What the draws bring to the variance of the mean: T1 of ``variance_of_mean``, corrected."""
    return np.asarray(squares.draws / squares.num_draws * (1 + _overlap(squares, pool_share)))


def _overlap(squares: MeanSquares, pool_share: float) -> Array:
    """How much more the labels' part counts as draws share a pool."""
    shared = squares.num_draws * pool_share / (1 - pool_share)
    return np.asarray(shared * (squares.labels > 0), np.float64)


def variance_of_mean(
    squares: MeanSquares, pool_share: float = 0.0, spare: ArrayLike = 0.0
) -> tuple[Array, Array]:
    """Variance of the mean for new draws and new images, and its degrees of freedom.

        T1 = S2(draw means) / D,  T2 = S2(image means) / N,  T3 = MSE / (D N)
        V  = T1 + T2 - T3, at least the largest of the three
        degrees of freedom = V^2 / sum(T^2 / those of T), the subtracted term included

    Each of T1, T2, T3 is expected to be no larger than V. On that floor the degrees of freedom
    are those of the largest. Two rules for small samples, both found by ``tools/coverage.py``:

    - In the degrees of freedom (not in V) T1 counts as T1 (1 + 2 / (D - 1)). A T1 that is low by
      chance makes V too small and at once makes V look certain: with 3 draws the plain rule
      covers 92 % where the draws matter most.
    - The sum of squares behind S2(image means) gets ``spare`` more. Where few images are wrong,
      and by chance fewer than usual, mean and V are too small together: 89 % without it, at 50
      images, 10 draws, .99 against .95. ``limits.py`` says how much.

    Where draws of a share f of the same pool overlap, they are more alike than new pools would
    be: the labels' part alone is multiplied by 1 + D f / (1 - f) (Nadeau and Bengio). What seeds
    and images bring is left as it is. Where the labels' part comes out as zero or less there is
    nothing to multiply, and the degrees of freedom are at most D - 1 (89 % without that, at 3
    draws of half of the pool).

    Args:
        pool_share: f, 0 <= f < 1.
        spare: a sum of squares.
    """
    draws, images = squares.num_draws, squares.num_images
    second = (squares.images + np.asarray(spare) / max(images - 1, 1)) / images
    if draws == 1:
        return second, np.full_like(second, images - 1.0)
    first, third = squares.draws / draws, squares.rest / (draws * images)
    dof = (draws - 1, images - 1, (draws - 1) * (images - 1))
    extra = _overlap(squares, pool_share)
    counted = variance_of_draws(squares, pool_share)
    terms = [(second, dof[1], 1), (third * (1 + extra), dof[2], -1)]
    if squares.num_seeds > 1:  # the labels' part is T1 less the seeds' part, itself a difference
        seeds_dof, size = draws * (squares.num_seeds - 1), draws * squares.num_seeds
        terms.append((extra * squares.seeds / size, seeds_dof, -1))
        terms.append((extra * squares.seeds_rest / (size * images), seeds_dof * dof[1], 1))
    variance = counted + sum(sign * term for term, _, sign in terms)
    cautious = counted * (1 + 2 / dof[0])
    spread = cautious**2 / dof[0] + sum(term**2 / each for term, each, _ in terms)
    satterthwaite = (variance - counted + cautious) ** 2 / np.maximum(spread, _TINY)
    floor = np.maximum(np.maximum(first, second), third)
    of_floor = np.where(second * _TIE >= third, dof[1], dof[2])
    by_draws = first * (1 + 2 / dof[0]) * _TIE >= np.maximum(second, third)
    of_floor = np.where(by_draws, dof[0], of_floor)
    low = variance <= floor * _TIE
    found = np.where(low, of_floor, np.maximum(satterthwaite, 1.0))
    if pool_share > 0:  # a labels' part that none is found of may be there and hidden
        found = np.where(squares.labels > 0, found, np.minimum(found, dof[0]))
    return np.where(low, floor, variance), found
