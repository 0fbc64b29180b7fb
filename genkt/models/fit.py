"""Checks whether tensors are a model's weights, and adapts them where possible."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genkt.io import did_you_mean
from genkt.models.heads import heads_of

_FILTERS = (
    "checkpoint_filter_fn",
    "checkpoint_filter_fn_classifier",
    "_filter_fn",
    "_filter_torchvision_pretrained",
)
"""timm's name for the function that maps a family's original weight names to its own."""

_STATISTICS = ("running_mean", "running_var")
NO_WEIGHT = re.compile(
    r"(^|\.)(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask|"
    r"total_ops|total_params)$"
)
"""Entries besides the weights: counters, tables of constants, operation counts."""


@dataclass(frozen=True)
class Fitted:
    """Weights that a model can load.

    Args:
        tensors: by the model's names; those of the head may have other shapes.
        renamed: how many got another name.
        resized: names of those that got another shape, with both shapes.
        filled: names missing from the file that the model makes itself.
        left_out: names that the file has and the model does not need.
    """

    tensors: dict[str, Tensor]
    renamed: int
    resized: list[str]
    filled: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class Misfit:
    """Why tensors are not a model's weights: names of each kind.

    Args:
        size: how many tensors the model has.
        free: names that the file has and the model does not.
    """

    missing: list[str]
    unknown: list[str]
    shapes: list[str]
    size: int
    free: list[str]

    @property
    def badness(self) -> int:
        """How far they are from fitting."""
        return len(self.missing) + len(self.unknown) + len(self.shapes)

    def __str__(self) -> str:
        kinds = (("missing", self.missing), ("unknown", self.unknown), ("shape", self.shapes))
        first = "; ".join(f"{kind} {', '.join(names[:3])}" for kind, names in kinds if names)
        return (
            f"{len(self.missing)} of {self.size} tensors missing, {len(self.unknown)} unknown, "
            f"{len(self.shapes)} of another shape (first: {first})" + self._closest()
        )

    def _closest(self) -> str:
        """The closest name in the file to the first one that is missing."""
        if any("patch_embeddings.projection" in name for name in self.free):
            return (
                ". These are names of Hugging Face's transformers, which timm does not map; take "
                "timm's own copy of these weights"
            )
        close = did_you_mean(self.missing[0], self.free) if self.missing else ""
        return close.replace(" Did you mean", ". The file has").removesuffix("?")


class Target:
    """The names and shapes that a model expects of its weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.expected: dict[str, Tensor] = model.state_dict()
        self.heads = [_names_of(model, head) for head in heads_of(model)]
        self.head = head_names(model)
        trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self.wanted = [
            name
            for name in self.expected
            if name not in self.head and (name in trained or name.endswith(_STATISTICS))
        ]
        self.parts = {name.partition(".")[0] for name in self.expected}
        self._buffers = {name for name, _ in model.named_buffers()}
        self._heads = {name.partition(".")[0] for name in self.head}

    def fit(self, state: Mapping[str, Tensor]) -> Fitted | Misfit:
        """Plain names where they fit, else as timm's filter of the model's family maps them."""
        plain = self._fit(state, state)
        if isinstance(plain, Fitted):
            return plain
        best = plain
        for mapped in (self._filtered(state), state):
            found = self._fit(self._resized(mapped), state)
            if isinstance(found, Fitted):
                return found
            best = min(best, found, key=lambda misfit: misfit.badness)
        return best

    def _fit(self, state: Mapping[str, Tensor], raw: Mapping[str, Tensor]) -> Fitted | Misfit:
        fillable = self._buffers.difference(self.wanted)
        shaped = {k for k in state if k in self.expected and self._has_shape(k, state[k])}
        other = [k for k in state if k in self.expected and k not in shaped]
        shapes = [k for k in other if k not in self.head and k not in fillable]
        missing = [k for k in self.wanted if k not in state]
        extra = [k for k in state if k not in self.expected]
        unknown = [k for k in extra if self._is_part(k)]
        if missing or unknown or shapes:
            return self._misfit(state, missing, unknown, shapes)
        heads = {k for head in self.heads if self._has_whole(head, state) for k in head}
        body = shaped - self.head
        tensors = {k: v for k, v in state.items() if k in body or k in heads}
        made = [k for k in self.expected if k not in tensors and k not in self.head]
        return Fitted(
            tensors,
            renamed=sum(name not in raw for name in tensors),
            resized=[
                f"{k} {_shape(raw[k])} to {_shape(v)}"
                for k, v in tensors.items()
                if k in raw and raw[k].shape != v.shape
            ],
            filled=made,
            left_out=_left_out(raw, state, tensors, extra),
        )

    def _misfit(
        self,
        state: Mapping[str, Tensor],
        missing: list[str],
        unknown: list[str],
        shapes: list[str],
    ) -> Misfit:
        described = [
            f"{k} {_shape(state[k])} instead of {_shape(self.expected[k])}" for k in shapes
        ]
        free = [name for name in state if name not in self.expected]
        return Misfit(missing, unknown, described, len(self.expected), free)

    def _has_shape(self, name: str, value: Tensor) -> bool:
        return value.shape == self.expected[name].shape

    def _has_whole(self, head: set[str], state: Mapping[str, Tensor]) -> bool:
        """Whether a complete head is there, perhaps with other classes."""
        return all(k in state and state[k].ndim == self.expected[k].ndim for k in head)

    def _is_part(self, name: str) -> bool:
        """Whether a tensor that the model does not have is part of the network in the file.

        A further block, a norm and a class token are: without them the network computes something
        else. Decoders, mask tokens, projectors, auxiliary and other heads do not enter the
        features.
        """
        first, _, rest = name.partition(".")
        if NO_WEIGHT.search(name) or name in self._buffers:
            return False
        if first in self._heads or "mask" in first or first.lower().startswith("aux"):
            return False
        token = not rest and first.endswith(("token", "tokens"))
        return token or hasattr(self.model, first)

    def _filtered(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors as timm's own filter of the model's family maps and resizes them."""
        filter_fn = _filter_of(self.model)
        if filter_fn is None:
            return state
        try:
            mapped = filter_fn(dict(state), self.model)
        except Exception:  # made for another repository's names, it may raise anything
            return state
        named = isinstance(mapped, dict) and all(isinstance(v, Tensor) for v in mapped.values())
        return mapped if named else state

    def _resized(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Position tables and first convolutions in the model's shape, by timm's functions."""
        changed = dict(state)
        for name in self.expected.keys() & changed.keys():
            if not self._has_shape(name, changed[name]):
                resized = _resize(name, changed[name], self.expected[name], self.model)
                if resized is not None:
                    changed[name] = resized
        return changed


def head_names(model: nn.Module) -> set[str]:
    """Weights and statistics of the classifier, or of all heads, as the state dict calls them."""
    return {name for head in heads_of(model) for name in _names_of(model, head)}


def class_rows(model: nn.Module) -> set[str]:
    """Those of ``head_names`` with one row per class, that is, not of hidden layers."""
    layers = [layer for head in heads_of(model) for layer in head.modules()]
    linear = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d))]
    last = [layer for layer in linear if len(layer.weight) == model.num_classes]
    return {name for layer in last for name in _names_of(model, layer)}


def _names_of(model: nn.Module, part: nn.Module) -> set[str]:
    """The weights and statistics of a part of a model, as its state dict calls them."""
    own = {id(parameter) for parameter in part.parameters()}
    own |= {id(value) for name, value in part.named_buffers() if name.endswith(_STATISTICS)}
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name for name, value in named if id(value) in own}


def _resize(name: str, value: Tensor, expected: Tensor, model: nn.Module) -> Tensor | None:
    """The tensor in the expected shape, or None where timm has no rule for it."""
    from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
    from timm.models import adapt_input_conv  # type: ignore[attr-defined]

    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    first = getattr(model, "pretrained_cfg", {}).get("first_conv") or ()
    stems = {f"{stem}.weight" for stem in ((first,) if isinstance(first, str) else first)}
    try:
        if name == "pos_embed" and grid is not None and value.ndim == expected.ndim == 3:
            prefix = expected.shape[1] - grid[0] * grid[1]
            resized = resample_abs_pos_embed(value, list(grid), num_prefix_tokens=prefix)
        elif name in stems and value.ndim == expected.ndim == 4:
            resized = adapt_input_conv(expected.shape[1], value, base_chans=value.shape[1])
        else:
            return None
    except (RuntimeError, ValueError, NotImplementedError, AssertionError):
        return None
    return resized if resized.shape == expected.shape else None


def _filter_of(model: nn.Module) -> Callable[..., Any] | None:
    """The filter of the module that defines the model's name, as timm's builder is given it."""
    from timm.models import is_model, model_entrypoint  # type: ignore[attr-defined]

    name = str(getattr(model, "pretrained_cfg", {}).get("architecture", ""))
    if not is_model(name):
        return None
    home = sys.modules[model_entrypoint(name).__module__]
    found = next((getattr(home, each) for each in _FILTERS if hasattr(home, each)), None)
    if found is None:
        return None
    accepted = inspect.signature(found).parameters
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in accepted else {}

    def filter_fn(state: dict[str, Tensor], model: nn.Module) -> Any:
        return found(state, model, **options) if "model" in accepted else found(state)

    return filter_fn


def _left_out(
    raw: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    extra: Iterable[str],
) -> list[str]:
    """Names of the file that the model does not use; unclear where the filter fused tensors."""
    used, given = set(map(id, state.values())), set(map(id, raw.values()))
    fused = not used <= given
    gone = [k for k, v in raw.items() if k not in state and id(v) not in used]
    buffers = [k for k in state if k not in tensors and k not in extra]
    return [*extra, *buffers, *([] if fused else gone)]


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def values_fault(target: Target, fitted: Fitted) -> str | None:
    """What is wrong with the first weight that is not finite or not floating-point; or None."""
    for name, value in fitted.tensors.items():
        wants_real = target.expected[name].is_floating_point()
        if wants_real and not value.is_floating_point():
            return f"expected floating-point weights, got {value.dtype} at {name} (quantised?)"
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            return f"{count} of the {value.numel()} values of {name} are NaN or infinite"
    return None
