"""The order in which a stage walks over images: every position is computed, none is stored."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from genkt.io import derive_seed

WINDOW_ROWS = 4096
"""Rows that are shuffled among each other where storage comes in blocks; fewer rows are one."""

_KEPT = 2
Value = TypeVar("Value")


class Cursor(NamedTuple):
    """A position of a stream: the epoch, the window of it, the place in that window's order."""

    epoch: int
    window: int
    offset: int


@dataclass(frozen=True)
class Stream:
    """An endless shuffled walk over some rows of a set: epoch after epoch, each row once.

    Position p of the stream depends on (seed, p) alone, so a resumed run, another batch size of
    micro-batches or another number of workers reads the same rows.

    Without blocks an epoch is one permutation of all rows. With blocks (tars: neighbours are read
    much faster than rows here and there) an epoch permutes the blocks and cuts that order into
    windows of about ``WINDOW_ROWS`` rows; the rows of a window, which come from some dozens of
    places of the set, are permuted. Finding a position costs one window, however large the set is.

    >>> rows = Stream(np.arange(3), seed=0).take(0, 6)
    >>> sorted(rows[:3, 0].tolist()), rows[:, 1].tolist()
    ([0, 1, 2], [0, 0, 0, 1, 1, 1])

    Args:
        indices: [N] the rows.
        seed: of every order.
        blocks: [N] the block of storage that each of the rows lies in (``ImageSet.blocks``).
    """

    indices: NDArray[np.int64]
    seed: int
    blocks: NDArray[np.int64] | None = None
    _layouts: dict[Hashable, _Layout] = field(default_factory=dict, compare=False, repr=False)
    _orders: dict[Hashable, NDArray[np.int64]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Rows [count, 2] (sample index, epoch) at positions start .. start + count."""
        rows = np.empty((count, 2), dtype=np.int64)
        done = 0
        while done < count:
            epoch, window, offset = self.cursor(start + done)
            some = self._order(epoch, window)[offset : offset + count - done]
            rows[done : done + len(some), 0] = some
            rows[done : done + len(some), 1] = epoch
            done += len(some)
        return rows

    def cursor(self, position: int) -> Cursor:
        """Where a position lies."""
        epoch, place = divmod(position, len(self.indices))
        if self._by_block is None:
            return Cursor(epoch, 0, place)
        bounds = self._layout(epoch).bounds
        window = int(np.searchsorted(bounds, place, side="right")) - 1
        return Cursor(epoch, window, place - int(bounds[window]))

    def _order(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The rows of a window, in their order."""
        if self._by_block is None:
            return _kept(self._orders, epoch, lambda: self._shuffled(self.indices, "order", epoch))
        return _kept(
            self._orders,
            (epoch, window),
            lambda: self._shuffled(self._window_rows(epoch, window), "window", epoch, window),
        )

    def _window_rows(self, epoch: int, window: int) -> NDArray[np.int64]:
        assert self._by_block is not None
        rows, starts = self._by_block
        layout = self._layout(epoch)
        first, last = layout.firsts[window : window + 2]
        chosen = layout.blocks[first:last]
        return np.concatenate([rows[starts[block] : starts[block + 1]] for block in chosen])

    def _layout(self, epoch: int) -> _Layout:
        return _kept(self._layouts, epoch, lambda: self._new_layout(epoch))

    def _new_layout(self, epoch: int) -> _Layout:
        assert self._by_block is not None
        starts = self._by_block[1]
        blocks = self._shuffled(np.arange(len(starts) - 1), "blocks", epoch)
        ends = np.cumsum(np.diff(starts)[blocks])
        begins = np.concatenate([[0], ends[:-1]])
        _, firsts = np.unique(begins // WINDOW_ROWS, return_index=True)
        bounds = begins[firsts]
        return _Layout(blocks, np.append(firsts, len(blocks)), bounds)

    @cached_property
    def _by_block(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """The rows, block after block, and [blocks + 1] where each starts; None: one window."""
        if self.blocks is None or len(self.indices) <= WINDOW_ROWS:
            return None
        order = np.argsort(self.blocks, kind="stable")
        _, starts = np.unique(self.blocks[order], return_index=True)
        return self.indices[order], np.append(starts, len(order))

    def _shuffled(self, values: NDArray[np.int64], *purpose: int | str) -> NDArray[np.int64]:
        generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, *purpose)))
        shuffled: NDArray[np.int64] = values[generator.permutation(len(values))]
        return shuffled


@dataclass(frozen=True)
class _Layout:
    """An epoch: the order of its blocks, and its W windows.

    Args:
        blocks: the blocks in their order.
        firsts: [W + 1] where in ``blocks`` each window starts.
        bounds: [W] the position in the epoch of its first row.
    """

    blocks: NDArray[np.int64]
    firsts: NDArray[np.int64]
    bounds: NDArray[np.int64]


def _kept(known: dict[Hashable, Value], key: Hashable, make: Callable[[], Value]) -> Value:
    """The value of a key, computed again unless it is among the last few."""
    if key not in known:
        while len(known) >= _KEPT:
            del known[next(iter(known))]
        known[key] = make()
    return known[key]
