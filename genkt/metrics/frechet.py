"""Frechet distance (FD score) between two sets of features, from rows or from streamed moments.

Each set is taken as a normal distribution: |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2).
Source: Dowson & Landau, "The Frechet distance between multivariate normal distributions", 1982;
on network features: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017. Wang et
al., "One to Transfer All", Fig. 4, measure domain gaps with it. All in float64.

No matrix square root is taken. For any roots A, B with S1 = A^T A and S2 = B^T B the last trace is
the nuclear norm of A B^T, whatever their numbers of rows: the centred rows themselves (over
sqrt(n - 1)) where there are fewer of them than columns, their triangular QR factor where there are
more, an eigenvector root where only the covariance is known.

The score falls with the number of rows: compare sets of the same size (``equal_sizes``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.io import derive_seed
from genkt.types import UserError

Features = Tensor | NDArray[np.floating]
Matrix = NDArray[np.float64]
MIN_ROWS = 2
"""A covariance over n - 1 needs two rows."""


def frechet_distance(a: Features, b: Features) -> float:
    """FD score between two feature sets.

    Args:
        a: [N, D], N >= 2.  b: [M, D], M >= 2.

    Returns:
        Squared units of the features, >= 0, 0 for equal sets.

    Raises:
        UserError: too few rows, different widths, or values that are not finite.

    Example:
        >>> a = np.random.default_rng(0).normal(size=(20, 3))
        >>> round(frechet_distance(a, a + np.array([3.0, 0.0, 4.0])), 9)
        25.0
    """
    rows_a, rows_b = _rows(a, "a", MIN_ROWS), _rows(b, "b", MIN_ROWS)
    _require_same_width(rows_a.shape[1], rows_b.shape[1])
    mean_a, mean_b = rows_a.mean(axis=0), rows_b.mean(axis=0)
    return _distance(mean_a, _root(rows_a - mean_a), mean_b, _root(rows_b - mean_b))


class FeatureMoments:
    """Mean and covariance of rows that come in parts, for sets that do not fit in memory.

    Parts may come in any number and order; ``merge`` joins what several processes have seen.

    Args:
        width: D.

    Example:
        >>> moments = FeatureMoments(2)
        >>> for part in (np.array([[0.0, 1.0]]), np.array([[2.0, 1.0], [4.0, 4.0]])):
        ...     moments.update(part)
        >>> moments.mean.tolist(), moments.covariance.tolist()
        ([2.0, 2.0], [[4.0, 3.0], [3.0, 3.0]])
    """

    def __init__(self, width: int) -> None:
        self.num_samples = 0
        self.mean: Matrix = np.zeros(width)
        self._scatter: Matrix = np.zeros((width, width))

    def update(self, features: Features) -> None:
        """Take in rows [N, D]; N may be 0.

        Raises: UserError for another width or values that are not finite.
        """
        rows = _rows(features, "features", 0)
        _require_same_width(len(self.mean), rows.shape[1])
        if len(rows):
            mean = rows.mean(axis=0)
            centred = rows - mean
            self._add(len(rows), mean, centred.T @ centred)

    def merge(self, other: FeatureMoments) -> None:
        """Take in all that ``other`` has seen.

        Raises: UserError for another width.
        """
        _require_same_width(len(self.mean), len(other.mean))
        if other.num_samples:
            self._add(other.num_samples, other.mean, other._scatter)

    def distance(self, other: FeatureMoments) -> float:
        """FD score between the two sets, as ``frechet_distance``.

        Raises: UserError for different widths or fewer than two rows.
        """
        _require_same_width(len(self.mean), len(other.mean))
        roots = [_covariance_root(moments.covariance) for moments in (self, other)]
        return _distance(self.mean, roots[0], other.mean, roots[1])

    @property
    def covariance(self) -> Matrix:
        """[D, D] over n - 1. Raises: UserError for fewer than two rows."""
        _require_rows(self.num_samples, "features", MIN_ROWS)
        covariance: Matrix = self._scatter / (self.num_samples - 1)
        return covariance

    def _add(self, num_samples: int, mean: Matrix, scatter: Matrix) -> None:
        # Chan, Golub & LeVeque 1983: no large squares are subtracted from each other.
        total = self.num_samples + num_samples
        step = mean - self.mean
        share = num_samples / total
        self._scatter += scatter + np.outer(step, step) * (self.num_samples * share)
        self.mean = self.mean + step * share
        self.num_samples = total


def equal_sizes(sets: Sequence[Features], seed: int) -> list[Matrix]:
    """All sets cut to the size of the smallest, rows chosen at random and kept in order.

    Sets of the same size lose the same rows, so that pairs (a picture and its reconstruction)
    stay pairs.

    Args:
        sets: one or more [N_i, D].
        seed: of the choice.

    Raises:
        UserError: no sets, an empty one, or different widths.
    """
    rows = [_rows(features, f"set {index}", 1) for index, features in enumerate(sets)]
    if not rows:
        raise UserError.of("FD score", "one or more sets of features", "none")
    for other in rows[1:]:
        _require_same_width(rows[0].shape[1], other.shape[1])
    smallest = min(map(len, rows))
    return [features[_choose(len(features), smallest, seed)] for features in rows]


def _choose(num_rows: int, num_chosen: int, seed: int) -> NDArray[np.int64]:
    generator = torch.Generator().manual_seed(derive_seed(seed, num_rows, "equal sizes"))
    chosen: NDArray[np.int64] = torch.randperm(num_rows, generator=generator)[:num_chosen].numpy()
    return np.sort(chosen)


def _distance(mean_a: Matrix, root_a: Matrix, mean_b: Matrix, root_b: Matrix) -> float:
    step = mean_a - mean_b
    nuclear_norm = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum() - 2 * nuclear_norm
    return max(0.0, float(step @ step + spread))  # rounding may leave a hair below zero


def _root(centred: Matrix) -> Matrix:
    """R with R^T R the covariance of centred rows, of at most D rows."""
    num_rows, width = centred.shape
    short = np.asarray(np.linalg.qr(centred, mode="r")) if num_rows > width else centred
    root: Matrix = short / np.sqrt(num_rows - 1)
    return root


def _covariance_root(covariance: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(covariance)
    root: Matrix = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    return root


def _rows(features: Features, name: str, least: int) -> Matrix:
    if isinstance(features, Tensor):
        features = features.detach().cpu().double().numpy()  # numpy knows no bfloat16
    rows: Matrix = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise UserError.of(f"FD score, {name}", "[rows, columns]", f"shape {list(rows.shape)}")
    _require_rows(len(rows), name, least)
    if not np.isfinite(rows).all():
        raise UserError.of(f"FD score, {name}", "finite numbers", "NaN or infinity")
    return rows


def _require_rows(num_rows: int, name: str, least: int) -> None:
    if num_rows < least:
        raise UserError.of(f"FD score, {name}", f"at least {least} rows", num_rows)


def _require_same_width(a: int, b: int) -> None:
    if a != b:
        raise UserError.of("FD score", "features of the same width", f"{a} and {b} columns")
