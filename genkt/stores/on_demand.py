"""One teacher's outputs on disk, each row computed when it is first asked for.

The identity is that of the whole store (``genkt.stores.teacher_outputs``), so is the lock::

    <home>/<fingerprint>.rows/about.json     identity and layout, signed
    <home>/<fingerprint>.rows/features.npy   [rows, D], a file with holes; logits.npy too
    <home>/<fingerprint>.rows/checks.npy     [rows] uint64: 0 or 2**32 + CRC-32 of the row's bytes

A row counts where its check fits its bytes, which is looked at before it is first read. So after
SIGKILL, a power cut or damage the rows that do not fit are computed again, and only these.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from genkt.data.images import LostImage
from genkt.data.views import ViewSpec
from genkt.disk import make_folder, naming_place, require_free
from genkt.files import discard, write_signed
from genkt.io import fingerprint, held
from genkt.stores.chunk_files import (
    MappedArray,
    NonFiniteError,
    StoreError,
    StoreLayout,
    as_stored,
    check_file,
    checked_rows,
    layout_of,
    read_facts,
    read_outputs,
    refuse_lost,
    require,
    write_all,
)
from genkt.stores.teacher_outputs import require_same, store_path
from genkt.types import ModelOutput, UserError

logger = logging.getLogger("genkt")

Compute = Callable[[NDArray[np.int64], dict[int, LostImage]], Iterator[Mapping[str, Tensor]]]
"""Rows, ascending -> their outputs in that order, some rows after the other.

The second argument gets rows whose image cannot be read, before their outputs, which mean nothing.
"""

_ABOUT, _CHECKS = "about.json", "checks.npy"
_KEPT = np.uint64(1 << 32)
_CHECKED_BYTES = 32 << 20
_QUIET_SECONDS = 30.0


class OnDemandStore:
    """Outputs by row; what is asked for and not kept yet is computed.

    Args:
        home: folder of stores.  identity: see ``store_identity``.
        compute: makes the outputs of rows. What it gives for a row must not depend on the others.
        name_of: row -> the name of its image, for messages.
    """

    def __init__(
        self, home: Path, identity: Mapping[str, Any], layout: StoreLayout, compute: Compute,
        name_of: Callable[[int], str],
    ) -> None:  # fmt: skip
        self.identity, self.layout = dict(identity), layout
        self.path = store_path(home, identity).with_suffix(".rows")
        self.num_computed = 0
        self.lost: dict[int, LostImage] = {}
        """Rows whose images this process could not read; another one tries them again."""
        self._compute, self._name_of = compute, name_of
        self._sure = np.zeros(layout.num_rows, dtype=bool)
        with self._lock():
            self._open_or_begin()
        self._arrays = {name: MappedArray(self.path, name, layout) for name in layout.widths}
        self._checks = np.load(self.path / _CHECKS, mmap_mode="r")

    def __len__(self) -> int:
        return self.layout.num_rows

    @property
    def is_whole(self) -> bool:
        """Whether every row is there and was looked at."""
        return bool(self._sure.all())

    def rows(
        self, indices: Sequence[int] | NDArray[np.int64] | Tensor, *, maps: bool = True
    ) -> ModelOutput:
        """As ``OutputStore.rows``; what is missing is computed first.

        Raises:
            IndexError: a row that the store does not have.
            LostImage: a row of an image that cannot be read.
            UserError: see ``fill``.
        """
        wanted = checked_rows(indices, self.layout)
        self.fill(wanted)
        refuse_lost(self.lost, wanted)
        return read_outputs(self._arrays, self.layout, wanted, maps=maps)

    def fingerprint(self) -> str:
        """Of its identity."""
        return fingerprint(self.identity)

    def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
        """As ``OutputStore.require_samples``."""
        require_same(self.path, self.identity, ids, views)

    def fill(self, rows: NDArray[np.int64]) -> None:
        """Compute the rows that are missing, except of lost images; repeats are fine.

        Another process that computes some of them is waited for.

        Raises:
            UserError: outputs that are not finite, with the images' names; a full disk.
        """
        missing = self._missing(np.unique(rows))
        if not len(missing):
            return
        with self._lock():
            missing = self._missing(missing)
            try:
                self._write(missing)
            except NonFiniteError as error:
                names = dict.fromkeys(self._name_of(row) for row in error.rows)
                raise UserError(error.describe(list(names))) from error

    def _missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that are not there, or are damaged."""
        rows = rows[~self._sure[rows]]
        rows = rows[~np.isin(rows, list(self.lost))]
        kept = rows[self._checks[rows] != 0]
        step = max(1, _CHECKED_BYTES // (self.layout.num_bytes // len(self)))
        num_damaged = 0
        for start in range(0, len(kept), step):
            some = kept[start : start + step]
            values = [array.stored(some) for array in self._arrays.values()]
            right = _checks_of(values) == self._checks[some]
            self._sure[some[right]] = True
            num_damaged += int((~right).sum())
        if num_damaged:
            logger.warning(
                "teacher cache %s: %d rows are damaged; they are computed again",
                self.path, num_damaged,
            )  # fmt: skip
        return rows[~self._sure[rows]]

    def _write(self, rows: NDArray[np.int64]) -> None:
        row_bytes = self.layout.num_bytes // len(self)
        require_free(self.path, len(rows) * row_bytes, "teacher cache")
        done = 0
        with ExitStack() as opened, naming_place(self.path, num_bytes=len(rows) * row_bytes):
            files = {name: self._file(opened, f"{name}.npy") for name in self.layout.widths}
            checks = self._file(opened, _CHECKS)
            for outputs in self._compute(rows, self.lost):
                some = rows[done : done + len(next(iter(outputs.values())))]
                done += len(some)
                there = ~np.isin(some, list(self.lost))
                arrays = as_stored(outputs, self.layout, some, self.lost)
                arrays = {name: array[there] for name, array in arrays.items()}
                if not len(some := some[there]):
                    continue
                for name, array in arrays.items():
                    _put(files[name], some, array)
                # After the values: a row without its check is a missing one.
                _put(checks, some, _checks_of(list(arrays.values()))[:, None])
                self._sure[some] = True
                self.num_computed += len(some)
        assert done == len(rows), (done, len(rows))

    def _file(self, opened: ExitStack, name: str) -> Any:
        """A file open for writing, its position at the values."""
        file = opened.enter_context(open(self.path / name, "r+b", buffering=0))  # noqa: SIM115
        version = np.lib.format.read_magic(file)
        assert version == (1, 0), version
        np.lib.format.read_array_header_1_0(file)
        return file

    def _lock(self) -> AbstractContextManager[float]:
        name = self.path.stem
        told = f"another process is computing rows of {name}; waiting for it"
        return held(self.path.with_suffix(".lock"), told, quiet_seconds=_QUIET_SECONDS)

    def _open_or_begin(self) -> None:
        """Check what is there; begin anew if that is nothing, or not this store."""
        try:
            facts = read_facts(self.path / _ABOUT)
            require(layout_of(facts, self.path) == self.layout, self.path, "it is another store's")
            same = fingerprint(facts["identity"]) == fingerprint(self.identity)
            require(same, self.path, "it was computed for another identity")
            for name in self.layout.widths:
                check_file(self.path, name, self.layout)
            checks = _read_checks(self.path)
            require(checks == (len(self),), self.path, f"{_CHECKS} is damaged")
        except StoreError as error:
            if (self.path / _ABOUT).exists():
                logger.warning("%s. Starting it again", error)
            self._begin()

    def _begin(self) -> None:
        discard(self.path)
        make_folder(self.path)
        with naming_place(self.path):
            for name, width in self.layout.widths.items():
                np.lib.format.open_memmap(
                    self.path / f"{name}.npy", "w+", dtype=np.dtype(self.layout.dtype),
                    shape=(len(self), width),
                )  # fmt: skip
            np.save(self.path / _CHECKS, np.zeros(len(self), np.uint64))
        write_signed(
            self.path / _ABOUT, {"identity": self.identity, "layout": self.layout.as_dict()}
        )


def _checks_of(values: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    """[B] checks of rows, given every output's [B, width] values in the store's dtype."""
    found = np.empty(len(values[0]), np.uint64)
    for number, parts in enumerate(zip(*values, strict=True)):
        check = 0
        for part in parts:
            check = zlib.crc32(part.data.cast("B"), check)
        found[number] = check
    return found + _KEPT


def _put(file: Any, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Write rows at their places; neighbours at once.

    Plain writes, not a writable map: a full disk is an error here, not a killed process.
    """
    begin, row_bytes = _start_of(file), values.itemsize * values.shape[1]
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) > 1) + 1):
        file.seek(begin + int(rows[run[0]]) * row_bytes)
        write_all(file.write, np.ascontiguousarray(values[run]).data.cast("B"))
    file.seek(begin)


def _start_of(file: Any) -> int:
    """Where the values begin, at which a file stands between two calls."""
    position: int = file.tell()
    return position


def _read_checks(path: Path) -> tuple[int, ...]:
    """The shape of the checks. Raises: StoreError."""
    try:
        checks = np.load(path / _CHECKS, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"teacher cache {path}: {_CHECKS} is missing or damaged") from error
    shape: tuple[int, ...] = checks.shape
    return shape if checks.dtype == np.uint64 else ()
