"""Files of weights: safetensors, torch, NumPy, Hugging Face folders, recognised by content."""

from __future__ import annotations

import json
import traceback
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genkt.io import home_path, nearby
from genkt.models.places import FIRST
from genkt.models.safe_pickle import printable, read_torch
from genkt.models.wrong_files import cut_off, is_npz, is_safetensors, wrong_kind
from genkt.types import UserError, counted, verb

_EXPECTED = (
    "expected a .safetensors file or one that torch.save wrote (.ckpt, .pt, .pth), whatever its "
    "name"
)
_ZIP = b"PK\x03\x04"
_IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weights in a folder in Hugging Face's layout; the first that exists is read."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a file, mapped from the disk where possible.

    Nothing in the file is executed (see ``read_torch``).

    Args:
        path: as ``read_content``; the tensors may be under ``state_dict``, as in Lightning, or
        another of timm's names (``FIRST``).

    Returns:
        Name to dense tensor, on the CPU, in the file's precision.

    Raises:
        UserError: see ``read_content``, or no named tensors.
    """
    return _named_tensors(read_content(path), Path(path))


def read_content(path: str | Path) -> object:
    """The content of a file of weights: named tensors, perhaps inside other dicts.

    Args:
        path: a safetensors, torch or .npz file, recognised by its content, not its suffix; the
            index of sharded ones; or a folder that holds one as Hugging Face lays it out.

    Raises:
        UserError: no such file, another kind of file (it is named), damaged, or refused.
    """
    path = home_path(path)
    try:
        if path.is_dir():
            path = _inside(path)
        if path.name.endswith(".index.json") and path.is_file():
            return _read_shards(path)
        return _read_file(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged or hostile file raises anything
        raise UserError(f"{path}: not a readable checkpoint: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first line of an error, without advice of libraries to run a file's code."""
    advised = any(word in str(error) for word in ("weights_only", "safe_globals", "allow_pickle"))
    if advised:
        return "it contains objects other than tensors, or it is damaged"
    return printable(str(error) or _failing_line(error), most=400)


def _failing_line(error: Exception) -> str:
    """What an error without words did not hold, such as ``AssertionError: assert size > 0``."""
    frames, name = traceback.extract_tb(error.__traceback__), type(error).__name__
    line = frames[-1].line if frames else None
    return f"{name}: {line}" if line else name


def _read_file(path: Path) -> object:
    if not path.is_file():
        raise UserError(f"checkpoint: no such file: {path}{nearby(path)}")
    if kind := wrong_kind(path):
        damaged = "readable " if "cut off" in kind else ""
        raise UserError(f"{path}: not a {damaged}checkpoint: {kind}")
    with open(path, "rb") as stream:
        head = stream.read(64)
    if is_safetensors(head):
        return _read_safetensors(path)
    if head[:4] != _ZIP and head[:1] != b"\x80":
        raise UserError(f"{path}: not a readable checkpoint: {_EXPECTED}")
    if head[:4] == _ZIP:
        with zipfile.ZipFile(path) as archive:
            if is_npz(archive.namelist()):
                return _read_npz(path)
    return read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if why := cut_off(path):
        raise UserError(f"{path}: not a readable checkpoint: {why}")
    return load_file(path)


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        if any("/" in name for name in arrays.files):
            raise UserError(
                f"{path}: not a checkpoint: JAX's weights (.npz with names such as "
                f"{printable(arrays.files[0])}); take timm's copy of them by its name "
                "(pretrained=true), or load the file with the timm model's load_pretrained() "
                "and save its state_dict()"
            )
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _inside(folder: Path) -> Path:
    """The weights of a folder."""
    for name in _IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    there = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "") or "nothing"
    raise UserError(
        f"{folder}: not a checkpoint: a folder; expected a file, or a folder with one of "
        f"{', '.join(_IN_FOLDER)}; it holds {shown}"
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all the files that an index names; they are in its folder."""
    listed = json.loads(index.read_text(encoding="utf-8")).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{index}: not a checkpoint: expected an index with a weight_map")
    files = sorted(set(map(str, listed.values())))
    if outside := [name for name in files if Path(name).name != name]:
        raise UserError(
            f"{index}: refused because it names a file in another folder: {printable(outside[0])}"
        )
    if absent := [name for name in files if not (index.parent / name).is_file()]:
        whole, there = counted(len(files), "file"), verb(len(absent), "is")
        raise UserError(f"{index}: {len(absent)} of its {whole} {there} missing: {_few(absent)}")
    state: dict[str, Tensor] = {}
    for name in files:
        state |= _named_tensors(_read_file(index.parent / name), index.parent / name)
    if lost := [name for name in listed if name not in state]:
        raise UserError(
            f"{index}: {counted(len(lost), 'tensor', 'is')} not in its files: {_few(lost)}"
        )
    return state


def _few(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")


def odd_tensor(state: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the first tensor that is not a plain array of numbers, or None."""
    for name, value in state.items():
        if value.is_quantized or (value.dtype.itemsize < 2 and value.is_floating_point()):
            kind = "quantised"
        elif value.layout != torch.strided:
            kind = "sparse"
        elif value.is_meta:
            kind = "without values (meta)"
        elif value.is_complex():
            kind = "complex"
        else:
            continue
        return f"expected dense tensors, got another at {printable(name)}: it is {kind}"
    return None


def _named_tensors(content: object, path: Path) -> dict[str, Tensor]:
    state = content
    if isinstance(content, dict):
        state = next((content[k] for k in FIRST if isinstance(content.get(k), dict)), content)
    if not isinstance(state, dict) or not state:
        raise UserError.of(
            path,
            "named tensors, alone or under state_dict or model",
            "none" if state == {} else "a " + type(state).__name__,
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError.of(
                path,
                "named tensors, alone or under state_dict or model",
                f"a {type(value).__name__} at {printable(str(name))}",
            )
    if fault := odd_tensor(state):
        raise UserError(f"{path}: {fault}")
    return state
