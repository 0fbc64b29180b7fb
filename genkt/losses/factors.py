"""Distance between factors: compressed features of the teachers and the student's guess of them."""

from __future__ import annotations

from torch import Tensor

from genkt.losses.numerics import no_autocast, require_matrix, require_shape, widen
from genkt.losses.relational import unit_vectors


def factor_distance(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """L1 distance between L2-normalised factors, summed over their dimensions, mean over rows.

    Source: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer",
    the factor transfer loss with p = 1. Differs from the paper: factors of last-layer features
    (vectors) instead of feature maps, as the baseline of Qiu et al., "Transferring Knowledge from
    Large Foundation Models to Small Downstream Models"; a factor that is 0 stays 0 and passes no
    gradient. Computed in float32 or wider, whatever autocast says. Smallest valid batch: 1 row.

    Args:
        student_factors: [B, F] of the translator.
        teacher_factors: [B, F] of the paraphraser.

    Returns:
        Scalar without unit, in [0, 2 sqrt(F)].

    Raises:
        UserError: not matrices of floats, or different shapes.

    Example:
        >>> import torch
        >>> factor_distance(torch.tensor([[0.0, 2.0]]), torch.tensor([[5.0, 0.0]])).item()
        2.0
    """
    require_matrix(student_factors, "student factors")
    require_matrix(teacher_factors, "teacher factors")
    require_shape(teacher_factors, tuple(student_factors.shape), "teacher factors")
    with no_autocast(student_factors):
        student, teacher = (
            unit_vectors(widen(student_factors)),
            unit_vectors(widen(teacher_factors)),
        )
        return (student - teacher).abs().sum(dim=1).mean()
