"""Small transfer sets whose every picture is another, and openers that fail on purpose."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet, Opener, from_arrays
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import Record, Source

CLASSES = ("cat", "<b>dög")


def drawn(name: str, count: int, side: int = 6) -> ImageSet:
    """``count`` pictures that no other name has; every third without a label."""
    draws = np.random.default_rng(list(name.encode()))
    pixels = draws.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return from_arrays(pixels, [row % 3 - 1 for row in range(count)], CLASSES, name)


def plain(name: str, count: int, source: Source = "real") -> TransferSet:
    """A set of ``drawn`` pictures of which no more is known."""
    return TransferSet.of(drawn(name, count), source)


def retrieved(name: str, count: int) -> TransferSet:
    """A set with a provenance of its own: query, score and crop."""
    images = drawn(name, count).without_labels()

    def record(row: int) -> Record:
        detail = {"query": f"q/{row % 2}.png", "score": 0.5 + row / 100, "crop": {"index": row}}
        return Record(images.ids[row], -1, "retrieved", f"q/{row % 2}.png#00", None, detail)

    return TransferSet.of(images, "retrieved", records=record)


@dataclass(frozen=True)
class Stopping:
    """Opens pictures, but stops at one of them as long as a file is there.

    Args:
        kill: end the process as ``kill -9`` does; otherwise as the user's interrupt does.
    """

    opener: Opener
    at: int
    flag: str
    kill: bool = False

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        if item == self.at and Path(self.flag).exists():
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return self.opener(sample_id, item)


def stopping(images: ImageSet, at: int, flag: Path, *, kill: bool = False) -> ImageSet:
    """The same images, not all of which can be opened while ``flag`` is there."""
    opener = Stopping(images.open_item, at, str(flag), kill)
    return ImageSet(images.ids, images.labels, images.classes, images.items, opener)
