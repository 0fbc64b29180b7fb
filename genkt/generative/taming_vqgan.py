"""taming's (and LDM's) VQGAN weights as diffusers' ``VQModel``: shape from names and sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genkt.generative.vqgan import VQGAN
from genkt.types import UserError

GROUPS = 32
"""Groups of every normalisation in taming; no weight shows it."""

_DROPPED = (
    "loss.",  # discriminator and perceptual network
    "model_ema.",
    "colorize",
    "quantize.embedding.cluster_size",  # of a codebook that was trained by averaging
    "quantize.embedding.embed_avg",
)
_RENAMED = {
    ".mid.block_1.": ".mid_block.resnets.0.",
    ".mid.block_2.": ".mid_block.resnets.1.",
    ".mid.attn_1.": ".mid_block.attentions.0.",
    ".nin_shortcut.": ".conv_shortcut.",
    ".norm_out.": ".conv_norm_out.",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_PART = re.compile(r"^(encoder\.down|decoder\.up)\.(\d+)\.(block|attn)\.(\d+)\.")
_LEVEL = re.compile(r"\.(down|up)\.(\d+)\.")


def convert_vqgan(state: Mapping[str, Tensor], size: int) -> VQGAN:
    """The VQGAN of a taming or LDM state dict.

    Source of the layouts: Esser et al. 2021 (taming-transformers) and diffusers' ``VQModel``.

    Args:
        state: its tensors, without a prefix.
        size: side in pixels of the pictures it was trained on; no shape shows it.

    Raises:
        UserError: another kind of network, or one that ``VQModel`` cannot hold.
    """
    from diffusers import VQModel

    state = {name: value for name, value in state.items() if not name.startswith(_DROPPED)}
    _refuse_other_kinds(state)
    config = vqmodel_config(state, size)
    with torch.device("meta"):  # every weight is replaced
        model: Any = VQModel(**config)  # type: ignore[no-untyped-call]
    levels = len(config["block_out_channels"])
    weights = {diffusers_name(name, levels): value for name, value in state.items()}
    expected = model.state_dict()
    check_names(weights, expected, "VQGAN")
    for name, value in weights.items():
        weights[name] = _fitted(value, expected[name], name)
    model.load_state_dict(weights, assign=True)
    return VQGAN(model)


def vqmodel_config(state: Mapping[str, Tensor], size: int) -> dict[str, Any]:
    """The arguments of ``VQModel`` that a state dict's names and shapes stand for.

    Raises:
        UserError: an architecture that ``VQModel`` cannot hold.
    """
    down, up = _levels(state, "encoder.down"), _levels(state, "decoder.up")
    channels = tuple(
        _shape(state, f"encoder.down.{level}.block.0.conv2.weight")[0] for level in range(len(down))
    )
    layers = down[0][0]
    faults = _unlike_diffusers(state, down, up, channels)
    factor = 2 ** (len(channels) - 1)
    if size % factor:
        faults.append(f"size: expected a multiple of {factor}, got {size}")
    if faults:
        raise UserError("\n".join(faults))
    num_codes, code_dim = _shape(state, "quantize.embedding.weight", 2)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": tuple(
            "AttnDownEncoderBlock2D" if attentions else "DownEncoderBlock2D"
            for _, attentions in down
        ),
        "up_block_types": tuple(
            "AttnUpDecoderBlock2D" if attentions else "UpDecoderBlock2D"
            for _, attentions in reversed(up)
        ),
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": _shape(state, "quant_conv.weight")[1],
        "sample_size": size,
        "num_vq_embeddings": num_codes,
        "norm_num_groups": GROUPS,
        "vq_embed_dim": code_dim,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in state,
    }


def diffusers_name(name: str, levels: int) -> str:
    """What ``VQModel`` with that many resolutions calls a tensor of taming's.

    >>> diffusers_name("decoder.up.0.attn.2.proj_out.weight", levels=4)
    'decoder.up_blocks.3.attentions.2.to_out.0.weight'
    """
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    if found := _LEVEL.search(name):
        way, level = found[1], int(found[2])
        place = level if way == "down" else levels - 1 - level
        name = name.replace(found[0], f".{way}_blocks.{place}.", 1)
        name = name.replace(".block.", ".resnets.").replace(".attn.", ".attentions.")
        name = name.replace(f".{way}sample.conv.", f".{way}samplers.0.conv.")
    head, dot, last = name.rpartition(".")
    stem, _, part = head.rpartition(".")
    if re.search(r"\.attentions\.\d+$", stem) and part in _ATTENTION:
        return f"{stem}.{_ATTENTION[part]}{dot}{last}"
    return name


def check_names(found: Mapping[str, Any], expected: Mapping[str, Any], kind: str) -> None:
    """Refuse weights that are not all there, or more than the network has.

    Raises:
        UserError: one line with the first such name.
    """
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected)
    if missing or unknown:
        first = (missing or unknown)[0]
        raise UserError(
            f"checkpoint: not a {kind} of this layout: {len(missing)} of {len(expected)} tensors "
            f"missing, {len(unknown)} unknown (first: {first[:80]})"
        )


def _refuse_other_kinds(state: Mapping[str, Tensor]) -> None:
    if "quantize.embed.weight" in state:
        raise UserError(
            "checkpoint: a Gumbel VQGAN (GumbelVQ, taming's f8): it picks codes by a learned "
            "projection, not by distance, which diffusers' VQModel cannot express; take a "
            "checkpoint of VQModel"
        )
    if "quantize.used" in state:
        raise UserError("checkpoint: a VQGAN with a remapped codebook (remap) cannot be converted")
    if any(".attn_1.fn." in name or ".to_qkv." in name for name in state):
        raise UserError("checkpoint: a VQGAN with linear attention cannot be converted")
    if "quantize.embedding.weight" not in state:
        has_encoder = any(name.startswith("encoder.") for name in state)
        what = "an autoencoder without a codebook (KL)" if has_encoder else "no VQGAN"
        raise UserError(
            f"checkpoint: {what}: expected quantize.embedding.weight and encoder.*, decoder.*, "
            "quant_conv.*, post_quant_conv.*"
        )


def _levels(state: Mapping[str, Tensor], part: str) -> list[tuple[int, int]]:
    """(residual blocks, attentions) of each resolution, the finest first."""
    counts: dict[int, dict[str, set[int]]] = {}
    for name in state:
        found = _PART.match(name)
        if found and found[1] == part:
            kinds = counts.setdefault(int(found[2]), {"block": set(), "attn": set()})
            kinds[found[3]].add(int(found[4]))
    if not counts or sorted(counts) != list(range(len(counts))):
        raise UserError(f"checkpoint: no VQGAN of this layout: expected {part}.0 and so on")
    return [(len(counts[i]["block"]), len(counts[i]["attn"])) for i in range(len(counts))]


def _unlike_diffusers(
    state: Mapping[str, Tensor],
    down: list[tuple[int, int]],
    up: list[tuple[int, int]],
    channels: tuple[int, ...],
) -> list[str]:
    """One line for each thing that ``VQModel`` has no argument for."""
    faults = []
    layers = down[0][0]
    if (
        len(up) != len(down)
        or {n for n, _ in down} != {layers}
        or {n for n, _ in up} != {layers + 1}
    ):
        faults.append(
            f"num_res_blocks: expected {layers} blocks at each of {len(down)} resolutions of the "
            f"encoder and {layers + 1} of the decoder, got {[n for n, _ in down]} and "
            f"{[n for n, _ in up]}"
        )
    for name, levels in (("encoder.down", down), ("decoder.up", up)):
        for level, (blocks, attentions) in enumerate(levels):
            if attentions not in (0, blocks):
                faults.append(
                    f"attn_resolutions: {name}.{level} has attention after {attentions} of its "
                    f"{blocks} blocks; VQModel has it after all of a resolution or none"
                )
    middles = [f"{part}.mid.attn_1.q.weight" in state for part in ("encoder", "decoder")]
    if middles[0] != middles[1]:
        faults.append("attn: only one of encoder and decoder has attention in its middle")
    width, pictures = _shape(state, "encoder.conv_in.weight")[:2]
    if width != channels[0]:
        faults.append(
            f"ch_mult: expected to start with 1, got {channels[0] / width:g}: VQModel begins with "
            "the width of its finest resolution"
        )
    if any(width % GROUPS for width in channels):
        faults.append(f"ch: expected widths that are multiples of {GROUPS}, got {channels}")
    if pictures != 3 or _shape(state, "decoder.conv_out.weight")[0] != 3:
        faults.append(f"in_channels: expected 3 (RGB pictures), got {pictures}")
    latents = _shape(state, "encoder.conv_out.weight")[0]
    if latents != _shape(state, "quant_conv.weight")[1]:
        faults.append(
            f"double_z: expected false: encoder.conv_out makes {latents} channels, quant_conv "
            f"takes {_shape(state, 'quant_conv.weight')[1]}"
        )
    return faults


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int = 4) -> tuple[int, ...]:
    if name not in state or state[name].ndim != dimensions:
        raise UserError(f"checkpoint: no VQGAN of this layout: expected a weight {name}")
    return tuple(state[name].shape)


def _fitted(value: Tensor, expected: Tensor, name: str) -> Tensor:
    """A float32 copy in the expected shape: 1x1 convolutions of attention become linear."""
    if value.ndim == expected.ndim + 2 and value.shape[expected.ndim :] == (1, 1):
        value = value[..., 0, 0]
    return checked(value, expected, name).float().clone(memory_format=torch.contiguous_format)


def checked(value: Tensor, expected: Tensor, name: str) -> Tensor:
    """The tensor itself, of the expected shape and a floating type.

    Raises:
        UserError: another shape or type.
    """
    if value.shape != expected.shape or not value.is_floating_point():
        raise UserError(
            f"checkpoint: {name}: expected floats {list(expected.shape)}, got {value.dtype} "
            f"{list(value.shape)}"
        )
    return value
