"""Checkpoints of strangers: their tensors are read, nothing in them is executed."""

from __future__ import annotations

import contextlib
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from genkt.io import nearby
from genkt.types import UserError

STUBBED = ("pytorch_lightning.", "lightning.", "omegaconf.")
"""Names that training checkpoints mention beside their weights; a blank object stands for each."""

_PLAIN = frozenset(
    ("builtins.int", "builtins.list", "builtins.dict", "typing.Any", "collections.defaultdict")
)
"""Names that omegaconf's objects mention as types of values; blanks stand for these too."""

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a" + torch.serialization.MAGIC_NUMBER.to_bytes(10, "little") + b"."
_LEGACY_PICKLES = 4
"""Magic number, protocol, system and the object itself, in files older than torch 1.6."""


class Inert:
    """What a pickled object of an unknown class becomes: it takes anything and keeps nothing."""

    def __new__(cls, *_: object) -> Inert:
        """A blank object, whatever the class wants to be made of."""
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, _: object) -> None:
        """Ignore the pickled attributes."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors`` or torch file, mapped from the disk where possible.

    Torch files go through ``torch.load(weights_only=True)``, which builds tensors and plain
    containers. Objects of Lightning and omegaconf become blanks, and neither is imported; a file
    that names anything else is refused before it is loaded.

    Args:
        path: the file; the tensors may stand under ``state_dict``, as Lightning puts them.

    Returns:
        Name to dense tensor, on the CPU, in the file's precision.

    Raises:
        UserError: no such file, damaged, no checkpoint, or it names what is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint: no such file: {path}{nearby(path)}")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged or hostile file raises anything
        raise UserError(f"{path}: not a readable checkpoint: {_printable(str(error))}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return _named_tensors(load_file(path), path)


def _read_torch(path: Path) -> dict[str, Tensor]:
    with open(path, "rb") as stream:
        head = stream.read(len(_LEGACY))
    if head.startswith(_ZIP):
        return _read_zip(path)
    if head == _LEGACY:
        return _read_legacy(path)
    raise UserError(
        f"{path}: not a checkpoint: expected a .safetensors file or one that torch.save wrote "
        "(.ckpt, .pt, .pth); a text, a web page or a plain pickle is neither"
    )


def _read_zip(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise UserError(f"{path}: not as torch.save wrote it: its zip records are compressed")
    if len({record.filename for record in records}) < len(records):
        raise UserError(f"{path}: not as torch.save wrote it: it holds two records of one name")
    with _allowing(()):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    refused = sorted(name for name in names if not _stubbed(name))
    if refused:
        raise _refusal(path, refused)
    with _allowing(names):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    state = _named_tensors(content, path)
    sizes = {record.file_size for record in records}
    for name, value in state.items():  # mapped, a record that is too short runs into the next
        if value.untyped_storage().nbytes() not in sizes:
            raise UserError(f"{path}: damaged: the record of {_printable(name)} has another size")
    return state


def _read_legacy(path: Path) -> dict[str, Tensor]:
    """A file from before torch 1.6: not a zip, so its names are listed without unpickling it."""
    with open(path, "rb") as stream:
        names = {name for _ in range(_LEGACY_PICKLES) for name in _names_in_pickle(stream)}
    with _allowing(name for name in names if _stubbed(name)):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if found := re.search(r"GLOBAL (\S+)", str(error)):
                raise _refusal(path, [found[1]]) from error
            raise
    return _named_tensors(content, path)


def _stubbed(name: str) -> bool:
    return name.startswith(STUBBED) or name in _PLAIN


def _names_in_pickle(stream: BinaryIO) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".")


@contextlib.contextmanager
def _allowing(names: Iterable[str]) -> Iterator[None]:
    """Blanks for these names; whatever else this process let torch load does not count here."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(Inert, name) for name in names])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _refusal(path: Path, names: list[str]) -> UserError:
    shown = ", ".join(map(_printable, names[:3])) + (", ..." if len(names) > 3 else "")
    return UserError(
        f"{path}: refused, as it names {shown}: genkt reads tensors and runs no code of a "
        "checkpoint; where you trust it, save its state_dict alone and convert that"
    )


def _printable(text: str) -> str:
    """One short line without control characters: the text may be a stranger's."""
    first = next(iter(text.strip().splitlines()), "") or "no reason given"
    return first.encode("unicode_escape").decode()[:160].rstrip(". ")


def _named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise UserError(
            f"{path}: expected named tensors, alone or under state_dict, got "
            f"{'none' if state == {} else 'a ' + type(state).__name__}"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: expected named tensors, alone or under state_dict, got a "
                f"{type(value).__name__} at {_printable(str(name))}"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{path}: expected dense tensors, got another at {_printable(name)}")
    return state
