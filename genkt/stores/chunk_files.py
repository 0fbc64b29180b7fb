"""The files under a cache of teacher outputs: layout, signed JSON, headers, sizes and digests."""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import LostImage
from genkt.files import read_signed
from genkt.io import fingerprint
from genkt.types import DamagedError, ModelOutput, UserError

logger = logging.getLogger("genkt")

FORMAT = 1
OUTPUTS = ("features", "logits", "feature_map")
DTYPES = ("float16", "float32")
_CHUNK_BYTES = 4 << 20
_MOST_MAPPED_BYTES = 64 << 20


class StoreError(UserError):
    """A store that must not be used: damaged, truncated, or with another identity."""


class NonFiniteError(UserError):
    """Outputs that are NaN or infinite, or overflow the store's dtype.

    Args:
        rows: the bad rows.  overflow: the values are finite in float32.
    """

    def __init__(self, rows: Sequence[int], output: str, overflow: bool, dtype: str) -> None:
        self.rows, self.output, self.overflow, self.dtype = tuple(rows), output, overflow, dtype
        super().__init__(self.describe([f"row {row}" for row in rows]))

    def describe(self, names: Sequence[str]) -> str:
        """The message, with the rows under the names given."""
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        if self.overflow:
            return f"teacher {self.output} overflow {self.dtype} for {shown}. Use dtype=float32"
        advice = "Use precision=float32, or check the teacher's weights"
        return f"teacher {self.output} are NaN or infinite for {shown}. {advice}"


@dataclass(frozen=True)
class StoreLayout:
    """Sizes of a store.

    Args:
        num_rows: samples x views.  widths: columns of each output.  dtype: "float16" | "float32".
        map_shape: (D, H', W') of a feature map, whose D H' W' numbers are its columns; None if none
        is stored.
    """

    num_rows: int
    widths: Mapping[str, int]
    dtype: str
    map_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.widths if name not in OUTPUTS]
        if unknown or not self.widths:
            raise UserError.of("outputs", f"some of {', '.join(OUTPUTS)}", unknown)
        if self.dtype not in DTYPES:
            raise UserError.of("dtype", f"one of {', '.join(DTYPES)}", repr(self.dtype))
        if self.num_rows < 1 or min(self.widths.values()) < 1:
            raise UserError(f"expected at least one row and column, got {self.as_dict()}")
        columns = None if self.map_shape is None else math.prod(self.map_shape)
        assert self.widths.get("feature_map") == columns, (self.widths, self.map_shape)

    def row_bytes(self, name: str) -> int:
        """Bytes of one row of an output."""
        return self.widths[name] * np.dtype(self.dtype).itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return self.num_rows * sum(self.row_bytes(name) for name in self.widths)

    @property
    def chunk_rows(self) -> int:
        """Rows that share one digest."""
        return max(1, _CHUNK_BYTES // max(self.row_bytes(name) for name in self.widths))

    def as_dict(self) -> dict[str, Any]:
        """The layout as plain JSON values."""
        values = {"num_rows": self.num_rows, "widths": dict(self.widths), "dtype": self.dtype}
        # Only written if there is a map, so that stores without one keep their format.
        return values if self.map_shape is None else values | {"map_shape": list(self.map_shape)}


class ChunkDigests:
    """Running digests of an output's rows, one for each ``chunk_rows`` of them.

    Args:
        closed: digests of whole chunks that were written before.
    """

    def __init__(self, layout: StoreLayout, closed: Sequence[str] = ()) -> None:
        self.closed = list(closed)
        self._chunk_rows, self._open_rows = layout.chunk_rows, 0
        self._running = _hasher()

    @property
    def tail(self) -> str:
        """Digest of the rows after the last whole chunk."""
        return self._running.hexdigest()

    def update(self, rows: np.ndarray) -> None:
        """Add the next rows, and close each chunk that they fill."""
        while len(rows):
            part, rows = np.split(rows, [self._chunk_rows - self._open_rows])
            self._running.update(part.data)
            self._open_rows += len(part)
            if self._open_rows == self._chunk_rows:
                self.close()

    def close(self) -> None:
        """End the open chunk, if it has rows."""
        if self._open_rows:
            self.closed.append(self.tail)
            self._running, self._open_rows = _hasher(), 0


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=8)


def require(condition: bool, path: Path, reason: str) -> None:
    """Raise StoreError about the store at ``path`` unless the condition holds."""
    if not condition:
        raise StoreError(f"teacher cache {path}: {reason}; remove the folder to recompute it")


def lost_rows(facts: Mapping[str, Any]) -> dict[int, LostImage]:
    """Rows without outputs that a meta or progress file lists, with the errors of their images."""
    return {int(row): LostImage(*error) for row, error in facts.get("lost", {}).items()}


def refuse_lost(lost: Mapping[int, LostImage], wanted: np.ndarray) -> None:
    """Raise the error of the first wanted row that has no outputs."""
    for row in wanted.tolist() if lost else ():
        if row in lost:
            raise lost[row]


def decoding_key(decoding: int) -> dict[str, int]:
    """The entry for ``ImageSet.decoding`` in a store's identity; empty for the first value."""
    return {} if decoding == 1 else {"decoding": decoding}


def tell_outdated(home: Path, identity: Mapping[str, Any]) -> None:
    """Log why a store is computed again after a change in the decoding of pictures."""
    current = identity.get("decoding", 1)
    plain = {name: value for name, value in identity.items() if name != "decoding"}
    for decoding in range(1, current):
        old = home / fingerprint(plain | decoding_key(decoding))
        if old.is_dir() and not (home / fingerprint(identity)).exists():
            logger.warning(
                "%s is of pictures as an earlier genkt decoded them; some are decoded "
                "differently now, so it is computed again. The old folder can be removed",
                old,
            )


def read_facts(path: Path) -> dict[str, Any]:
    """Signed JSON of a store; an error if it was altered or cannot be read."""
    try:
        return read_signed(path, "what a store says of itself")
    except DamagedError as error:
        raise StoreError(f"teacher cache {error}") from error


def layout_of(meta: Mapping[str, Any], path: Path) -> StoreLayout:
    """The layout a store's meta names."""
    require(meta["identity"].get("format", FORMAT) == FORMAT, path, "of another genkt version")
    layout = dict(meta["layout"])
    if "map_shape" in layout:
        layout["map_shape"] = tuple(layout["map_shape"])
    return StoreLayout(**layout)


def check_file(path: Path, name: str, layout: StoreLayout) -> int:
    """Byte offset of the values, after comparing the header and the exact size with the layout."""
    file = path / f"{name}.npy"
    try:
        with open(file, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            require(version == (1, 0), path, f"{file.name} has another header")
            header = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
            num_bytes = os.fstat(stream.fileno()).st_size
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"teacher cache {path}: {file.name} is missing or damaged") from error
    shape = (layout.num_rows, layout.widths[name])
    require(header == (shape, False, np.dtype(layout.dtype)), path, f"{file.name} has {header}")
    expected = offset + layout.num_rows * layout.row_bytes(name)
    require(num_bytes == expected, path, f"{file.name} has {num_bytes} bytes, not {expected}")
    return offset


class MappedArray:
    """One read-only .npy file, whose mapped pages do not accumulate in memory."""

    def __init__(self, path: Path, name: str, layout: StoreLayout) -> None:
        offset = check_file(path, name, layout)
        with open(path / f"{name}.npy", "rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(self._map, dtype=layout.dtype, offset=offset)
        self._values = values.reshape(layout.num_rows, layout.widths[name])
        # Pages of a small file may stay mapped. Those of a large one would fill this process's
        # memory. All of them stay in the system's file cache either way.
        self._drops = len(self._map) > _MOST_MAPPED_BYTES and hasattr(mmap, "MADV_DONTNEED")

    def take(self, wanted: np.ndarray, order: np.ndarray) -> Tensor:
        """[B, width] float32 rows; ``order`` sorts ``wanted``, so that the file is read forward."""
        gathered = np.empty((len(wanted), self._values.shape[1]), dtype=np.float32)
        gathered[order] = self.stored(wanted[order])
        return torch.from_numpy(gathered)

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """[B, width] rows as they are stored, copied."""
        copied: np.ndarray = self._values[rows]
        if self._drops:
            self._map.madvise(mmap.MADV_DONTNEED)
        return copied


def read_outputs(
    arrays: Mapping[str, MappedArray], layout: StoreLayout, wanted: np.ndarray, *, maps: bool
) -> ModelOutput:
    """The outputs of rows, float32 on CPU, in the order asked; see ``OutputStore.rows``."""
    order = np.argsort(wanted)
    taken = {
        name: array.take(wanted, order)
        for name, array in arrays.items()
        if maps or name != "feature_map"
    }
    features = taken.get("features", torch.empty(len(wanted), 0))
    feature_map = taken.get("feature_map")
    if feature_map is not None and layout.map_shape is not None:
        feature_map = feature_map.reshape(-1, *layout.map_shape)
    return ModelOutput(features, taken.get("logits"), feature_map)


def checked_rows(indices: Sequence[int] | np.ndarray | Tensor, layout: StoreLayout) -> np.ndarray:
    """[B] row numbers. Raises: IndexError: a row that the store does not have."""
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < layout.num_rows:
        raise IndexError(f"rows {wanted.min()}..{wanted.max()} of a store of {layout.num_rows}")
    return wanted


def as_stored(
    outputs: Mapping[str, Tensor], layout: StoreLayout, rows: Sequence[int] | np.ndarray,
    lost: Container[int] = (),
) -> dict[str, np.ndarray]:  # fmt: skip
    """Outputs of rows in the store's dtype.

    Args:
        outputs: [B, width] floats of every output of the layout.  rows: their B numbers.
        lost: rows without outputs, which become NaN.

    Raises:
        NonFiniteError: a value is NaN or infinite, or becomes so in the store's dtype.
    """
    gone = [place for place, row in enumerate(rows) if int(row) in lost]
    return {name: _as_stored(name, outputs[name], layout, rows, gone) for name in layout.widths}


def _as_stored(
    name: str, values: Tensor, layout: StoreLayout, rows: Sequence[int] | np.ndarray,
    gone: Sequence[int],
) -> np.ndarray:  # fmt: skip
    assert values.shape[1:] == (layout.widths[name],), (name, tuple(values.shape))
    values = values.detach().cpu()
    stored = values.to(getattr(torch, layout.dtype)).contiguous()
    finite = torch.isfinite(stored).all(dim=1)
    blank = torch.tensor(gone, dtype=torch.int64)
    finite[blank] = True
    if not finite.all():
        at_fault = (~finite).nonzero().flatten()
        overflow = bool(torch.isfinite(values[at_fault]).all())
        bad = np.asarray(rows)[at_fault.numpy()].tolist()
        raise NonFiniteError(bad, name, overflow, layout.dtype)
    array: np.ndarray = stored.index_fill(0, blank, torch.nan).numpy()
    return array


def read_rows(path: Path, name: str, layout: StoreLayout, start: int, stop: int) -> bytes:
    """Bytes of rows, read past the memory map so that checking does not grow it."""
    offset, row_bytes = check_file(path, name, layout), layout.row_bytes(name)
    with open(path / f"{name}.npy", "rb") as stream:
        stream.seek(offset + start * row_bytes)
        return stream.read((stop - start) * row_bytes)


def check_chunks(
    path: Path, layout: StoreLayout, digests: Mapping[str, Sequence[str]], chunks: Sequence[int]
) -> None:
    """Compare the digests of whole chunks with what is on disk."""
    for name in layout.widths:
        for chunk in chunks:
            start = chunk * layout.chunk_rows
            stop = min(start + layout.chunk_rows, layout.num_rows)
            digest = _hasher()
            digest.update(read_rows(path, name, layout, start, stop))
            intact = chunk < len(digests[name]) and digests[name][chunk] == digest.hexdigest()
            require(intact, path, f"{name} rows {start}..{stop - 1} are damaged")


def write_all(write: Callable[[memoryview], int | None], data: memoryview) -> None:
    """Unbuffered writes may stop short; go on until everything is written."""
    while len(data):
        data = data[write(data) or 0 :]


def sync_folder(path: Path) -> None:
    """Make a rename durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
