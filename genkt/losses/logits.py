"""Losses on logits: cross-entropy on labels, Kullback-Leibler divergence from teachers.

All of them compute in float32 or wider, whatever autocast says. NaN inputs give NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from genkt.losses.numerics import (
    Teachers,
    listed,
    no_autocast,
    require_matrix,
    require_same_rows,
    require_shape,
    widen,
)
from genkt.types import UNLABELLED, UserError

MIN_CLASSES = 2


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the labelled rows; 0 with zero gradient where none is.

    Smallest valid batch: 1 row, labelled or not.

    Args:
        student_logits: [B, C], C >= 2.
        labels: [B] int64 in 0..C-1, ``UNLABELLED`` where the class is unknown.

    Returns:
        Scalar.

    Raises:
        UserError: wrong shapes or types, or fewer than two classes.

    Example:
        >>> round(cross_entropy(torch.zeros(3, 4), torch.tensor([1, -1, 0])).item(), 4)
        1.3863
    """
    require_matrix(student_logits, "student logits", min_columns=MIN_CLASSES)
    require_labels(student_logits, labels)
    with no_autocast(student_logits):
        summed = functional.cross_entropy(
            widen(student_logits), labels, ignore_index=UNLABELLED, reduction="sum"
        )
        return summed / (labels != UNLABELLED).sum().clamp(min=1)


def require_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise unless ``labels`` is [B] int64, one for each row of ``logits``.

    Raises:
        UserError: another shape or type.
    """
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise UserError.of("labels", "[B] int64", f"{list(labels.shape)} {str(labels.dtype)[6:]}")
    require_same_rows(logits, labels, "labels")


def kl_distillation(
    student_logits: Tensor, teacher_logits: Teachers, *, temperature: float = 1.0
) -> Tensor:
    """KL-Dist: T^2 / B sum KL(softmax(z_t / T) || softmax(z_s / T)), the teacher first.

    Several teachers: KL(mean_k softmax(z_k / T) || softmax(z_s / T)), against the mean of their
    tempered probabilities. 0 at equality. Smallest valid batch: 1 row.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network"; Roth et al., "Fantastic
    Gains and Where to Find Them", Eq. 1. Differs from the latter as printed, where the arguments
    are exchanged; its released code computes this.

    Args:
        student_logits: [B, C], C >= 2.
        teacher_logits: [B, C]; several teachers: a list.
        temperature: T > 0, the same for all.

    Returns:
        Scalar, nats times T^2.

    Raises:
        UserError: wrong shapes or types, fewer than two classes, no teacher, T not a positive
            number.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> kl_distillation(z, z + 5, temperature=2.0).abs().item() < 1e-6
        True
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> round(kl_distillation(torch.zeros(1, 2), [one, other]).item(), 6)
        0.0
    """
    teachers = _check_distillation(student_logits, teacher_logits, temperature)
    with no_autocast(student_logits):
        student = functional.log_softmax(widen(student_logits) / temperature, dim=1)
        teacher = _log_mean_probabilities(teachers, temperature)
        divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence * temperature**2


def _check_distillation(
    student_logits: Tensor, teacher_logits: Teachers, temperature: float
) -> list[Tensor]:
    """The teachers' logits as a list."""
    require_matrix(student_logits, "student logits", min_columns=MIN_CLASSES)
    teachers = listed(teacher_logits, "teacher logits")
    for index, logits in enumerate(teachers):
        require_matrix(logits, f"logits of teacher {index}")
        require_shape(logits, tuple(student_logits.shape), f"logits of teacher {index}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError.of("temperature", "a number > 0", temperature)
    return teachers


def _log_mean_probabilities(teachers_logits: Sequence[Tensor], temperature: float) -> Tensor:
    # In log space: a probability that underflows keeps its logarithm.
    logs = [
        functional.log_softmax(widen(logits) / temperature, dim=1) for logits in teachers_logits
    ]
    if len(logs) == 1:
        return logs[0]
    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))


def soft_target_cross_entropy(
    student_logits: Tensor, teacher_logits: Teachers, *, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy against the teachers' mean tempered probabilities.

    -T^2 / B sum_i sum_c p_ic log softmax(z_s,i / T)_c with p = mean_k softmax(z_k / T): KL-Dist
    plus T^2 times the entropy of p, which is constant. So the gradient is KL-Dist's, and at
    equality the value is the entropy, not 0. Source: Hinton et al., "Distilling the Knowledge in a
    Neural Network", Section 2; Roth et al., "Fantastic Gains and Where to Find Them", Appendix B.1.
    Smallest valid batch: 1 row.

    Args:
        student_logits: [B, C], C >= 2.
        teacher_logits: [B, C]; several teachers: a list.
        temperature: T > 0, the same for all.

    Returns:
        Scalar, nats times T^2.

    Raises:
        UserError: as in ``kl_distillation``.

    Example:
        >>> even = torch.zeros(3, 4)
        >>> round(soft_target_cross_entropy(even, even).item(), 4)
        1.3863
    """
    teachers = _check_distillation(student_logits, teacher_logits, temperature)
    with no_autocast(student_logits):
        student = functional.log_softmax(widen(student_logits) / temperature, dim=1)
        teacher = _log_mean_probabilities(teachers, temperature).exp()
        return -(teacher * student).sum(dim=1).mean() * temperature**2


def top_k_distillation(
    student_logits: Tensor, teacher_logits: Teachers, *, temperature: float = 1.0, top_k: int
) -> Tensor:
    """KL-Dist over the classes that the teachers find most probable, row by row.

    The student's and the teachers' probabilities are renormalised over these classes: nothing is
    said about the others. 0 at equality; at top_k = C it is ``kl_distillation``. Which of
    equally probable classes count is left open. Source: Roth et al., "Fantastic Gains and
    Where to Find Them", Appendix B.1 (top 10 and top 100 of ImageNet). Smallest valid batch: 1 row.

    Args:
        student_logits: [B, C], C >= 2.
        teacher_logits: [B, C]; several teachers: a list, and their mean tempered probabilities.
        temperature: T > 0, the same for all.
        top_k: how many classes of a row, 2..C.

    Returns:
        Scalar, nats times T^2.

    Raises:
        UserError: as in ``kl_distillation``, or ``top_k`` outside 2..C.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[5.0, 5.0, -5.0]])
        >>> round(top_k_distillation(student, teacher, top_k=2).item(), 6)
        0.0
    """
    teachers = _check_distillation(student_logits, teacher_logits, temperature)
    num_classes = student_logits.shape[1]
    if not MIN_CLASSES <= top_k <= num_classes:
        raise UserError.of("top_k", f"{MIN_CLASSES}..{num_classes} classes", top_k)
    with no_autocast(student_logits):
        logs = _log_mean_probabilities(teachers, temperature)
        best, classes = logs.topk(top_k, dim=1)
        teacher = functional.log_softmax(best, dim=1)
        kept = (widen(student_logits) / temperature).gather(1, classes)
        student = functional.log_softmax(kept, dim=1)
        divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence * temperature**2
