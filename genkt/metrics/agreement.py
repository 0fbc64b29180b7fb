"""How far two models agree: in their probabilities, their answers, their features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from genkt.losses.logits import kl_distillation
from genkt.types import UserError

Features = Tensor | NDArray[np.floating]
_FLAT = 1e-12
"""Share of a feature set's norm below which what varies is rounding."""


def mean_kl(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Mean KL(teacher || student) over the samples, in nats, computed in float64.

    Args:
        student_logits, teacher_logits: [N, C] of the same N samples and C >= 2 classes.

    Returns:
        >= 0, 0 where the two agree everywhere.

    Raises:
        UserError: other shapes.
    """
    found = kl_distillation(student_logits.double(), teacher_logits.double(), temperature=1.0)
    return max(0.0, float(found))  # rounding may leave a hair below zero


def top1_agreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Share of the samples on which two classifiers give the same answer.

    Args:
        a, b: [N] answers, numbered alike.

    Raises:
        UserError: other lengths, or no samples.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise UserError.of("agreement", "two [N >= 1]", f"{list(a.shape)}, {list(b.shape)}")
    return float((a == b).mean())


def linear_cka(a: Features, b: Features) -> float:
    """Linear centred kernel alignment of two feature sets of the same samples, in float64.

    |B^T A|^2 / (|A^T A| |B^T B|) of the centred features, Frobenius norms: 1 for features that
    are each other's rotation and scaling. Where there are more samples than products of columns,
    no matrix of samples x samples is made; the same number comes of either.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019.

    Args:
        a: [N, D_a].  b: [N, D_b].

    Returns:
        0..1; NaN where a set is the same for every sample.

    Raises:
        UserError: not the same number of rows, none, or values that are not finite.

    Example:
        >>> a = np.random.default_rng(0).normal(size=(50, 4))
        >>> round(linear_cka(a, 3.0 * a[:, ::-1] + 1.0), 12)
        1.0
    """
    rows_a, rows_b = _centred(a, "first"), _centred(b, "second")
    if len(rows_a) != len(rows_b):
        raise UserError.of(
            "CKA", "features of the same samples", f"{len(rows_a)} and {len(rows_b)} rows"
        )
    own_a, own_b = _alignment(rows_a, rows_a), _alignment(rows_b, rows_b)
    if not own_a or not own_b:
        return float("nan")
    return min(1.0, _alignment(rows_a, rows_b) / float(np.sqrt(own_a * own_b)))


def _alignment(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|B^T A|^2 = <A A^T, B B^T>, by the smaller of the two matrices."""
    if a.shape[1] * b.shape[1] <= len(a) ** 2:
        return float(np.square(b.T @ a).sum())
    return float(((a @ a.T) * (b @ b.T)).sum())


def _centred(features: Features, name: str) -> NDArray[np.float64]:
    """Centred rows at norm 1, or all 0 where nothing varies."""
    if isinstance(features, Tensor):
        features = features.detach().cpu().double().numpy()
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise UserError.of(f"CKA, {name}", "[rows, columns]", f"shape {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise UserError.of(f"CKA, {name}", "finite numbers", "NaN or infinity")
    largest = float(np.abs(rows).max())
    if not largest:
        return np.zeros_like(rows)
    rows = rows / largest  # squares of any scale stay within range
    centred = rows - rows.mean(axis=0)
    norm = float(np.linalg.norm(centred))
    if norm <= _FLAT * float(np.linalg.norm(rows)):
        return np.zeros_like(rows)
    unit: NDArray[np.float64] = centred / norm
    return unit
