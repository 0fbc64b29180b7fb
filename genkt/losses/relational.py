"""Relational distillation: distances and angles between the rows of a batch.

Source: Park et al., "Relational Knowledge Distillation", Section 3.2. Everything computes in
float32 or wider, whatever autocast says, and from differences of rows: from inner products, equal
rows would get a small random distance. Rows that coincide have distance 0 and direction 0, both
with gradient 0.

Differences are formed for some rows at a time. Where that takes several rounds, each is computed
again for its gradient instead of kept, so that memory stays at a few times ``MOST_NUMBERS``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from genkt.losses.numerics import no_autocast, require_matrix, require_same_rows, widen

MIN_ROWS = 3
"""Two rows have one distance, which is its own mean, and no angle: all pairs of rows agree."""
MOST_NUMBERS = 1 << 24
"""Numbers of the largest tensor of one round, unless a single row has more."""


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors divided by their L2 norm; zero vectors stay zero and pass no gradient.

    Args:
        vectors: [..., D].

    Returns:
        [..., D].
    """
    squares = vectors.square().sum(dim=-1, keepdim=True)
    nonzero = squares != 0  # true for NaN, which must not be hidden
    inverse = torch.where(nonzero, squares, 1.0).rsqrt()
    return vectors * torch.where(nonzero, inverse, 0.0)


def rkd_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Smooth L1 (threshold 1) between the pairwise distances, mean over B^2.

    Euclidean distances, divided by the mean of the positive ones of their own batch; the gradient
    flows through the student's mean too. Invariant to translation and orthogonal transforms of
    either side's features and to one positive factor on all of them.

    Source: Park et al., "Relational Knowledge Distillation", Section 3.2.1. Differs from the paper:
    the mean instead of the sum (a factor on its weight), as in its released code. Smallest valid
    batch: 3 rows.

    Args:
        student_features: [B, D_s], B >= 3.
        teacher_features: [B, D_t]; several teachers concatenated column-wise.

    Returns:
        Scalar without unit.

    Raises:
        UserError: not matrices of floats, B < 3, or different numbers of rows.

    Example:
        >>> import torch
        >>> triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> rkd_distance(2 * triangle + 1, triangle).item()
        0.0
    """
    _check(student_features, teacher_features)
    with no_autocast(student_features):
        return functional.smooth_l1_loss(
            _relative_distances(widen(student_features)),
            _relative_distances(widen(teacher_features)),
        )


def rkd_angle(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Smooth L1 (threshold 1) between the cosines of all angles of three rows, mean over B^3.

    At row i the cosine between the directions to rows j and k; 0 where j or k coincides with i.
    Costs B^3 (D_s + D_t) multiplications; neither B^3 nor B^2 D numbers are kept at once where
    they exceed ``MOST_NUMBERS``. Invariant as ``rkd_distance`` is.

    Source: Park et al., "Relational Knowledge Distillation", Section 3.2.2. Differs from the paper:
    the mean instead of the sum (a factor on its weight), as in its released code. Smallest valid
    batch: 3 rows.

    Args:
        student_features: [B, D_s], B >= 3.
        teacher_features: [B, D_t]; several teachers concatenated column-wise.

    Returns:
        Scalar without unit, in [0, 1.5].

    Raises:
        UserError: not matrices of floats, B < 3, or different numbers of rows.

    Example:
        >>> import torch
        >>> triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> rkd_angle(2 * triangle + 1, triangle).item()
        0.0
    """
    _check(student_features, teacher_features)
    with no_autocast(student_features):
        student, teacher = widen(student_features), widen(teacher_features)
        width = max(len(student), student.shape[1], teacher.shape[1])
        sums = _in_rounds(_angle_difference, width, student, teacher)
        return torch.stack(sums).sum() / len(student) ** 3


def _check(student_features: Tensor, teacher_features: Tensor) -> None:
    require_matrix(student_features, "student features", min_rows=MIN_ROWS)
    require_matrix(teacher_features, "teacher features")
    require_same_rows(student_features, teacher_features, "teacher features")


def _in_rounds(function: Callable[..., Tensor], width: int, *features: Tensor) -> list[Tensor]:
    """``function(rows, *features)`` for all rows, B * width numbers each, some at a time."""
    num_rows = len(features[0])
    step = max(1, MOST_NUMBERS // (num_rows * width))
    rounds = [slice(start, start + step) for start in range(0, num_rows, step)]
    if len(rounds) == 1:
        return [function(rounds[0], *features)]
    return [
        checkpoint(function, rows, *features, use_reentrant=False, preserve_rng_state=False)
        for rows in rounds
    ]


def _differences(rows: slice, features: Tensor) -> Tensor:
    """[R, B, D] from each of some rows to every row; exactly 0 between equal rows."""
    return features[None, :, :] - features[rows, None, :]


def _distances(rows: slice, features: Tensor) -> Tensor:
    """[R, B] from each of some rows to every row."""
    squares = _differences(rows, features).square().sum(dim=-1)
    apart = squares != 0
    # The root's gradient at 0 is infinite, so the root never sees a 0.
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


def _relative_distances(features: Tensor) -> Tensor:
    """[B, B] distances over the mean of the positive ones; all 0 where there is none."""
    distances = torch.cat(_in_rounds(_distances, features.shape[1], features))
    num_positive = (distances != 0).sum()
    mean = distances.sum() / num_positive.clamp(min=1)
    return distances / torch.where(num_positive > 0, mean, 1.0)


def _angle_difference(rows: slice, student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of the smooth L1 over all angles at some rows."""
    return functional.smooth_l1_loss(
        _cosines(rows, student), _cosines(rows, teacher), reduction="sum"
    )


def _cosines(rows: slice, features: Tensor) -> Tensor:
    """[R, B, B] cosines of the angles at each of some rows."""
    directions = unit_vectors(_differences(rows, features))
    return directions @ directions.transpose(1, 2)
