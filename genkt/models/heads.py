"""The heads of a timm model: which they are, and several of them as one classifier.

timm averages the heads of distilled and multi-branch models in ``forward_head``, some with weights
that are learned. So ``forward_head`` computes the logits here too: a hook reads the input of each
head, or replaces it by a part of given features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


def heads_of(model: nn.Module) -> list[nn.Module]:
    """The layers that turn vectors into logits, after timm's ``get_classifier``."""
    return _flat(model.get_classifier())  # type: ignore[operator]


def _flat(part: object) -> list[nn.Module]:
    if isinstance(part, (tuple, list, nn.ModuleList)):
        return [head for inner in part for head in _flat(inner)]
    if not isinstance(part, nn.Module):
        return []  # this variant has no such head
    return [getattr(part, "fc", part)]  # the head around ``fc`` pools: it reads maps


def mean_of_heads(logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Logits [B, C]; the mean of the tuple that timm gives in distilled training."""
    return logits if isinstance(logits, Tensor) else torch.stack(tuple(logits)).mean(dim=0)


@dataclass(frozen=True)
class JoinedHeads:
    """How several heads read one feature vector.

    Args:
        widths: of the vectors that enter the heads, side by side in the features.
        reads: the place of each head's vector among them.
        like: what ``forward_features`` gives, without data.
        weights: the names of all weights between features and logits.
    """

    widths: tuple[int, ...]
    reads: tuple[int, ...]
    like: object
    weights: tuple[str, ...] = ()

    def classify(self, model: nn.Module, features: Tensor) -> Tensor:
        """Features [B, D] -> logits [B, C]."""
        heads = heads_of(model)
        if not self.reads:  # a model without classes
            return features
        parts = torch.split(features, list(self.widths), dim=1)
        hooks = [_given(parts[place]) for place in self.reads]
        with _hooked(heads, hooks):
            blank = _blank(self.like, features)
            return mean_of_heads(model.forward_head(blank))  # type: ignore[operator]


def run_heads(model: nn.Module, feature_map: object) -> tuple[Tensor, Tensor]:
    """What ``forward_features`` gave -> features [B, D] and logits [B, C].

    Features are the vectors that enter the heads, side by side; a vector that several heads read is
    there once. A model without classes gives the input of its heads twice.

    Raises:
        ValueError: the input of a head is not a vector.
    """
    vectors, _, logits = _run(model, feature_map)
    return torch.cat(vectors, dim=1) if vectors else logits, logits


def join_heads(model: nn.Module, feature_map: object) -> JoinedHeads:
    """How the heads of a model, in evaluation mode, read the features of ``run_heads``.

    Raises:
        ValueError: as ``run_heads``.
    """
    vectors, reads, _ = _run(model, feature_map)
    widths = tuple(vector.shape[1] for vector in vectors)
    joined = JoinedHeads(widths, reads, without_data(feature_map))
    if not vectors:
        return joined
    return replace(joined, weights=_weights_between(model, joined, torch.cat(vectors, dim=1)))


def _run(model: nn.Module, feature_map: object) -> tuple[list[Tensor], tuple[int, ...], Tensor]:
    heads, seen = heads_of(model), dict[int, Tensor]()
    with _hooked(heads, [_kept(seen, place) for place in range(len(heads))]):
        logits = mean_of_heads(model.forward_head(feature_map))  # type: ignore[operator]
    if 0 < len(seen) < len(heads):
        raise ValueError(f"expected logits from all {len(heads)} heads, got {len(seen)} of them")
    different: list[Tensor] = []
    reads = []
    for _, vector in sorted(seen.items()):
        if vector.ndim < 2 or vector.shape[2:].numel() != 1:
            raise ValueError(f"expected a vector [B, D] for each head, got {list(vector.shape)}")
        same = [place for place, other in enumerate(different) if other is vector]
        reads.append(same[0] if same else len(different))
        different += [] if same else [vector]
    return [vector.flatten(1) for vector in different], tuple(reads), logits


def _weights_between(model: nn.Module, joined: JoinedHeads, features: Tensor) -> tuple[str, ...]:
    """The weights between features and logits: those of the heads and of their mix."""
    names, weights = zip(*model.named_parameters(), strict=True)
    trained = [weight.requires_grad for weight in weights]
    try:
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_(True)
            logits = joined.classify(model, features.detach())
            if not logits.requires_grad:
                return ()
            found = torch.autograd.grad(logits.sum(), weights, allow_unused=True)
    finally:
        for weight, was_trained in zip(weights, trained, strict=True):
            weight.requires_grad_(was_trained)
    return tuple(name for name, grad in zip(names, found, strict=True) if grad is not None)


@contextmanager
def _hooked(heads: Sequence[nn.Module], hooks: Sequence[Callable[..., object]]) -> Iterator[None]:
    """Each head with its hook before it, for this pass only: a lasting one would hold tensors."""
    with ExitStack() as handles:
        for head, hook in zip(heads, hooks, strict=True):
            handles.enter_context(head.register_forward_pre_hook(hook))
        yield


def _kept(seen: dict[int, Tensor], place: int) -> Callable[..., None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[place] = inputs[0]

    return hook


def _given(part: Tensor) -> Callable[..., Tensor]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return part.reshape(part.shape + inputs[0].shape[2:])  # [B, D, 1, 1] for a convolution

    return hook


def without_data(feature_map: object) -> object:
    """The shapes of what ``forward_features`` gave; None for parts without a shape."""
    if isinstance(feature_map, (tuple, list)):
        return _like(feature_map, [without_data(part) for part in feature_map])
    return torch.empty_like(feature_map, device="meta") if torch.is_tensor(feature_map) else None


def _blank(like: object, features: Tensor) -> object:
    """Zeros of a feature map's shape for as many rows as the features have."""
    if isinstance(like, (tuple, list)):
        return _like(like, [_blank(part, features) for part in like])
    if not isinstance(like, Tensor):
        return None
    return features.new_zeros(()).expand(len(features), *like.shape[1:])


def _like(parts: object, new: list[object]) -> object:
    return tuple(new) if isinstance(parts, tuple) else new
