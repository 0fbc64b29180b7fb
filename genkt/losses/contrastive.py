"""Contrastive losses: similarities within a batch, or with a memory of all images.

All of them compute in float32 or wider, whatever autocast says. Similarities are cosines; that of
a zero vector with anything is 0 and passes no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from genkt.losses.numerics import (
    Teachers,
    in_one_type,
    listed,
    no_autocast,
    require_map,
    require_matrix,
    require_same_rows,
    require_shape,
    widen,
)
from genkt.losses.relational import unit_vectors
from genkt.types import UserError

MIN_ROWS = 2
"""A single row has only itself to compare with."""


def similarity_distillation(student_features: Tensor, teacher_features: Teachers) -> Tensor:
    """CD: KL(teacher || student) between softmaxes over each row's cosines with all rows, mean.

    1 / B sum_i KL(softmax(S^t_i) || softmax(S^s_i)) with S_ij the cosine of rows i and j of one
    model; a row's own cosine, 1, is among them, as printed. 0 at equality; the scale of any row
    and a rotation of either side change nothing.

    Source: Roth et al., "Fantastic Gains and Where to Find Them", Eq. 6. Differs from the paper:
    the teacher comes first, as in ``kl_distillation``; Eq. 6 has the arguments the other way round.
    It does not say what is averaged either: here a row's divergence is summed over its B entries
    and the mean is over rows, while torch's default mean, over B^2 entries, is B times smaller.
    Smallest valid batch: 2 rows.

    Args:
        student_features: [B, D_s], B >= 2.
        teacher_features: [B, D_t]; several teachers: a list, and the mean of their divergences.

    Returns:
        Scalar, nats.

    Raises:
        UserError: not matrices of floats, B < 2, or different numbers of rows.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> similarity_distillation(5 * rows.flip(1), rows).abs().item() < 1e-6
        True
    """
    terms = [
        _similarity_term(student_features, each)
        for each in listed(teacher_features, "teacher features")
    ]
    return torch.stack(terms).mean()


def _similarity_term(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    _check_features(student_features, teacher_features)
    with no_autocast(student_features):
        student, teacher = (
            functional.log_softmax(unit @ unit.T, dim=1)
            for unit in _units(student_features, teacher_features)
        )
        return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def info_nce(student_features: Tensor, teacher_features: Teachers, *, temperature: float) -> Tensor:
    """InfoNCE: each row finds its image among the batch's by cosine / temperature, both ways.

    Mean of two cross-entropies: of student rows that look for their teacher row among all B, and
    of teacher rows that look for their student row.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    Eq. 4, in the symmetric form of Radford et al., "Learning Transferable Visual Models From
    Natural Language Supervision", Figure 3. Smallest valid batch: 2 rows. An image that is in the
    batch twice counts as another one.

    Args:
        student_features: [B, D], B >= 2.
        teacher_features: [B, D], in the same space; several teachers: a list, and their mean.
        temperature: above 0.

    Returns:
        Scalar, nats; log B where all similarities are equal.

    Raises:
        UserError: wrong shapes or types, B < 2, temperature not a positive number.

    Example:
        >>> rows = torch.eye(4)
        >>> round(info_nce(rows, torch.ones(4, 4), temperature=0.1).item(), 4)  # log 4
        1.3863
    """
    _check_temperature(temperature)
    terms = [
        _info_nce_term(student_features, each, temperature)
        for each in listed(teacher_features, "teacher features")
    ]
    return torch.stack(terms).mean()


def _info_nce_term(
    student_features: Tensor, teacher_features: Tensor, temperature: float
) -> Tensor:
    _check_features(student_features, teacher_features)
    require_shape(teacher_features, tuple(student_features.shape), "teacher features")
    with no_autocast(student_features):
        student, teacher = _units(student_features, teacher_features)
        scores = student @ teacher.T / temperature
        own = torch.arange(len(scores), device=scores.device)
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def memory_nce(
    similarities: Tensor, *, temperature: float, log_normalizer: Tensor, num_samples: int
) -> Tensor:
    """Noise-contrastive estimation of one positive against K negatives per row, mean over the rows.

    -log h_0 - sum_k log(1 - h_k) with h = p / (p + K / N), p = exp(cosine / temperature) / Z.

    Source: Tian et al., "Contrastive Representation Distillation", Eq. 18 and 19, one of its two
    directions. Differs from the paper: the constant Z, which is 1 there; its released code
    estimates it (``estimate_log_normalizer``), as here. That code adds 1e-7 to the denominator;
    from logarithms, as here, nothing needs it. Smallest valid batch: 1 row.

    Args:
        similarities: [B, K + 1] cosines, K >= 1: with the positive first, then with negatives.
        temperature: above 0.
        log_normalizer: log Z, a scalar tensor.
        num_samples: N that the negatives are drawn from.

    Returns:
        Scalar, nats, summed over the K + 1 decisions of a row.

    Raises:
        UserError: not such a matrix, temperature not a positive number, or N < 1.

    Example:
        >>> even = torch.zeros(1, 3)  # of p = 1 / 2 against K / N = 1 / 2: three even decisions
        >>> loss = memory_nce(
        ...     even, temperature=0.1, log_normalizer=torch.tensor(2.0).log(), num_samples=4)
        >>> round(loss.item() / 3, 4)  # log 2
        0.6931
    """
    num_negatives = _check_similarities(similarities, temperature, num_samples)
    with no_autocast(similarities):
        log_odds = widen(similarities) / temperature - widen(log_normalizer)
        log_odds = log_odds - math.log(num_negatives / num_samples)
        positive = functional.softplus(-log_odds[:, 0])
        negative = functional.softplus(log_odds[:, 1:]).sum(dim=1)
        return (positive + negative).mean()


def estimate_log_normalizer(
    similarities: Tensor, *, temperature: float, num_samples: int
) -> Tensor:
    """log Z, Z = N * mean of exp(cosine / temperature) over one batch and all its K + 1 columns.

    Source: the released code of Tian et al., "Contrastive Representation Distillation", which
    takes it from the first batch and keeps it. Smallest valid batch: 1 row.

    Args:
        similarities: [B, K + 1] cosines, K >= 1.
        temperature: above 0.
        num_samples: N.

    Returns:
        Scalar.

    Raises:
        UserError: as in ``memory_nce``.

    Example:
        >>> estimate = estimate_log_normalizer(torch.zeros(2, 3), temperature=0.1, num_samples=7)
        >>> round(estimate.exp().item(), 4)
        7.0
    """
    _check_similarities(similarities, temperature, num_samples)
    with no_autocast(similarities):
        scores = widen(similarities) / temperature
        return scores.flatten().logsumexp(dim=0) + math.log(num_samples / scores.numel())


def patch_cosine_distance(student_map: Tensor, teacher_map: Teachers) -> Tensor:
    """1 - cosine between the two maps' vectors at each place, mean over B and the places.

    The teacher's map is resized to the student's height and width: bilinear between the centres of
    its places, without smoothing where it shrinks. 0 where one is a positive multiple of the other
    at every place.

    Source: Vemulapalli et al., "Knowledge Transfer from Vision Foundation Models for Efficient
    Training of Small Task-specific Models", Appendix A.3 (patch features of DINOv2). Smallest
    valid batch: 1 row.

    Args:
        student_map: [B, D, H, W], projected to the teacher's D.
        teacher_map: [B, D, H', W']; several teachers: a list, and the mean of their distances.

    Returns:
        Scalar in [0, 2].

    Raises:
        UserError: not maps of floats, or another B or D.

    Example:
        >>> ones = torch.ones(1, 3, 2, 2)
        >>> round(patch_cosine_distance(2 * ones, torch.ones(1, 3, 5, 4)).item(), 4)
        0.0
    """
    terms = [_patch_term(student_map, each) for each in listed(teacher_map, "teacher maps")]
    return torch.stack(terms).mean()


def _patch_term(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    require_map(student_map, "student map")
    require_map(teacher_map, "teacher map")
    require_same_rows(student_map, teacher_map, "teacher map")
    if student_map.shape[1] != teacher_map.shape[1]:
        raise UserError.of(
            "student map", f"the teacher's {teacher_map.shape[1]} channels", student_map.shape[1]
        )
    with no_autocast(student_map):
        resized = functional.interpolate(
            widen(teacher_map), student_map.shape[2:], mode="bilinear", align_corners=False
        )
        student, teacher = _units(student_map.movedim(1, -1), resized.movedim(1, -1))
        return 1 - (student * teacher).sum(dim=-1).mean()


def _units(*vectors: Tensor) -> tuple[Tensor, ...]:
    return tuple(unit_vectors(each) for each in in_one_type(*vectors))


def _check_features(student_features: Tensor, teacher_features: Tensor) -> None:
    require_matrix(student_features, "student features", min_rows=MIN_ROWS)
    require_matrix(teacher_features, "teacher features")
    require_same_rows(student_features, teacher_features, "teacher features")


def _check_temperature(temperature: float) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError.of("temperature", "a number > 0", temperature)


def _check_similarities(similarities: Tensor, temperature: float, num_samples: int) -> int:
    """The number of negatives, K."""
    require_matrix(similarities, "similarities", min_columns=2)
    _check_temperature(temperature)
    if num_samples < 1:
        raise UserError.of("num_samples", "at least 1", num_samples)
    return similarities.shape[1] - 1
