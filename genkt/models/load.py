"""From a name to a model: timm names, local folders and checkpoints, genkt's shipped models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genkt.io import derive_seed, did_you_mean, resource
from genkt.models.backbone import Backbone, transform_of
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
    """

    name: str
    pretrained: bool = True
    weights: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        model = _create(timm_name, spec, args)
    if spec.weights:
        load_weights(model, Path(spec.weights), spec.name)
    return Backbone(model, transform_of(model), spec.name)


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
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained or timm_name.startswith("local-dir:"):
            reason = str(error).splitlines()[0]
            raise UserError(f'model "{spec.name}": cannot be built: {reason}') from error
        raise UserError(
            f'model "{spec.name}": its pretrained weights could not be fetched '
            f"({type(error).__name__}). Offline? Give a file (weights=PATH), a folder "
            "(local-dir:PATH), fill the Hugging Face cache beforehand, or set pretrained=false."
        ) from error
    return model


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a .safetensors or torch checkpoint into ``model``; only the head may differ in size.

    Torch files are read with ``weights_only=True``: nothing in them is executed. Wrapper keys
    (``state_dict``, ``model``, EMA variants, ``module.``) are seen through.

    Raises:
        UserError: no such file, not a checkpoint, or weights of another architecture.
    """
    import pickle

    from safetensors import SafetensorError
    from timm.models import load_state_dict  # type: ignore[attr-defined]

    if not path.is_file():
        raise UserError(f'weights "{path}": no such file')
    try:
        state = load_state_dict(str(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'weights "{path}": not a readable checkpoint: {reason}') from error
    head = {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
    own = dict(model.named_parameters())
    for key in list(state):
        if key in own and id(own[key]) in head and own[key].shape != state[key].shape:
            del state[key]
    expected = model.state_dict()
    wrong = [k for k in state if k in expected and state[k].shape != expected[k].shape]
    missing = [k for k in expected if k not in state and not (k in own and id(own[k]) in head)]
    unknown = [k for k in state if k not in expected]
    if wrong or missing or unknown:
        example = (wrong or missing or unknown)[0]
        raise UserError(
            f'weights "{path}": not of {name}: {len(missing)} of {len(expected)} tensors missing, '
            f"{len(unknown)} unknown, {len(wrong)} of another shape (first: {example})"
        )
    model.load_state_dict(state, strict=False)
