"""Which synthesized samples to keep, and how different they are from each other.

Filters take one row per sample and return bool [N]. Nothing here runs a network: probabilities and
features come from the foundation model, or from any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genkt.types import UNLABELLED, UserError


@dataclass(frozen=True)
class Diversity:
    """How different the samples of a set are.

    Args:
        num_samples, num_sources: counted.
        within_source: mean cosine distance (0..2) between two samples of one source, averaged
            over the sources that have two or more; None where there are none.
        effective_number: of different samples, 1..num_samples: the Vendi score.
        distinct_tokens: share (0..1) of samples whose token grid does not repeat an earlier one;
            None where there are no tokens.
    """

    num_samples: int
    num_sources: int
    within_source: float | None
    effective_number: float
    distinct_tokens: float | None


def by_confidence(probabilities: Tensor, minimum: float) -> Tensor:
    """Keep samples whose most probable class reaches ``minimum``.

    Args:
        probabilities: [N, C].
        minimum: 0..1.

    Returns:
        bool [N].

    Raises:
        UserError: wrong shape, or a minimum outside 0..1.

    Example:
        >>> by_confidence(torch.tensor([[0.6, 0.4], [0.9, 0.1]]), 0.8).tolist()
        [False, True]
    """
    _require_matrix(probabilities, "probabilities")
    if not 0 <= minimum <= 1:
        raise UserError.of("confidence", "a minimum within 0..1", minimum)
    return probabilities.amax(dim=1) >= minimum


def by_agreement(probabilities: Tensor, reference: Tensor) -> Tensor:
    """Keep samples for which the model gives the class of their source, known or predicted.

    Args:
        probabilities: [N, C] of the samples.
        reference: of each sample's source: its label [N] int64, or its probabilities [N, C].

    Returns:
        bool [N].

    Raises:
        UserError: wrong shapes, or labels that are unknown or no classes.

    Example:
        >>> by_agreement(torch.tensor([[0.6, 0.4], [0.9, 0.1]]), torch.tensor([1, 0])).tolist()
        [False, True]
    """
    _require_matrix(probabilities, "probabilities")
    num_samples, num_classes = probabilities.shape
    if reference.is_floating_point():
        if reference.shape != probabilities.shape:
            raise UserError.of(
                "agreement",
                f"probabilities {[num_samples, num_classes]} of the sources",
                list(reference.shape),
            )
        reference = reference.argmax(dim=1)
    elif reference.shape != (num_samples,):
        raise UserError.of(
            "agreement", f"one label for each of {num_samples} samples", list(reference.shape)
        )
    elif (reference == UNLABELLED).any():
        raise UserError(
            "agreement: a source without a label has nothing to agree with; "
            "give the model's probabilities of the sources instead"
        )
    elif ((reference < 0) | (reference >= num_classes)).any():
        raise UserError(f"agreement: expected labels within 0..{num_classes - 1}")
    return probabilities.argmax(dim=1) == reference


def diversity(features: Tensor, sources: Sequence[str], tokens: Tensor | None = None) -> Diversity:
    """Measure how different the samples are, in features and, where given, in tokens.

    Source of the effective number: Friedman & Dieng, "The Vendi Score", 2023, Eq. 1, with the
    cosine kernel: exp of the entropy of the eigenvalues of K / N.

    Args:
        features: [N, D], N >= 1.
        sources: N ids of the pictures that the samples were made from.
        tokens: [N, h, w], or None.

    Raises:
        UserError: no samples, or different numbers of rows.
    """
    rows = _unit_rows(features).double()
    counts = {"sources": len(sources), **({} if tokens is None else {"tokens": len(tokens)})}
    for name, count in counts.items():
        if count != len(rows):
            raise UserError.of("diversity", f"{len(rows)} {name}, one per sample", count)
    if not len(rows):
        raise UserError.of("diversity", "at least one sample", "none")
    names = {name: index for index, name in enumerate(dict.fromkeys(sources))}
    groups = torch.tensor([names[name] for name in sources], device=rows.device)
    distinct = None
    if tokens is not None:
        distinct = len(torch.unique(tokens.flatten(1), dim=0)) / len(rows)
    return Diversity(
        num_samples=len(rows),
        num_sources=len(names),
        within_source=_within(rows, groups, len(names)),
        effective_number=_effective_number(rows),
        distinct_tokens=distinct,
    )


def _within(rows: Tensor, groups: Tensor, num_groups: int) -> float | None:
    """From sums alone: the similarities of all pairs are |sum x|^2 - sum |x|^2."""
    sums = rows.new_zeros(num_groups, rows.shape[1]).index_add_(0, groups, rows)
    own = rows.new_zeros(num_groups).index_add_(0, groups, rows.square().sum(dim=1))
    sizes = torch.bincount(groups, minlength=num_groups)
    several = sizes > 1
    if not several.any():
        return None
    pairs = (sizes * (sizes - 1))[several]
    similarity = (sums.square().sum(dim=1) - own)[several] / pairs
    return float((1 - similarity).mean())


def _effective_number(rows: Tensor) -> float:
    # X X^T and X^T X have the same eigenvalues above 0: take the smaller.
    kernel = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(kernel).clamp(min=0)
    if not values.any():
        return 1.0  # nothing but zero features: all samples look alike
    return float(torch.special.entr(values / values.sum()).sum().exp())


def _unit_rows(features: Tensor) -> Tensor:
    _require_matrix(features, "features")
    return torch.nn.functional.normalize(features.float(), dim=1)


def _require_matrix(tensor: Tensor, name: str) -> None:
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise UserError.of(
            name, "floats [rows, columns]", f"{str(tensor.dtype)[6:]} {list(tensor.shape)}"
        )
    if not torch.isfinite(tensor).all():
        raise UserError.of(name, "finite numbers", "NaN or infinity")
