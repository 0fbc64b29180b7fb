"""Official taming / LDM checkpoints as genkt's folders: a VQGAN, and a latent transformer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genkt.generative.latent_transformer import LatentTransformer, TransformerConfig
from genkt.generative.taming_vqgan import check_names, checked, convert_vqgan
from genkt.generative.vqgan import VQGAN
from genkt.io import nearby
from genkt.models.tensor_files import read_tensors
from genkt.types import UserError

_VQGAN = "first_stage_model."
_GPT = "transformer."
_TAMING_HEADS = 8
"""What taming's GPT takes where its YAML names no n_head."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Facts that no shape of a checkpoint shows; None where unknown.

    Args:
        size: side in pixels of the pictures the VQGAN was trained on.
        num_heads: attention heads of the transformer.
        num_conditions: classes its start token can name; 0: it names none.
        sos_token: the start token where it names no class.
    """

    size: int | None = None
    num_heads: int | None = None
    num_conditions: int | None = None
    sos_token: int | None = None

    def over(self, other: CheckpointFacts) -> CheckpointFacts:
        """These facts; unknown ones are taken from the other."""
        mine = {field.name: getattr(self, field.name) for field in fields(CheckpointFacts)}
        theirs = {name: getattr(other, name) for name in mine}
        return CheckpointFacts(**{k: theirs[k] if mine[k] is None else mine[k] for k in mine})


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Args:
        folder: the generator: ``vqgan/`` and, where there is one, ``transformer/``.
        vqgan: its network.  transformer: the shape of the other one, or None.
    """

    folder: Path
    vqgan: VQGAN
    transformer: TransformerConfig | None


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    kind: Literal["auto", "vqgan", "transformer"] = "auto",
    config: str | Path | None = None,
    given: CheckpointFacts | None = None,
    overwrite: bool = False,
) -> Converted:
    """Make a generator's folder of an official checkpoint, safely (see ``read_tensors``).

    Args:
        checkpoint: a VQModel's or a Net2NetTransformer's (which holds its VQGAN too): Lightning's
            .ckpt, a plain torch file or .safetensors.
        out: the folder to write.
        kind: ``vqgan`` takes only that from a transformer's checkpoint; ``auto`` all there is.
        config: the YAML file that belongs to it.
        given: facts that take priority over the file's.
        overwrite: replace what an earlier conversion wrote to ``out``.

    Raises:
        UserError: a file that is refused or damaged, a network that genkt cannot hold, or a fact
            that is needed and not known.
    """
    out = Path(out)
    if out.is_file():
        raise UserError(f"out: expected a folder, {out} is a file")
    folders = [out / "vqgan", out / "transformer"]
    taken = [folder for folder in folders if folder.exists()]
    if taken and not overwrite:
        raise UserError(f"out: {taken[0]} exists; give another out= or overwrite=true")
    described = read_description(config) if config else {}
    state = read_tensors(checkpoint)
    has_gpt = any(name.startswith(_GPT) for name in state)
    if kind == "transformer" and not has_gpt:
        raise UserError(f'kind: {checkpoint} holds no transformer (no "{_GPT}..."); give kind=auto')
    with_gpt = has_gpt and kind != "vqgan"
    facts = (given or CheckpointFacts()).over(facts_of(described, with_gpt=with_gpt))
    vqgan_state = _part(state, _VQGAN) or ({} if has_gpt else state)
    gpt_state = _part(state, _GPT) if with_gpt else {}
    _check_facts(facts, described, gpt_state, vqgan_state)
    assert facts.size is not None
    vqgan = convert_vqgan(vqgan_state, facts.size)
    transformer = None
    if with_gpt:
        _refuse_other_conditions(state, described)
        transformer = convert_transformer(gpt_state, vqgan, facts)
    for folder in taken:
        shutil.rmtree(folder)
    if transformer is not None:  # first: a folder with a VQGAN is a whole generator
        transformer.save(folders[1])
    vqgan.save(folders[0])
    return Converted(out, vqgan, transformer.config if transformer else None)


def convert_transformer(
    state: Mapping[str, Tensor], vqgan: VQGAN, facts: CheckpointFacts
) -> LatentTransformer:
    """taming's GPT with its weights as they are; large ones stay on the disk until saved.

    Args:
        state: its tensors, without a prefix.
        vqgan: whose tokens it draws.
        facts: num_heads and num_conditions must be known.

    Raises:
        UserError: not a GPT of taming's, or one that sees ahead.
    """
    vocab_size, width = _matrix(state, "tok_emb.weight")
    layers = {found[1] for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    num_heads, num_conditions = facts.num_heads, facts.num_conditions
    assert num_heads is not None and num_conditions is not None
    if width % num_heads:
        raise UserError.of("num_heads", f"a divisor of the width {width}", num_heads)
    if "pos_emb" not in state or state["pos_emb"].ndim != 3 or "tok_emb.bias" in state:
        raise UserError("checkpoint: its transformer is not taming's GPT over tokens")
    config = TransformerConfig(
        num_codes=vqgan.num_codes,
        grid=vqgan.grid,
        num_layers=len(layers),
        num_heads=num_heads,
        width=width,
        vocab_size=vocab_size,
        block_size=state["pos_emb"].shape[1],
        num_conditions=num_conditions,
        sos_offset=0 if num_conditions else facts.sos_token or 0,
        condition="class" if num_conditions else "none",
    )
    with torch.device("meta"):  # 1.4 billion weights need not be drawn to be replaced
        transformer = LatentTransformer.build(config)
    expected = {k: v for k, v in transformer.gpt.state_dict().items() if not _is_mask(k)}
    weights = {name: value for name, value in state.items() if not _is_mask(name)}
    check_names(weights, expected, "GPT")
    _check_masks(state)
    weights = {k: checked(v, expected[k], _GPT + k).float() for k, v in weights.items()}
    transformer.gpt.load_state_dict(weights, strict=False, assign=True)
    return transformer


def read_description(path: str | Path) -> dict[str, Any]:
    """``model.params`` of a taming or LDM YAML file, as plain values.

    Raises:
        UserError: no such file, or not of this kind.
    """
    import yaml

    if not Path(path).is_file():
        raise UserError(f"config: no such file: {path}{nearby(path)}")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"config: {path}: not a YAML file") from error
    params = _at(content, "model", "params")
    if not isinstance(params, dict):
        raise UserError(
            f"config: {path}: expected model.params as in taming's and LDM's YAML files"
        )
    return params


def facts_of(described: Mapping[str, Any], *, with_gpt: bool) -> CheckpointFacts:
    """Facts of a YAML file that no shape shows, of the VQGAN and, if asked, the transformer.

    Raises:
        UserError: a transformer that is conditioned on more than a class.
    """
    size = _whole(_vqgan_params(described), "ddconfig", "resolution")
    if not with_gpt or "transformer_config" not in described:
        return CheckpointFacts(size)
    num_heads = _whole(described, "transformer_config", "params", "n_head") or _TAMING_HEADS
    sos_token = _whole(described, "sos_token") or 0
    condition = described.get("cond_stage_config")
    if described.get("unconditional") is True or condition == "__is_unconditional__":
        return CheckpointFacts(size, num_heads, 0, sos_token)
    target = str(_at(condition, "target") or condition)
    num_classes = _whole(condition, "params", "n_classes")
    if target.endswith(".SOSProvider"):
        return CheckpointFacts(
            size, num_heads, 0, _whole(condition, "params", "sos_token") or sos_token
        )
    if not target.endswith(".Labelator") or num_classes is None:
        raise UserError(
            f"config: the transformer is conditioned by {target[:80]}; genkt takes those that are "
            "unconditional (__is_unconditional__, SOSProvider) or know classes (Labelator); "
            "kind=vqgan converts the VQGAN alone"
        )
    return CheckpointFacts(size, num_heads, num_classes)


def _check_facts(
    facts: CheckpointFacts,
    described: Mapping[str, Any],
    gpt: Mapping[str, Tensor],
    vqgan: Mapping[str, Tensor],
) -> None:
    """All facts are known that are needed, and the YAML file is this checkpoint's."""
    faults = []
    needed = {"size": "side of its pictures in pixels"}
    if gpt:
        needed["num_heads"] = "attention heads of the transformer"
        needed["num_conditions"] = "classes it was trained with; 0: unconditional"
    for name, meaning in needed.items():
        if getattr(facts, name) is None:
            faults.append(
                f"{name}: the checkpoint does not say it ({meaning}); give {name}=N, or "
                "config=FILE with the YAML file that came with the checkpoint"
            )
    if _at(_vqgan_params(described), "ddconfig", "tanh_out") is True:
        faults.append("config: its decoder ends in a tanh (tanh_out), which VQModel has not")
    for place, said, found in _compared(described, gpt, vqgan):
        if said is not None and found is not None and said != found:
            faults.append(
                f"config: {place} is {said} there and {found} in the checkpoint: it belongs to "
                "another one"
            )
    if faults:
        raise UserError("\n".join(faults))


def _compared(
    described: Mapping[str, Any], gpt: Mapping[str, Tensor], vqgan: Mapping[str, Tensor]
) -> list[tuple[str, int | None, int | None]]:
    """(name, in the YAML file, in the checkpoint) for the facts that both may give."""
    params = _vqgan_params(described)
    places: list[tuple[str, Any, Mapping[str, Tensor], str, int]] = [
        ("n_embed", params, vqgan, "quantize.embedding.weight", 0),
        ("embed_dim", params, vqgan, "quantize.embedding.weight", 1),
        ("ch", _at(params, "ddconfig"), vqgan, "encoder.conv_in.weight", 0),
    ]
    if gpt:
        network = _at(described, "transformer_config", "params")
        places += [
            ("vocab_size", network, gpt, "tok_emb.weight", 0),
            ("n_embd", network, gpt, "tok_emb.weight", 1),
            ("block_size", network, gpt, "pos_emb", 1),
        ]
    return [
        (name, _whole(said, name), state[key].shape[axis] if key in state else None)
        for name, said, state, key, axis in places
    ]


def _refuse_other_conditions(state: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    if any(name.startswith("cond_stage_model.") for name in state):
        raise UserError(
            "checkpoint: its transformer is conditioned on the output of another network "
            "(cond_stage_model.*: depth, segmentation, sketches), which genkt cannot give it; "
            "kind=vqgan converts the VQGAN alone"
        )
    permuter = str(_at(described, "permuter_config", "target") or "Identity")
    if not permuter.endswith("Identity") or any(name.startswith("permuter.") for name in state):
        raise UserError(
            "checkpoint: its transformer reads the tokens in another order than row by row "
            "(permuter); kind=vqgan converts the VQGAN alone"
        )


def _check_masks(state: Mapping[str, Tensor]) -> None:
    for name, mask in state.items():
        if _is_mask(name):
            causal = torch.ones(mask.shape[-2:]).tril()
            if not torch.equal(mask.reshape(causal.shape).float(), causal):
                raise UserError(
                    f"checkpoint: {_GPT}{name} lets tokens see ahead (n_unmasked), which genkt's "
                    "sampling does not; kind=vqgan converts the VQGAN alone"
                )


def _is_mask(name: str) -> bool:
    return name.endswith("attn.mask")


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _matrix(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in state or state[name].ndim != 2:
        raise UserError(f"checkpoint: its transformer is not taming's GPT: expected {_GPT}{name}")
    rows, columns = state[name].shape
    return rows, columns


def _vqgan_params(described: Mapping[str, Any]) -> Any:
    """The settings of the VQGAN: of the file itself, or of a transformer's first stage."""
    return _at(described, "first_stage_config", "params") or described


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _whole(value: Any, *keys: str) -> int | None:
    found = _at(value, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
