"""One teacher's outputs on disk: written once, memory-mapped, never stale.

A finished store is a folder named by the fingerprint of its identity::

    <home>/<fingerprint>/meta.json      identity, layout, a digest of every chunk, its own digest
    <home>/<fingerprint>/features.npy   [rows, D] float16 or float32
    <home>/<fingerprint>/logits.npy     [rows, C]
    <home>/<fingerprint>/feature_map.npy  [rows, D * H' * W'], where asked for
    <home>/<fingerprint>.partial/       the same while it is written, with progress.json
    <home>/<fingerprint>.lock           held by the process that writes

Row = sample index * K + view index. Rows are written in order. A *commit* flushes them to the
disk and only then replaces ``progress.json`` in one step, so after SIGKILL or a power cut the
committed rows are intact. Their digests are checked before writing continues. The folder gets its
final name last.

Rows of images that could not be read are NaN and listed in ``meta.json``; reading them is an error.

When a store is opened its identity, its own digest, the array headers and the exact file sizes
are always checked. Every chunk's digest is checked up to ``CHECKED_BYTES``; in a larger store that
many bytes, spread evenly, are checked. ``OutputStore.verify`` reads all of it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from genkt.data.images import LostImage
from genkt.data.views import ViewSpec
from genkt.disk import make_folder, naming_place, require_free
from genkt.files import discard, write_signed
from genkt.io import fingerprint, fingerprint_ids, held
from genkt.stores.chunk_files import (
    FORMAT,
    ChunkDigests,
    MappedArray,
    NonFiniteError,
    StoreError,
    StoreLayout,
    as_stored,
    check_chunks,
    check_file,
    checked_rows,
    decoding_key,
    layout_of,
    lost_rows,
    read_facts,
    read_outputs,
    read_rows,
    refuse_lost,
    require,
    sync_folder,
    write_all,
)
from genkt.types import ModelOutput

__all__ = [
    "NonFiniteError",
    "OutputStore",
    "StoreError",
    "StoreLayout",
    "StoreWriter",
    "store_identity",
    "store_lock",
    "store_path",
]

logger = logging.getLogger(__name__)

CHECKED_BYTES = 256 << 20
_COMMIT_SECONDS = 2.0


def store_identity(
    *, teacher: str, transform: Mapping[str, Any], views: ViewSpec, dtype: str,
    outputs: Sequence[str], precision: str, ids: Sequence[str],
    map_shape: tuple[int, int, int] | None = None, decoding: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Everything a stored value depends on; each identity has its own folder.

    Args:
        teacher: fingerprint of its weights.  transform: its input transform.
        precision: of the forward pass.  ids: N ordered sample ids.
        map_shape: (D, H', W') of the feature maps; None where none are stored.
        decoding: see ``ImageSet.decoding``.
    """
    maps = {} if map_shape is None else {"map_shape": list(map_shape)}
    return {
        "format": FORMAT,
        "teacher": teacher,
        "transform": dict(transform),
        "views": views.as_dict(),
        "dtype": dtype,
        "outputs": list(outputs),
        "precision": precision,
        "num_samples": len(ids),
        "ids": fingerprint_ids(ids),
        **maps,
        **decoding_key(decoding),
    }


def store_path(home: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of the finished store."""
    return home / fingerprint(identity)


def store_lock(home: Path, identity: Mapping[str, Any]) -> AbstractContextManager[float]:
    """Hold the store's lock; a second process waits here. Released when its holder dies."""
    path = store_path(home, identity).with_suffix(".lock")
    return held(path, f"another process is computing {path.stem}; waiting for it")


def require_same(
    path: Path, identity: Mapping[str, Any], ids: Sequence[str], views: ViewSpec
) -> None:
    """Refuse samples or views that are not those of a store. Raises: StoreError."""
    same_ids = identity.get("ids") == fingerprint_ids(ids)
    require(same_ids, path, "it has other samples, or another order of them")
    same_views = identity.get("views") == views.as_dict()
    require(same_views, path, "the teacher saw other views than the student would")


class OutputStore:
    """A finished store, read through a memory map; safe to share with worker processes.

    Example:
        >>> import tempfile, torch
        >>> layout = StoreLayout(num_rows=2, widths={"logits": 3}, dtype="float16")
        >>> writer = StoreWriter(Path(tempfile.mkdtemp()), {"teacher": "a"}, layout)
        >>> writer.write(0, {"logits": torch.eye(2, 3)})
        >>> writer.finish().rows([1, 0]).logits
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], layout: StoreLayout,
        lost: Mapping[int, LostImage] | None = None,
    ) -> None:  # fmt: skip
        """Map the arrays of a store that ``open`` has checked.

        Args:
            lost: rows without outputs, with the errors of their images.
        """
        self.path, self.identity, self.layout = path, dict(identity), layout
        self.lost = dict(lost or {})
        self._arrays = {name: MappedArray(path, name, layout) for name in layout.widths}

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any] | None = None) -> OutputStore:
        """Check a finished store and map it.

        Args:
            identity: the expected identity; None: the one in its meta file.

        Raises:
            StoreError: it is absent, damaged, truncated, or of another identity.
        """
        meta = read_facts(path / "meta.json")
        layout = layout_of(meta, path)
        require(fingerprint(meta["identity"]) == path.name, path, "its name is not its identity")
        if identity is not None:
            same = fingerprint(identity) == fingerprint(meta["identity"])
            require(same, path, "it was computed for another identity")
        for name in layout.widths:
            check_file(path, name, layout)
        num_chunks = -(-layout.num_rows // layout.chunk_rows)
        checkable = max(2, num_chunks * CHECKED_BYTES // layout.num_bytes)
        picked = np.unique(np.linspace(0, num_chunks - 1, min(num_chunks, checkable)).astype(int))
        check_chunks(path, layout, meta["digests"], picked.tolist())
        return cls(path, meta["identity"], layout, lost_rows(meta))

    def __len__(self) -> int:
        return self.layout.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.identity, self.layout, self.lost)

    def rows(
        self, indices: Sequence[int] | np.ndarray | Tensor, *, maps: bool = True
    ) -> ModelOutput:
        """The outputs of rows, float32 on CPU, in the order asked.

        Args:
            indices: [B] row = sample index * K + view index; repeats are fine.
            maps: read stored feature maps too: about a thousand times as much data.

        Returns:
            features [B, D] (D = 0 where features were not stored), logits [B, C] or None, and the
            feature map [B, D, H', W'] or None.

        Raises:
            IndexError: a row that the store does not have.
            LostImage: a row of an image that could not be read.
        """
        wanted = checked_rows(indices, self.layout)
        refuse_lost(self.lost, wanted)
        return self.stored_rows(wanted, maps=maps)

    def stored_rows(self, wanted: np.ndarray, *, maps: bool = True) -> ModelOutput:
        """As ``rows``, but rows without outputs are NaN."""
        return read_outputs(self._arrays, self.layout, wanted, maps=maps)

    @property
    def is_whole(self) -> bool:
        """Every row is there."""
        return True

    def fill(self, rows: np.ndarray) -> None:
        """Nothing: all rows are there."""

    def fingerprint(self) -> str:
        """Of its identity."""
        return fingerprint(self.identity)

    def require_samples(self, ids: Sequence[str], views: ViewSpec) -> None:
        """Refuse a loader whose samples or views are not those the teacher saw.

        Raises:
            StoreError: other ids, another order, or another view spec.
        """
        require_same(self.path, self.identity, ids, views)

    def verify(self) -> None:
        """Read every byte and compare every chunk's digest.

        Raises:
            StoreError: a chunk differs.
        """
        digests = read_facts(self.path / "meta.json")["digests"]
        num_chunks = -(-self.layout.num_rows // self.layout.chunk_rows)
        check_chunks(self.path, self.layout, digests, range(num_chunks))


class StoreWriter:
    """Writes a store in row order, from the last commit of an interrupted one if there is any.

    Call it under ``store_lock``.

    Args:
        home: folder of stores.  identity: see ``store_identity``.
        commit_seconds: how much work an interruption may lose. Commits also space themselves so
            that they take at most a hundredth of the time.

    Raises:
        UserError: the disk has no room for the store.
    """

    def __init__(
        self,
        home: Path,
        identity: Mapping[str, Any],
        layout: StoreLayout,
        commit_seconds: float = _COMMIT_SECONDS,
    ) -> None:
        self.identity, self.layout = dict(identity), layout
        self.final = store_path(home, identity)
        self.partial = self.final.with_suffix(".partial")
        self.commit_seconds = commit_seconds
        self.num_done = 0
        self.lost: dict[int, LostImage] = {}
        """Rows without outputs; they are listed here before they are written."""
        self._digests = {name: ChunkDigests(layout) for name in layout.widths}
        try:
            self._resume()
        except StoreError as error:
            if self.partial.exists():
                logger.warning("%s; starting again", error)
            self._start()
        self._offsets = {name: check_file(self.partial, name, layout) for name in layout.widths}
        self._files = {
            name: open(self.partial / f"{name}.npy", "r+b", buffering=0)  # noqa: SIM115
            for name in layout.widths
        }
        self._next_commit = time.monotonic() + commit_seconds

    def write(self, start_row: int, outputs: Mapping[str, Tensor]) -> None:
        """Append rows.

        Args:
            start_row: the first row, which must be ``num_done``.
            outputs: [B, width] floats of every output of the layout.

        Raises:
            NonFiniteError: a value is NaN or infinite, or becomes so in the store's dtype.
        """
        assert start_row == self.num_done, (start_row, self.num_done)
        first = next(iter(outputs.values()))
        rows = range(start_row, start_row + len(first))
        arrays = as_stored(outputs, self.layout, rows, self.lost)
        num_rows = {len(array) for array in arrays.values()}
        assert len(num_rows) == 1, num_rows
        for name, array in arrays.items():
            # Plain writes, not a writable map: a full disk is an error here, not a killed process.
            position = self._offsets[name] + start_row * self.layout.row_bytes(name)
            self._files[name].seek(position)
            with naming_place(self.partial / f"{name}.npy", num_bytes=self._rest(start_row)):
                write_all(self._files[name].write, array.data.cast("B"))
            self._digests[name].update(array)
        self.num_done += num_rows.pop()
        if time.monotonic() >= self._next_commit:
            self.commit()

    def _rest(self, start_row: int) -> int:
        """Bytes of all rows from one on: so much room is needed until the store is whole."""
        rows = self.layout.num_rows - start_row
        return rows * sum(self.layout.row_bytes(name) for name in self.layout.widths)

    def commit(self) -> None:
        """Make the rows written so far durable, then record that they are."""
        started = time.monotonic()
        for file in self._files.values():
            os.fsync(file.fileno())
        tails = {name: digests.tail for name, digests in self._digests.items()}
        write_signed(
            self.partial / "progress.json",
            self._meta() | {"num_done": self.num_done, "tails": tails},
        )
        now = time.monotonic()
        self._next_commit = now + max(self.commit_seconds, 100 * (now - started))

    def finish(self) -> OutputStore:
        """Give the complete store its final name, check it and open it."""
        assert self.num_done == self.layout.num_rows, (self.num_done, self.layout.num_rows)
        for name, file in self._files.items():
            os.fsync(file.fileno())
            file.close()
            self._digests[name].close()
        write_signed(self.partial / "meta.json", self._meta())
        os.replace(self.partial, self.final)
        sync_folder(self.final.parent)
        # Only now: an interrupted finish resumes from it until the rename.
        (self.final / "progress.json").unlink(missing_ok=True)
        return OutputStore.open(self.final, self.identity)

    def close(self) -> None:
        """Close the files without a commit; a later start resumes from the last commit."""
        for file in self._files.values():
            file.close()

    def _meta(self) -> dict[str, Any]:
        lost = {row: error.args for row, error in self.lost.items() if row < self.num_done}
        return {
            "identity": self.identity,
            "layout": self.layout.as_dict(),
            "digests": {name: digests.closed for name, digests in self._digests.items()},
            **({"lost": lost} if lost else {}),
        }

    def _start(self) -> None:
        discard(self.partial)
        make_folder(self.partial)
        require_free(self.partial, self.layout.num_bytes, "teacher cache")
        for name, width in self.layout.widths.items():
            shape = (self.layout.num_rows, width)
            np.lib.format.open_memmap(
                self.partial / f"{name}.npy", "w+", dtype=np.dtype(self.layout.dtype), shape=shape
            )

    def _resume(self) -> None:
        """Continue a partial store; StoreError if there is none, or it is damaged."""
        progress = read_facts(self.partial / "progress.json")
        layout = layout_of(progress, self.partial)
        same = layout == self.layout and progress["identity"] == self.identity
        require(same, self.partial, "it is another store's")
        for name in layout.widths:
            check_file(self.partial, name, layout)
        num_done, digests = progress["num_done"], progress["digests"]
        num_whole = num_done // layout.chunk_rows
        check_chunks(self.partial, layout, digests, range(num_whole))
        start = num_whole * layout.chunk_rows
        resumed = {}
        for name in layout.widths:
            resumed[name] = ChunkDigests(layout, digests[name])
            rest = read_rows(self.partial, name, layout, start, num_done)
            values = np.frombuffer(rest, layout.dtype).reshape(-1, layout.widths[name])
            resumed[name].update(values)
            intact = resumed[name].tail == progress["tails"][name]
            require(intact, self.partial, f"{name} rows {start}..{num_done} are damaged")
        self.num_done, self._digests, self.lost = num_done, resumed, lost_rows(progress)
