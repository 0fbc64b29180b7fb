"""Files that genkt wrote and reads again: sealed with digests, checked, named when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from genkt.io import (
    atomic_folder,
    atomic_path,
    damaged,
    fingerprint,
    fingerprint_tensors,
    read_json,
    reading,
    write_bytes,
    write_json,
)
from genkt.types import DamagedError

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

SEAL = "digest"
"""The key of a signed JSON file that holds the digest of the rest of it."""

SEALS = "digests.json"
"""The file of a folder that holds the digests of others in it."""

_PIECE = 1 << 22

logger = logging.getLogger("genkt")


def write_signed(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a digest of itself."""
    write_json(path, {**value, SEAL: fingerprint(dict(value))})


def read_signed(
    path: str | Path, expected: str, remedy: str = "", *, unsigned: Collection[str] = ()
) -> dict[str, Any]:
    """A JSON object that ``write_signed`` wrote, without its digest.

    Args:
        expected, remedy: see ``genkt.io.reading``.
        unsigned: the keys of one without a digest, as older versions of genkt wrote it.

    Raises:
        DamagedError: it is not there, cannot be read, or was altered.
    """
    value = read_json(path, expected, remedy)
    if not isinstance(value, dict):
        raise damaged(path, expected, f"a {type(value).__name__}", remedy)
    if value and value.keys() <= set(unsigned):
        return value
    if value.pop(SEAL, None) != fingerprint(value):
        raise damaged(path, expected, "it was altered", remedy)
    return value


def write_shard(
    marker: Path, files: Mapping[Path, bytes | NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write files that count together: as a whole or not at all.

    Each is written beside its place and renamed, in the order given; a signed marker comes last,
    and only the marker says that they are there. The same values give the same bytes.

    Args:
        files: content by place; an array as ``numpy.save`` writes it.
        facts: what the marker holds, the digests that its reader compares among them.
    """
    for path, content in files.items():
        if isinstance(content, bytes):
            write_bytes(path, content)
        else:
            write_array(path, content)
    write_signed(marker, facts)


def write_array(path: str | Path, array: NDArray[Any]) -> None:
    """Write an array atomically, as ``numpy.save`` does."""
    with atomic_path(path, array.nbytes) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array)


def read_array(
    path: str | Path, dtype: Any, shape: Sequence[int | None], remedy: str = ""
) -> NDArray[Any]:
    """An array that ``numpy.save`` wrote, all of it finite.

    Args:
        shape: its sizes; None where any will do.

    Raises:
        DamagedError: it is not there, cannot be read, or holds something else.
    """
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    expected = f"a {np.dtype(dtype).name} array [{sizes}]"
    with reading(path, expected, remedy):
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    fits = len(array.shape) == len(shape) and array.dtype == dtype
    if not fits or any(b not in (None, a) for a, b in zip(array.shape, shape, strict=True)):
        raise damaged(path, expected, f"{array.dtype.name} {list(array.shape)}", remedy)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise damaged(path, expected, "NaN or infinite values", remedy)
    return array


def read_tensors(path: str | Path, remedy: str = "") -> dict[str, Tensor]:
    """Named tensors of a safetensors file; those that carry a digest are compared with it.

    Raises:
        DamagedError: it is not there, cannot be read, or was altered.
    """
    from safetensors import safe_open

    expected = "safetensors"
    with reading(path, expected, remedy), safe_open(path, framework="pt") as stored:
        facts = stored.metadata() or {}
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if facts.get(SEAL, "") not in ("", fingerprint_tensors(tensors)):
        raise damaged(path, expected, "it was altered", remedy)
    return tensors


def file_digest(path: str | Path) -> str:
    """32 hex digits of BLAKE2b of a file's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def seals_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The digests of files in a folder, by name."""
    return {name: file_digest(folder / name) for name in names}


def broken_seals(folder: Path, seals: Mapping[str, str]) -> list[str]:
    """Those of the sealed files that are not there or not what was written."""
    return [name for name, seal in seals.items() if not _is_sealed(folder / name, seal)]


def seal(folder: Path, names: Sequence[str]) -> None:
    """Write the digests of files in a folder beside them."""
    write_signed(folder / SEALS, seals_of(folder, names))


def damaged_files(folder: Path, names: Collection[str] = ()) -> list[str]:
    """Files of a sealed folder that are not what was written; of one without digests, none.

    Args:
        names: look at these alone; (): at all.
    """
    if not (folder / SEALS).exists():
        return []
    try:
        seals = read_signed(folder / SEALS, "digests of the files beside it")
        return broken_seals(folder, {k: v for k, v in seals.items() if not names or k in names})
    except DamagedError:
        return [SEALS]


@contextlib.contextmanager
def sealed_folder(path: str | Path, num_bytes: float = 0) -> Iterator[Path]:
    """As ``genkt.io.atomic_folder``, with the digests of all files that were written."""
    with atomic_folder(path, num_bytes) as temporary:
        yield temporary
        seal(temporary, sorted(file.name for file in temporary.iterdir()))


def require_sealed(folder: Path) -> None:
    """Raise DamagedError where a sealed folder is not what was written."""
    remedy = f"take it from a copy, or make it again; without {SEALS} it is taken as it is"
    for name in damaged_files(folder):
        raise damaged(folder / name, f"what {SEALS} says", "missing or altered", remedy)


def _is_sealed(path: Path, seal: str) -> bool:
    try:
        return path.is_file() and file_digest(path) == seal
    except OSError:  # what cannot be read cannot be used either
        return False


def discard(path: Path) -> None:
    """Remove a file, or a folder that lies in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_or_forget(path: Path, read: Callable[[], Value], consequence: str) -> Value | None:
    """What a file says; a damaged one is removed, and that is told.

    Args:
        consequence: what happens now, e.g. "it is measured again".
    """
    try:
        return read()
    except DamagedError as error:
        logger.warning("%s; %s", error, consequence)
        discard(path)
        return None


def number(value: Any) -> float:
    """A finite number, for files that are read.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return float(value)
