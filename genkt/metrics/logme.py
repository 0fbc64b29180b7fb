"""LogME: how well a linear model on frozen features explains labels, without training one.

Each class's one-hot column y is explained as y = F w + noise, w ~ N(0, I / alpha), noise ~
N(0, I / beta). alpha and beta are those of highest evidence p(y | F), found by fixed-point
iteration; the score is the log evidence a sample, averaged over classes. Everything in float64 on
the CPU.

Source: You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", 2021,
and "Ranking and Tuning Pre-trained Models", 2022, Algorithm 3 (the fixed point).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from genkt.losses.numerics import require_matrix
from genkt.types import UNLABELLED, UserError

MAX_ITERATIONS = 11
TOLERANCE = 1e-3
"""Relative change of alpha / beta at which the iteration stops."""
GUARD = 1e-5
"""Added to both denominators, as in the released code: without it there is no highest evidence
where the features explain the labels exactly (as N <= D of them always can) or not at all."""


@dataclass(frozen=True)
class LogME:
    """What LogME says of features.

    Args:
        evidence: mean over classes of log evidence / N, in nats; higher is better.
        posterior_mean: [D, C] float64, mean weights of the linear model given the labels.
    """

    evidence: float
    posterior_mean: Tensor


def logme(features: Tensor, labels: Tensor, num_classes: int) -> LogME:
    """LogME of features, with the evidence in full.

    The mean is over the classes that occur: the evidence of a column of zeros has no maximum, its
    weights are 0. As in the source, the weights belong to the alpha and beta with which the last
    iteration began and the evidence takes its residuals from these weights, so that it is a lower
    bound of the evidence at the last alpha and beta (equal at convergence).

    Args:
        features: [N, D], N >= 1; not centred.
        labels: [N] int64, 0..C-1.
        num_classes: C.

    Returns:
        Evidence a sample, and weights of all C classes.

    Raises:
        UserError: no rows, other shapes, labels outside 0..C-1, or values that are not finite.

    Example:
        >>> features = torch.eye(2, dtype=torch.float64).repeat(10, 1)
        >>> labels = torch.tensor([0, 1] * 10)
        >>> weights = logme(features, labels, 2).posterior_mean
        >>> torch.allclose(weights, torch.eye(2, dtype=torch.float64), atol=1e-3)
        True
    """
    fit = _fit(features, labels, num_classes)
    occurs = torch.bincount(labels.cpu(), minlength=num_classes) > 0
    return LogME(fit.evidence()[occurs].mean().item(), fit.mean)


def logme_released(features: Tensor, labels: Tensor, num_classes: int) -> LogME:
    """LogME as its released code computes it.

    Differs from ``logme`` in two ways. Of the D terms ln(alpha + beta sigma) it sums those of the
    k = min(N, D) singular values, though the other D - k are ln(alpha): each class's evidence is
    off by (D - k) / (2 N) ln(alpha), which grows with the width where labels are few. And the mean
    is over the classes from 0 to the largest that occurs.

    Args:
        features: [N, D], N >= 1; not centred.
        labels: [N] int64, 0..C-1.
        num_classes: C.

    Returns:
        Evidence a sample, and weights of all C classes: those of ``logme``.

    Raises:
        UserError: as ``logme``.
    """
    fit = _fit(features, labels, num_classes)
    num_samples, width = features.shape
    missing = (width - len(fit.sigma)) / (2 * num_samples) * fit.solution.alpha.log()
    evidence = (fit.evidence() + missing)[: int(labels.max()) + 1]
    return LogME(evidence.mean().item(), fit.mean)


def rank_by_logme(
    features_by_name: Mapping[str, Tensor], labels: Tensor, num_classes: int
) -> list[tuple[str, float]]:
    """Teachers (or other sources of features) by how well they suit labels, the best first.

    Args:
        features_by_name: name -> [N, D], the same N samples, any D.
        labels: [N] int64, 0..C-1.
        num_classes: C.

    Returns:
        (name, evidence of ``logme``), highest first; equal ones in the order given.

    Raises:
        UserError: no features, or what ``logme`` raises, with the name.
    """
    if not features_by_name:
        raise UserError.of("LogME", "the features of one or more models", "none")
    scores = []
    for name, features in features_by_name.items():
        try:
            scores.append((name, logme(features, labels, num_classes).evidence))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return sorted(scores, key=lambda score: -score[1])


@dataclass(frozen=True)
class _Solution:
    """alpha, beta, and |F m - y|^2, |m|^2 at the ``ratio`` they were computed from; all [C]."""

    alpha: Tensor
    beta: Tensor
    residual: Tensor
    squared_norm: Tensor
    ratio: Tensor


@dataclass(frozen=True)
class _Fit:
    """The end of the iteration.

    Args:
        solution: one entry per class.
        sigma: [k] squared singular values of the features, k = min(N, D).
        mean: m [D, C].
        num_samples: N.
    """

    solution: _Solution
    sigma: Tensor
    mean: Tensor
    num_samples: int

    def evidence(self) -> Tensor:
        """[C] log evidence / N.

        The D / 2 ln(alpha) of the prior and the D terms ln(alpha + beta sigma), of which D - k are
        ln(alpha), are together the k terms ln(1 + beta sigma / alpha).
        """
        found = self.solution
        determinant = torch.log1p(self.sigma[:, None] * (found.beta / found.alpha)).sum(dim=0)
        doubled = (
            self.num_samples * (found.beta.log() - math.log(2 * math.pi))
            - determinant
            - found.beta * found.residual
            - found.alpha * found.squared_norm
        )
        return doubled / (2 * self.num_samples)


def _fit(features: Tensor, labels: Tensor, num_classes: int) -> _Fit:
    _check(features, labels, num_classes)
    rows = features.detach().cpu().double()
    targets = one_hot(labels.cpu().long(), num_classes).double()
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    sigma = singular.square()
    projected = left.T @ targets  # [k, C]
    outside = (targets.square().sum(dim=0) - projected.square().sum(dim=0)).clamp(min=0)
    solution = _iterate(sigma, projected.square(), outside, len(rows))
    shrunk = singular[:, None] * projected / (solution.ratio + sigma[:, None])
    return _Fit(solution, sigma, right.T @ shrunk, len(rows))


def _iterate(sigma: Tensor, squares: Tensor, outside: Tensor, num_samples: int) -> _Solution:
    """Update alpha and beta of every class until its alpha / beta hardly changes.

    Args:
        sigma: [k] squared singular values.
        squares: [k, C] squared targets in the basis of the left singular vectors.
        outside: [C] squared norm of the targets outside of that basis.
        num_samples: N.
    """
    column, start = sigma[:, None], torch.ones_like(outside)
    solution = _update(column, squares, outside, num_samples, start)
    for _ in range(MAX_ITERATIONS - 1):
        ratio = solution.alpha / solution.beta
        moving = (ratio - solution.ratio).abs() > TOLERANCE * solution.ratio
        if not moving.any():
            break
        updated = _update(column, squares, outside, num_samples, ratio)
        solution = _Solution(
            *(
                torch.where(moving, getattr(updated, name), getattr(solution, name))
                for name in ("alpha", "beta", "residual", "squared_norm", "ratio")
            )
        )
    return solution


def _update(
    sigma: Tensor, squares: Tensor, outside: Tensor, num_samples: int, ratio: Tensor
) -> _Solution:
    """One step of the fixed point from ``ratio`` = alpha / beta."""
    used = (sigma / (sigma + ratio)).sum(dim=0)
    # N - gamma, without the cancellation where gamma comes near N.
    unused = (num_samples - len(sigma)) + (ratio / (sigma + ratio)).sum(dim=0)
    squared_norm = (sigma * squares / (ratio + sigma).square()).sum(dim=0)
    residual = (squares / (1 + sigma / ratio).square()).sum(dim=0) + outside
    # Features that are all 0 leave alpha without meaning: any value gives the same evidence.
    alpha = torch.where(used > 0, used / (squared_norm + GUARD), 1.0)
    return _Solution(alpha, unused / (residual + GUARD), residual, squared_norm, ratio)


def _check(features: Tensor, labels: Tensor, num_classes: int) -> None:
    require_matrix(features, "LogME, features", min_columns=1)
    if labels.shape != features.shape[:1] or labels.is_floating_point():
        raise UserError.of(
            "LogME, labels",
            f"{len(features)} whole numbers, one for each row of the features",
            f"shape {list(labels.shape)} of {labels.dtype}",
        )
    if not torch.isfinite(features).all():
        raise UserError.of("LogME, features", "finite numbers", "NaN or infinity")
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UserError.of(
            "LogME, labels",
            f"0..{num_classes - 1}",
            sorted(set(wrong.tolist()))[:5],
            f"; leave out the rows without label ({UNLABELLED})",
        )
