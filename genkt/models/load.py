"""From a name to a model: timm names, local folders and checkpoints, genkt's shipped models."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from genkt.data.transform import ImageTransform, whole_overlay
from genkt.io import derive_seed, did_you_mean, resource
from genkt.models.backbone import Backbone, transform_of
from genkt.models.packaged_networks import NETWORKS, PackagedNetwork
from genkt.models.tensor_files import read_content, reason
from genkt.models.weights import load_weights
from genkt.types import UserError

SHIPPED_PREFIX = "genkt:"

_ADVICE = "weights_only"
"""Replaces the advice of torch and timm to run a file's code, which genkt never does."""


@dataclass(frozen=True)
class ModelSpec:
    """What to build.

    Args:
        name: a timm name (``vit_small_patch14_dinov2.lvd142m``), ``hf-hub:owner/name``,
            ``local-dir:PATH``, or ``genkt:NAME`` for a model shipped in ``checkpoints/`` or in a
            package that the user brings (``NETWORKS``).
        pretrained: load the weights that belong to the name.
        weights: a file to load instead (.safetensors, torch's, .npz; or a folder that holds one);
            its head may have other classes. See ``load_weights`` for what is taken from it.
        args: keyword arguments for ``timm.create_model`` (e.g. layers, channels, img_size).
        transform: replaces parts of the input transform the model declares
            (input_size, mean, std, interpolation, crop_pct, crop_mode), as ``ImageTransform``.
        channels_last: lay images out channels last in memory: convolutions run a third faster so
            on a CPU, but torch 2.15 crashes there for some networks (fastvit_t8 for one).
    """

    name: str
    pretrained: bool = True
    weights: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    channels_last: bool = False


def load_model(
    name: str | ModelSpec,
    *,
    num_classes: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Backbone:
    """Build the model, its weights loaded, its head replaced when ``num_classes`` differs.

    Args:
        name: what ``ModelSpec`` takes as its name, or all that it takes.
        num_classes: classes of the task, or None to keep the head the weights came with.
        seed: for all weights that are not loaded (a new head, a student from scratch).

    Raises:
        UserError: unknown name, weights that cannot be found, read, downloaded or fitted.

    Example:
        >>> model = load_model("genkt:digits_teacher", num_classes=10)
        >>> model.num_classes
        10
    """
    spec = ModelSpec(name) if isinstance(name, str) else name
    fault = name_fault(spec.name)
    if fault:
        raise UserError(fault)
    timm_name, network = timm_name_of(spec.name), NETWORKS.get(spec.name)
    args = dict(spec.args)
    if spec.transform:
        overlay = whole_overlay(spec.transform)
        if "input_size" in overlay:
            overlay["input_size"] = (3, *overlay["input_size"])
        args["pretrained_cfg_overlay"] = overlay
    if num_classes is not None:
        args["num_classes"] = num_classes
    content = _content(spec, network)
    if network is not None:
        spec = replace(spec, pretrained=False)  # timm has other weights under this name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        model = _create(timm_name, spec, args)
        if content is not None:
            model = load_weights(
                model, content, _source(spec), name=spec.name,
                rebuilt=_builder(timm_name, spec, args),
            )  # fmt: skip
    backbone = Backbone(model, _declared_transform(model, spec.name), spec.name)
    backbone.channels_last = spec.channels_last
    return backbone.to(device)


def _content(spec: ModelSpec, network: PackagedNetwork | None) -> object | None:
    """The weights that timm does not load itself; None: there are none."""
    if network is not None and (spec.pretrained or spec.weights):
        return network.tensors(spec.weights, spec.name)
    return read_content(spec.weights) if spec.weights else None


def _source(spec: ModelSpec) -> str:
    """What messages call the weights."""
    return f'weights "{spec.weights}"' if spec.weights else f'model "{spec.name}"'


def is_shipped(name: str) -> bool:
    """Whether a name is of a model in ``checkpoints/``: they know small drawn characters."""
    return name.startswith(SHIPPED_PREFIX) and name not in NETWORKS


def timm_name_of(name: str) -> str:
    """``genkt:NAME`` as timm names it, ``local-dir:PATH`` where it ships; others unchanged."""
    if name in NETWORKS:
        return NETWORKS[name].timm_name
    if not is_shipped(name):
        return name
    return f"local-dir:{resource('checkpoints') / name.removeprefix(SHIPPED_PREFIX)}"


def package_fault(name: str) -> str | None:
    """One line where the weights of a name are in a package that is not here, or is another."""
    if name not in NETWORKS:
        return None
    try:
        NETWORKS[name].file(name)
    except UserError as error:
        return str(error)
    return None


def name_fault(name: str) -> str | None:
    """One line on what is wrong with a model name, or None; nothing is built or downloaded."""
    from timm.models import is_model, list_models  # type: ignore[attr-defined]

    if name.startswith(SHIPPED_PREFIX):
        home, short = resource("checkpoints"), name.removeprefix(SHIPPED_PREFIX)
        shipped = sorted(path.parent.name for path in home.glob("*/config.json"))
        if short not in shipped and name not in NETWORKS:
            packaged = ", ".join(each.removeprefix(SHIPPED_PREFIX) for each in NETWORKS)
            return (
                f'model "{name}": not shipped with genkt (shipped: {", ".join(shipped)}; in a '
                f"package that you bring: {packaged})."
            )
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
        raise UserError(f'model "{spec.name}": its weights are damaged: {reason(error)}') from error
    except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
        if pretrained and timm_name.startswith("local-dir:") and _ADVICE in str(error):
            return _read_otherwise(timm_name, spec, args)
        local = not pretrained or timm_name.startswith("local-dir:")
        if local or not isinstance(error, OSError):
            raise UserError(
                f'model "{spec.name}": cannot be built: {reason(error)}. Check its args; where it '
                "has no weights of its own, set pretrained=false."
            ) from error
        raise UserError(
            f'model "{spec.name}": its pretrained weights could not be fetched '
            f"({type(error).__name__}). Offline? Give a file of weights (such as "
            "student.weights=PATH or teacher.weights=PATH), a folder "
            "(local-dir:PATH), fill the Hugging Face cache beforehand, or set pretrained=false."
        ) from error
    return model


def _read_otherwise(timm_name: str, spec: ModelSpec, args: dict[str, Any]) -> nn.Module:
    """A folder whose weights come with other objects, which timm cannot read."""
    try:
        content = read_content(timm_name.removeprefix("local-dir:"))
    except UserError as error:
        raise UserError(f'model "{spec.name}": cannot be built: {error}') from error
    bare = replace(spec, pretrained=False)
    return load_weights(
        _create(timm_name, bare, args), content, f'model "{spec.name}"', name=spec.name,
        rebuilt=_builder(timm_name, bare, args),
    )  # fmt: skip


def _builder(
    timm_name: str, spec: ModelSpec, args: dict[str, Any]
) -> Callable[[int], nn.Module] | None:
    """A function that builds the model with n classes; None if the user gave the number."""
    if "num_classes" in args:
        return None
    return lambda classes: _create(timm_name, spec, {**args, "num_classes": classes})


def _declared_transform(model: nn.Module, name: str) -> ImageTransform:
    try:
        return transform_of(model)
    except UserError as error:
        raise UserError(f'model "{name}": {error}') from error
