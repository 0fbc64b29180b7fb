"""From a name to a model: timm names, local folders and checkpoints, genkt's shipped models."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from genkt.data.transform import ImageTransform
from genkt.io import derive_seed, did_you_mean, resource
from genkt.models.backbone import Backbone, transform_of
from genkt.models.heads import heads_of
from genkt.types import UserError

SHIPPED_PREFIX = "genkt:"


@dataclass(frozen=True)
class ModelSpec:
    """What to build.

    Args:
        name: a timm name (``vit_small_patch14_dinov2.lvd142m``), ``hf-hub:owner/name``,
            ``local-dir:PATH``, or ``genkt:NAME`` for a model shipped in ``checkpoints/``.
        pretrained: load the weights that belong to the name.
        weights: a .safetensors / .pth file to load instead; its head may have other classes.
        args: keyword arguments for ``timm.create_model`` (e.g. layers, channels, img_size).
        transform: replaces parts of the input transform the model declares
            (input_size as [H, W], mean, std, interpolation, crop_pct).
        channels_last: lay images out channels last in memory: convolutions run a third faster so
            on a CPU, but torch 2.15 crashes there for some networks (fastvit_t8 for one).
    """

    name: str
    pretrained: bool = True
    weights: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    channels_last: bool = False


def load_model(spec: ModelSpec, *, num_classes: int | None = None, seed: int = 0) -> Backbone:
    """Build the model, its weights loaded, its head replaced when ``num_classes`` differs.

    Args:
        num_classes: classes of the task, or None to keep the head the weights came with.
        seed: of every weight that is not loaded (a new head, a student from scratch).

    Raises:
        UserError: unknown name, weights that cannot be found, read, downloaded or fitted.

    Example:
        >>> model = load_model(ModelSpec("genkt:digits_teacher"), num_classes=10)
        >>> model.num_classes
        10
    """
    fault = name_fault(spec.name)
    if fault:
        raise UserError(fault)
    timm_name = shipped_path(spec.name)
    args = dict(spec.args)
    if spec.transform:
        overlay = dict(spec.transform)
        if "input_size" in overlay:
            overlay["input_size"] = (3, *overlay["input_size"])
        args["pretrained_cfg_overlay"] = overlay
    if num_classes is not None:
        args["num_classes"] = num_classes
    state = read_checkpoint(Path(spec.weights)) if spec.weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        model = _create(timm_name, spec, args)
        if state is not None and num_classes is None:
            classes = _classes_of(model, state)
            # Built again: some models' reset_classifier leaves out a head that their args gave.
            if classes != model.num_classes:
                model = _create(timm_name, spec, {**args, "num_classes": classes})
    if state is not None:
        _load_state(model, state, spec)
    backbone = Backbone(model, _declared_transform(model, spec.name), spec.name)
    backbone.channels_last = spec.channels_last
    return backbone


def shipped_path(name: str) -> str:
    """``genkt:NAME`` as timm's ``local-dir:PATH``; other names unchanged."""
    if not name.startswith(SHIPPED_PREFIX):
        return name
    return f"local-dir:{resource('checkpoints') / name.removeprefix(SHIPPED_PREFIX)}"


def name_fault(name: str) -> str | None:
    """One line on what is wrong with a model name, or None; nothing is built or downloaded."""
    from timm.models import is_model, list_models  # type: ignore[attr-defined]

    if name.startswith(SHIPPED_PREFIX):
        home, short = resource("checkpoints"), name.removeprefix(SHIPPED_PREFIX)
        shipped = sorted(path.parent.name for path in home.glob("*/config.json"))
        if short not in shipped:
            return f'model "{name}": not shipped with genkt (shipped: {", ".join(shipped)}).'
        return None
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "config.json").is_file():
            return f'model "{name}": expected a folder with config.json, found none at {folder}.'
        return None
    if name.startswith(("hf-hub:", "hf_hub:")):
        return None
    if "/" in name:
        return (
            f'model "{name}": a path or hub name needs a prefix: local-dir:{name} or hf-hub:{name}.'
        )
    base, _, tag = name.partition(".")
    if not is_model(base):
        return f'model "{name}": not a timm model.{did_you_mean(base, list_models())}'
    if tag and name not in list_models(f"{base}.*", pretrained=True):
        tags = [known.split(".", 1)[1] for known in list_models(f"{base}.*", pretrained=True)]
        return (
            f'model "{name}": {base} has no weights "{tag}" (it has: {", ".join(tags) or "none"}).'
        )
    return None


def _create(timm_name: str, spec: ModelSpec, args: dict[str, Any]) -> nn.Module:
    import timm

    pretrained = spec.pretrained and not spec.weights
    try:
        model: nn.Module = timm.create_model(timm_name, pretrained=pretrained, **args)
    except TypeError as error:
        raise UserError(f'model "{spec.name}": timm does not take these args: {error}') from error
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f'model "{spec.name}": its weights are damaged: {_line(error)}') from error
    except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
        local = not pretrained or timm_name.startswith("local-dir:")
        if local or not isinstance(error, OSError):
            raise UserError(
                f'model "{spec.name}": cannot be built: {_line(error)}. Check its args; where it '
                "has no weights of its own, set pretrained=false."
            ) from error
        raise UserError(
            f'model "{spec.name}": its pretrained weights could not be fetched '
            f"({type(error).__name__}). Offline? Give a file (weights=PATH), a folder "
            "(local-dir:PATH), fill the Hugging Face cache beforehand, or set pretrained=false."
        ) from error
    return model


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")


def _declared_transform(model: nn.Module, name: str) -> ImageTransform:
    try:
        return transform_of(model)
    except UserError as error:
        raise UserError(f'model "{name}": {error}') from error


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch checkpoint.

    Torch files are read with ``weights_only=True``: nothing in them is executed. Wrapper keys
    (``state_dict``, ``model``, EMA variants, ``module.``) are seen through.

    Raises:
        UserError: no such file, or not a checkpoint.
    """
    from timm.models import load_state_dict  # type: ignore[attr-defined]

    if not path.is_file():
        raise UserError(f'weights "{path}": no such file')
    try:
        state: object = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises anything
        raise UserError(f'weights "{path}": not a readable checkpoint: {_line(error)}') from error
    if not isinstance(state, dict) or not state:
        raise UserError(f'weights "{path}": expected named tensors, got a {type(state).__name__}')
    other = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(
            f'weights "{path}": expected named tensors, alone or under state_dict or model, got '
            f"a {type(state[other[0]]).__name__} at {other[0]}"
        )
    return state


def _head_names(model: nn.Module) -> set[str]:
    """The classifier's weights, as the model's state dict calls them."""
    head = {id(parameter) for part in heads_of(model) for parameter in part.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in head}


def _classes_of(model: nn.Module, state: dict[str, Tensor]) -> int:
    """How many classes the weights have; the model's own number where they do not say."""
    own: int = model.num_classes  # type: ignore[assignment]
    expected = model.state_dict()
    # Not every weight of a head has a row a class: some normalise its input first.
    rows = [name for name in _head_names(model) if expected[name].shape[0] == own]
    sizes = {state[name].shape[0] for name in rows if name in state}
    return sizes.pop() if len(sizes) == 1 else own


def _load_state(model: nn.Module, state: dict[str, Tensor], spec: ModelSpec) -> None:
    """Load tensors into ``model``; only those of its head may differ in shape or be missing.

    Raises:
        UserError: weights of another architecture.
    """
    head, expected = _head_names(model), model.state_dict()
    other = {key for key in state.keys() & head if state[key].shape != expected[key].shape}
    state = {key: value for key, value in state.items() if key not in other}
    wrong = [k for k in state if k in expected and state[k].shape != expected[k].shape]
    missing = [k for k in expected if k not in state and k not in head]
    unknown = [k for k in state if k not in expected]
    if wrong or missing or unknown:
        example = (wrong or missing or unknown)[0]
        raise UserError(
            f'weights "{spec.weights}": not of {spec.name}: {len(missing)} of {len(expected)} '
            f"tensors missing, {len(unknown)} unknown, {len(wrong)} of another shape "
            f"(first: {example})"
        )
    model.load_state_dict(state, strict=False)
