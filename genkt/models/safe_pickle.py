"""Reads the tensors of untrusted torch files without executing anything in them.

``torch.load(weights_only=True)`` unpickles, and its own ``safe_globals`` holds the names that a
file may mention. This module adds what torch does not do:

- blank stand-ins: training checkpoints also name settings and callbacks. Their classes are not
needed and often not installed, but torch only accepts imported classes;
- a list of the names in files from before torch 1.6 (``get_unsafe_globals_in_checkpoint`` reads
  zip archives alone), and one error that lists all the names at once;
- what this process trusts elsewhere does not count;
- checks for repeated record names, compressed records and records shorter than their tensors, which
torch maps without a check.
"""

from __future__ import annotations

import contextlib
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from genkt.types import UserError

STUBBED = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.dtypes.")
"""Names in training checkpoints other than weights; each becomes a blank object."""

_PLAIN = frozenset(
    [f"builtins.{name}" for name in ("int", "float", "bool", "str", "bytes", "list", "tuple")]
    + ["builtins.dict", "builtins.frozenset", "typing.Any", "argparse.Namespace"]
    + [f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")]
    + [
        f"{module}.{pure}{name}"
        for module in ("pathlib", "pathlib._local")
        for pure in ("", "Pure")
        for name in ("Path", "PosixPath", "WindowsPath")
    ]
    + ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"]
    + ["numpy.bool_", "numpy.bool", "numpy.float16", "numpy.float32", "numpy.float64"]
    + [f"numpy.{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64)]
)
"""Names of settings and figures in checkpoints; these become blank objects too."""

LEGACY = b"\x80\x02\x8a\x0a" + torch.serialization.MAGIC_NUMBER.to_bytes(10, "little") + b"."
"""The first bytes of a file from torch before 1.6; later files are zip archives."""

_LEGACY_PICKLES = 4
"""Magic number, protocol, system and the object itself, in files older than torch 1.6."""

_WHOLE_MODELS = ("torch.nn.modules.", "torchvision.models.", "timm.", "transformers.", "__main__.")


class Inert:
    """Replaces a pickled object of an unknown class: accepts anything and stores nothing."""

    def __new__(cls, *_: object) -> Inert:
        """A blank object, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *_: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, _: object) -> None:
        """Ignore the pickled attributes."""


def _empty_dict(*_: object) -> dict[Any, Any]:
    return {}


def _empty_list(*_: object) -> list[Any]:
    return []


_CONTAINERS: dict[str, Callable[..., object]] = {
    "collections.defaultdict": _empty_dict,
    "collections.deque": _empty_list,
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "lightning.fabric.utilities.data.AttributeDict": dict,
    "lightning_fabric.utilities.data.AttributeDict": dict,
}
"""Classes that the pickle fills item by item; they become plain dicts and lists."""


def read_torch(path: Path) -> object:
    """Read a file of ``torch.save``, mapped from disk if possible, with other objects blank.

    ``torch.load(weights_only=True)`` builds tensors and plain containers. Objects of an allow
    list become blanks, and none of their classes is imported; a file that names anything else is
    refused before it is loaded.

    Raises:
        UserError: the file names what is not allowed, or is not as torch.save writes it.
        Exception: whatever a damaged or hostile file raises.
    """
    with open(path, "rb") as stream:
        legacy = stream.read(len(LEGACY)) == LEGACY
    return _read_legacy(path) if legacy else _read_zip(path)


def _read_zip(path: Path) -> object:
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
    with _allowing(names), open(path, "rb") as stream:
        misnamed = path.suffix == ".safetensors"  # torch.load goes by the suffix of a path
        content: object = torch.load(
            stream if misnamed else path, map_location="cpu", weights_only=True, mmap=not misnamed
        )
    sizes = {record.file_size for record in records}
    for name, value in tensors_in(content):  # mapped, a short record runs into the next
        dense = value.layout == torch.strided and not value.is_meta
        if dense and value.untyped_storage().nbytes() not in sizes:
            raise UserError(f"{path}: damaged: the record of {printable(name)} has another size")
    return content


def _read_legacy(path: Path) -> object:
    """A file from before torch 1.6: not a zip, so its names are listed without unpickling it."""
    with open(path, "rb") as stream:
        names = {name for _ in range(_LEGACY_PICKLES) for name in _names_in_pickle(stream)}
    with _allowing(name for name in names if _stubbed(name)), open(path, "rb") as stream:
        try:
            content: object = torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:
            if found := re.search(r"GLOBAL (\S+)", str(error)):
                raise _refusal(path, [found[1]]) from error
            raise
    return content


def tensors_in(content: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested dicts, lists and tuples, named by its last key."""
    pending, seen = [(name, content)], set()
    while pending:
        name, value = pending.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))  # a pickle may contain itself
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += reversed([(str(key), inner) for key, inner in items])


def _stubbed(name: str) -> bool:
    return name.startswith(STUBBED) or name in _PLAIN or name in _CONTAINERS


def _names_in_pickle(stream: BinaryIO) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield f"{'builtins' if module == '__builtin__' else module}.{name}"


@contextlib.contextmanager
def _allowing(names: Iterable[str]) -> Iterator[None]:
    """Allow only these names, as blanks; other classes that this process trusts do not count."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals([(_CONTAINERS.get(n, Inert), n) for n in names]):
            yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _refusal(path: Path, names: list[str]) -> UserError:
    shown = ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")
    whole = any(name.startswith(_WHOLE_MODELS) for name in names)
    return UserError(
        f"{path}: refused because it names {shown}: genkt reads tensors but never runs "
        "code of a checkpoint; "
        + ("it seems to hold a whole model; " if whole else "")
        + "if you trust it, save only its state_dict() and give that"
    )


def printable(text: str, most: int = 160) -> str:
    """One short line without control characters: the text may be a stranger's."""
    first = next(iter(text.strip().splitlines()), "") or "no reason given"
    return first.encode("unicode_escape").decode()[:most].rstrip(". ")
