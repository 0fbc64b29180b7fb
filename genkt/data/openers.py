"""How a set of images opens its pictures, and what is known about their storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.pictures.decode import DECODING

BLOCK_ROWS = 64
"""Neighbours in storage that make up a block; see ``ImageSet.blocks``."""


class Opener(Protocol):
    """Opens one sample's picture for an ImageSet; must be picklable for worker processes."""

    def __call__(self, sample_id: str, item: int) -> Image.Image: ...


@runtime_checkable
class StorageOpener(Protocol):
    """An opener of large files, which reads neighbours faster than scattered samples."""

    def blocks(self, items: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """[N] the block of storage of each item; None where any order reads as fast."""

    def read_ahead(self, items: NDArray[np.int64]) -> None:
        """Ask the system to fetch the bytes of the next items, all at once."""


@runtime_checkable
class FixedOpener(Protocol):
    """An opener of pixels, or of files that genkt wrote, rather than of users' files."""

    decoding: int
    """The first ``DECODING`` number under which an id has its present pixels."""


@dataclass(frozen=True)
class ChainedOpener:
    """Items of several openers in one number: ``item * len(openers) + which``."""

    openers: tuple[Opener, ...]

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        item, which = divmod(item, len(self.openers))
        return self.openers[which](sample_id, item)

    @property
    def decoding(self) -> int:
        """See ``FixedOpener``: the number of the opener that changed last."""
        return max(decoding_of(opener) for opener in self.openers)

    def blocks(self, items: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """[N] the block of each item; items without one get blocks in their order."""
        found, first, known = np.zeros(len(items), np.int64), 0, False
        for which, opener in enumerate(self.openers):
            rows = np.flatnonzero(items % len(self.openers) == which)
            own = blocks_of(opener, items[rows] // len(self.openers))
            known = known or own is not None
            found[rows] = first + (np.arange(len(rows)) // BLOCK_ROWS if own is None else own)
            first = int(found[rows].max(initial=first - 1)) + 1
        return found if known else None

    def read_ahead(self, items: NDArray[np.int64]) -> None:
        """Pass each opener its own items."""
        for which, opener in enumerate(self.openers):
            if isinstance(opener, StorageOpener):
                rows = items % len(self.openers) == which
                opener.read_ahead(items[rows] // len(self.openers))


def decoding_of(opener: Opener) -> int:
    """The first ``DECODING`` number under which an id has its present pixels."""
    return opener.decoding if isinstance(opener, FixedOpener) else DECODING


def origin_of(opener: Opener, item: int) -> tuple[Opener, int]:
    """The opener that makes an item, and its number there."""
    if not isinstance(opener, ChainedOpener):
        return opener, item
    item, which = divmod(item, len(opener.openers))
    return origin_of(opener.openers[which], item)


def blocks_of(opener: Opener, items: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """[N] the block of storage of each item; None where any order reads as fast."""
    return opener.blocks(items) if isinstance(opener, StorageOpener) else None
