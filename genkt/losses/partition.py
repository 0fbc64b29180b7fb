"""Data partitioning: which model answers for which row, and the divergence from the answers.

Source: Roth et al., "Fantastic Gains and Where to Find Them", Section 4.2 (one teacher) and 4.3
(several in parallel). All of it computes in float32 or wider, whatever autocast says. NaN
inputs give NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from genkt.losses.logits import (
    MIN_CLASSES,
    kl_distillation,
    require_labels,
    top_k_distillation,
)
from genkt.losses.numerics import (
    no_autocast,
    require_matrix,
    require_same_rows,
    require_shape,
    widen,
)
from genkt.types import UNLABELLED, UserError


def largest_probability(logits: Tensor) -> Tensor:
    """Unsupervised score of a model: every row's largest probability, at temperature 1.

    Source: Roth et al., Section 4.2, after Eq. 4. Whatever the temperature of the divergence, the
    score is at T = 1. Smallest valid batch: 1 row.

    Args:
        logits: [B, C], C >= 2.

    Returns:
        [B] in [1 / C, 1].

    Raises:
        UserError: not a matrix of floats, or fewer than two classes.
    """
    require_matrix(logits, "logits", min_columns=MIN_CLASSES)
    with no_autocast(logits):
        return functional.softmax(widen(logits), dim=1).amax(dim=1)


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Supervised score of a model: every row's probability of its label, at temperature 1.

    Source: Roth et al., Eq. 4. Differs from the paper, where every row has a label: a row without
    one is scored by ``largest_probability``. Smallest valid batch: 1 row.

    Args:
        logits: [B, C], C >= 2.
        labels: [B] int64, ``UNLABELLED`` where unknown.

    Returns:
        [B] in [0, 1].

    Raises:
        UserError: not a matrix of floats, fewer than two classes, or labels of another type or
            number.
    """
    require_matrix(logits, "logits", min_columns=MIN_CLASSES)
    require_labels(logits, labels)
    with no_autocast(logits):
        probabilities = functional.softmax(widen(logits), dim=1)
        known = labels != UNLABELLED
        own = probabilities.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
        return torch.where(known, own, probabilities.amax(dim=1))


def winners(scores: Sequence[Tensor]) -> Tensor:
    """Which model answers for each row: the first of those with the highest score.

    With the frozen student in front a teacher wins a row only by a strictly higher score, as in
    Eq. 4. Source: Roth et al., Eq. 4 and Section 4.3.

    Args:
        scores: one [B] per model, the frozen student's first.

    Returns:
        [B] int64, index into ``scores``.

    Raises:
        UserError: no model, or different numbers of rows.
    """
    if not scores:
        raise UserError.of("scores", "those of at least one model", "none")
    for index, score in enumerate(scores):
        require_same_rows(scores[0], score, f"scores of model {index}")
    # argmax returns the first of equal values. NaN counts as the highest, so it is not hidden.
    return torch.stack(list(scores)).argmax(dim=0)


def merged_rows(models_logits: Sequence[Tensor], winner: Tensor) -> Tensor:
    """Every row's logits from the model that won it.

    Args:
        models_logits: at least one [B, C], in the order of the scores.
        winner: [B] int64, index of a model.

    Returns:
        [B, C].

    Raises:
        UserError: no model, logits of different shapes, or another number of winners.
    """
    if not models_logits:
        raise UserError.of("logits", "those of at least one model", "none")
    first = models_logits[0]
    for index, logits in enumerate(models_logits):
        require_matrix(logits, f"logits of model {index}")
        require_shape(logits, tuple(first.shape), f"logits of model {index}")
    require_same_rows(first, winner, "winners")
    stacked = torch.stack([widen(logits) for logits in models_logits])
    return stacked[winner, torch.arange(len(winner), device=winner.device)]


def partitioned_distillation(
    student_logits: Tensor,
    models_logits: Sequence[Tensor],
    winner: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """KL+DP: T^2 / B sum KL over all rows, each against the model that won it.

    Source: Roth et al., Eq. 5. Differs from the paper as printed: KL has the target first, as in
    ``kl_distillation``. 0 where the student equals the winner in every row. Smallest valid batch:
    1 row.

    Args:
        student_logits: [B, C], C >= 2.
        models_logits: the frozen student's [B, C], then one per teacher.
        winner: [B] from ``winners``.
        temperature: T > 0.

    Returns:
        Scalar, nats times T^2.

    Raises:
        UserError: wrong shapes or types, T not a positive number.

    Example:
        >>> unsure, sure = torch.zeros(1, 2), torch.tensor([[3.0, 0.0]])
        >>> winner = winners([largest_probability(unsure), largest_probability(sure)])
        >>> winner.tolist()
        [1]
        >>> partitioned_distillation(sure, [unsure, sure], winner).item()
        0.0
    """
    return kl_distillation(
        student_logits, merged_rows(models_logits, winner), temperature=temperature
    )


def partitioned_top_k_distillation(
    student_logits: Tensor,
    models_logits: Sequence[Tensor],
    winner: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int,
) -> Tensor:
    """KL+DP over the classes that each row's winner finds most probable.

    Winner and student are renormalised over these classes. 0 where the student equals the winner
    in every row; at top_k = C it is ``partitioned_distillation``. Source: Roth et al., Eq. 5 with
    the restriction of Appendix B.1, which the paper tries on KL-Dist alone. Smallest valid batch:
    1 row.

    Args:
        student_logits: [B, C], C >= 2.
        models_logits: the frozen student's [B, C], then one per teacher.
        winner: [B] from ``winners``.
        temperature: T > 0.
        top_k: how many classes of a row, 2..C.

    Returns:
        Scalar, nats times T^2.

    Raises:
        UserError: as in ``partitioned_distillation``, or ``top_k`` outside 2..C.
    """
    target = merged_rows(models_logits, winner)
    return top_k_distillation(student_logits, [target], temperature=temperature, top_k=top_k)
