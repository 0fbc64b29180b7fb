"""Relational distillation: distances and angles between the rows of a batch.

Source: Park et al., "Relational Knowledge Distillation", Section 3.2. Everything computes in
float32 or wider, whatever autocast says, and from differences of rows: from inner products, equal
rows would get a small random distance. Rows that coincide have distance 0 and direction 0, both
with gradient 0.

B rows lie in a space of at most B dimensions: wider features are first written in a basis of it,
which keeps distances and angles and makes their differences B / D as wide.

Angles are formed at some rows at a time. Where that takes several rounds, each is computed again
for its gradient instead of kept, so that memory stays at a few times ``MOST_NUMBERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from genkt.losses.numerics import (
    Teachers,
    in_one_type,
    no_autocast,
    require_matrix,
    require_same_rows,
    side_by_side,
)

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


def rkd_distance(student_features: Tensor, teacher_features: Teachers) -> Tensor:
    """Smooth L1 (threshold 1) between the pairwise distances, mean over B^2.

    Euclidean distances, divided by the mean of the positive ones of their own batch; the gradient
    flows through the student's mean too. Invariant to translation and orthogonal transforms of
    either side's features and to one positive factor on all of them.

    Source: Park et al., "Relational Knowledge Distillation", Section 3.2.1. Differs from the paper:
    the mean instead of the sum (a factor on its weight), as in its released code. Smallest valid
    batch: 3 rows.

    Args:
        student_features: [B, D_s], B >= 3.
        teacher_features: [B, D_t]; several teachers: a list, concatenated column-wise.

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
    features = _checked(student_features, teacher_features)
    with no_autocast(student_features):
        student, teacher = map(_relative_distances, features)
        return functional.smooth_l1_loss(student, teacher)


def rkd_angle(student_features: Tensor, teacher_features: Teachers) -> Tensor:
    """Smooth L1 (threshold 1) between the cosines of all angles of three rows, mean over B^3.

    At row i the cosine between the directions to rows j and k; 0 where j or k coincides with i.
    Costs B^3 multiplications for each of the min(B, D) coordinates of either side; neither B^3 nor
    B^2 D numbers are kept at once where they exceed ``MOST_NUMBERS``. Invariant as
    ``rkd_distance`` is.

    Source: Park et al., "Relational Knowledge Distillation", Section 3.2.2. Differs from the paper:
    the mean instead of the sum (a factor on its weight), as in its released code. Smallest valid
    batch: 3 rows.

    Args:
        student_features: [B, D_s], B >= 3.
        teacher_features: [B, D_t]; several teachers: a list, concatenated column-wise.

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
    features = _checked(student_features, teacher_features)
    with no_autocast(student_features):
        student, teacher = map(_coordinates, features)
        width = max(len(student), student.shape[1], teacher.shape[1])
        sums = _in_rounds(partial(_angle_difference, features[0].dtype), width, student, teacher)
        return torch.stack(sums).sum() / len(student) ** 3


def _checked(student_features: Tensor, teacher_features: Teachers) -> tuple[Tensor, ...]:
    """The student's features and all teachers', in one float type."""
    joined = side_by_side(teacher_features, "teacher features")
    require_matrix(student_features, "student features", min_rows=MIN_ROWS)
    require_matrix(joined, "teacher features")
    require_same_rows(student_features, joined, "teacher features")
    return in_one_type(student_features, joined)


def _coordinates(features: Tensor) -> Tensor:
    """[B, min(B, D)] rows with the same differences in an orthonormal basis of what they span.

    The loss depends on inner products of rows alone, so its gradient lies in the rows' span and
    passes through a constant basis unchanged. float64 keeps differences of close rows as exact
    as those of the features. A product may round equal rows differently: they take the value of
    the first of them, each with its own gradient.
    """
    if features.shape[1] <= len(features):
        return features
    wide = features.double()
    with torch.no_grad():
        basis = torch.linalg.qr(wide.T).Q
        first = _first_equal(wide)
    points = wide @ basis
    equal: Tensor = points + (points[first] - points).detach()
    return equal


def _first_equal(rows: Tensor) -> Tensor:
    """[B] for each row of float64 the first one that equals it.

    Python does not wait for the device here, as it does in ``torch.unique``. Equal rows have equal
    keys, as whole numbers add up alike in any order; the row that a key names is compared too.
    """
    own = torch.arange(len(rows), device=rows.device)
    factors = _mixed(_mixed(torch.arange(1, rows.shape[1] + 1, device=rows.device))) | 1
    bits = (rows + 0.0).view(torch.int64)  # -0.0 becomes 0.0, which it equals
    keys = (_mixed(bits) * factors).sum(dim=1)
    first = (keys[:, None] == keys).int().argmax(dim=1)
    return torch.where((rows[first] == rows).all(dim=1), first, own)


def _mixed(numbers: Tensor) -> Tensor:
    """int64, each number another one: what only its high bits tell is in its low bits too."""
    return (numbers ^ (numbers >> 32)) * -0x61C8864680B583EB


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


def _differences(rows: slice, points: Tensor, dtype: torch.dtype) -> Tensor:
    """[R, B, D] from each of some rows to every row; exactly 0 between equal rows."""
    return (points[None, :, :] - points[rows, None, :]).to(dtype)


def _relative_distances(features: Tensor) -> Tensor:
    """[B, B] distances over the mean of the positive ones; all 0 where there is none."""
    points = _coordinates(features)
    # From differences, not from products: 0, without gradient, between equal rows.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances.to(features.dtype)
    num_positive = (distances != 0).sum()
    mean = distances.sum() / num_positive.clamp(min=1)
    return distances / torch.where(num_positive > 0, mean, 1.0)


def _angle_difference(dtype: torch.dtype, rows: slice, student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of the smooth L1 over all angles at some rows."""
    return functional.smooth_l1_loss(
        _cosines(rows, student, dtype), _cosines(rows, teacher, dtype), reduction="sum"
    )


def _cosines(rows: slice, points: Tensor, dtype: torch.dtype) -> Tensor:
    """[R, B, B] cosines of the angles at each of some rows."""
    directions = unit_vectors(_differences(rows, points, dtype))
    return directions @ directions.transpose(1, 2)
