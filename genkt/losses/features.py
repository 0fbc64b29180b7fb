"""Regression between student and teacher features through a learned affine map.

Both compute in float32 or wider, whatever autocast says.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from genkt.losses.numerics import (
    Teachers,
    in_one_type,
    no_autocast,
    require_matrix,
    require_same_rows,
    require_shape,
    side_by_side,
)


def feature_regression(
    student_features: Tensor, teacher_features: Teachers, *, weight: Tensor, bias: Tensor
) -> Tensor:
    """Teacher features predicted from student features: mean over B D_t of (phi V^T + b - psi)^2.

    Source: Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
    Models", Eq. 7. Differs from the paper: the mean over D_t instead of the sum (a factor on
    beta, as in its released code), and an offset b. Smallest valid batch: 1 row.

    Args:
        student_features: phi [B, D_s].
        teacher_features: psi [B, D_t]; several teachers: a list, concatenated column-wise.
        weight: V [D_t, D_s].
        bias: b [D_t].

    Returns:
        Scalar, squared units of the teacher's features.

    Raises:
        UserError: wrong shapes or types.

    Example:
        >>> import torch
        >>> phi = torch.tensor([[1.0], [2.0]])
        >>> weight, bias = torch.tensor([[3.0]]), torch.tensor([1.0])
        >>> feature_regression(phi, 3 * phi, weight=weight, bias=bias).item()
        1.0
    """
    psi = _side_by_side(student_features, teacher_features)
    return _mean_squared_residual(student_features, psi, weight, bias)


def reverse_feature_regression(
    student_features: Tensor, teacher_features: Teachers, *, weight: Tensor, bias: Tensor
) -> Tensor:
    """Student features predicted from teacher features: mean over B D_s of (psi M^T + b - phi)^2.

    The objective of AFT without its kernel. Source: Qiu et al., "Transferring Knowledge from Large
    Foundation Models to Small Downstream Models", Eq. 6. Differs from the paper: the mean over
    D_s instead of the sum (a factor on beta, as in its released code). Smallest valid batch: 1 row.

    Args:
        student_features: phi [B, D_s].
        teacher_features: psi [B, D_t]; several teachers: a list, concatenated column-wise.
        weight: mu [D_s, D_t].
        bias: b [D_s].

    Returns:
        Scalar, squared units of the student's features.

    Raises:
        UserError: wrong shapes or types.

    Example:
        >>> import torch
        >>> psi = torch.tensor([[1.0], [2.0]])
        >>> weight, bias = torch.tensor([[3.0]]), torch.tensor([0.0])
        >>> reverse_feature_regression(3 * psi, psi, weight=weight, bias=bias).item()
        0.0
    """
    psi = _side_by_side(student_features, teacher_features)
    return _mean_squared_residual(psi, student_features, weight, bias)


def _side_by_side(student_features: Tensor, teacher_features: Teachers) -> Tensor:
    psi = side_by_side(teacher_features, "teacher features")
    require_matrix(student_features, "student features")
    require_matrix(psi, "teacher features")
    require_same_rows(student_features, psi, "teacher features")
    return psi


def _mean_squared_residual(source: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    require_shape(weight, (target.shape[1], source.shape[1]), "weight")
    require_shape(bias, (target.shape[1],), "bias")
    with no_autocast(source):
        source, target, weight, bias = in_one_type(source, target, weight, bias)
        return functional.mse_loss(functional.linear(source, weight, bias), target)
