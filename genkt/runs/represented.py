"""What a run's generator makes: transfer sets, and re-represented labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genkt.config.irf_settings import Pictures
from genkt.data.images import ImageSet, concat
from genkt.execution.ranks import Processes
from genkt.files import number, read_or_forget, read_signed, write_signed
from genkt.io import reading
from genkt.runs.pool import Draw
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.parts import without_classes
from genkt.types import UNLABELLED


@dataclass(frozen=True)
class OwnSet:
    """A draw's own transfer set and the seconds that it took."""

    transfer_set: TransferSet
    seconds: float


def timed_set(make: Callable[[], TransferSet], directory: Path, processes: Processes) -> OwnSet:
    """Make a draw's own set, or find it again; its seconds are kept beside its folder.

    Args:
        make: makes it in ``directory``, continues an interrupted one, or opens a finished one.
    """
    started = time.perf_counter()
    found = make()
    took = seconds_file(directory)  # reading a finished set again does not count
    if processes.rank == 0 and _seconds(took) is None:
        write_signed(took, {"seconds": time.perf_counter() - started})
    processes.meet()
    return OwnSet(found, _read_seconds(took))


def _seconds(took: Path) -> float | None:
    """The seconds that a set took; None if they were not noted yet, or the note is damaged."""
    if not took.exists():
        return None
    again = "the set is kept, only the time of opening it counts"
    return read_or_forget(took, lambda: _read_seconds(took), again)


def _read_seconds(took: Path) -> float:
    expected = "the seconds that a set took"
    saved = read_signed(took, expected, unsigned=("seconds",))
    with reading(took, expected):
        return number(saved["seconds"])


def seconds_file(directory: Path) -> Path:
    """The file in which ``timed_set`` notes the seconds of a complete set."""
    return directory.with_suffix(".json")


@dataclass(frozen=True)
class Represented:
    """The labelled images of all draws and what the generator makes of them (IRF, stage 2).

    Args:
        images: M originals, then their M reconstructions in the same order, without labels.
        rows: [M] the originals' rows in the pool, ascending.
        test: the reconstructed test images, where something is tested on them.
        seconds: time to make them.
    """

    images: ImageSet
    rows: np.ndarray
    test: ImageSet | None
    seconds: float

    def draw(self, draw: Draw, pictures: Pictures) -> Draw:
        """A draw's labelled images as originals, reconstructions or both; no transfer images."""
        places = np.searchsorted(self.rows, draw.labelled)
        twins = places + len(self.rows)
        labels = np.full(len(self.images), UNLABELLED, dtype=np.int64)
        labels[places] = labels[twins] = draw.labels[draw.labelled]
        chosen = {
            "originals": places,
            "reconstructions": twins,
            "both": np.concatenate([places, twins]),
        }[pictures]
        nothing = np.empty(0, dtype=np.int64)
        return replace(draw, images=self.images, labels=labels, labelled=chosen, transfer=nothing)


def beside(originals: ImageSet, reconstructions: ImageSet) -> ImageSet:
    """Originals, then their reconstructions, all unlabelled: a draw brings the labels.

    Args:
        reconstructions: one per original, in the same order; their own classes do not count.
    """
    assert len(originals) == len(reconstructions)
    return concat(originals.without_labels(), without_classes(reconstructions))
