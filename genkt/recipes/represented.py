"""What a run's generator has made: transfer sets, and labelled images re-represented."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from genkt.data.images import ImageSet, concat
from genkt.data.parts import without_classes
from genkt.data.transfer_set import TransferSet
from genkt.recipes.data import Draw
from genkt.types import UNLABELLED

Pictures = Literal["originals", "reconstructions", "both"]


@dataclass(frozen=True)
class OwnSet:
    """A draw's own transfer set and what making or retrieving it took."""

    found: TransferSet
    seconds: float


@dataclass(frozen=True)
class Represented:
    """The labelled images of all draws and what the generator makes of them (IRF, stage 2).

    Args:
        images: M originals, then their M reconstructions in the same order, without labels.
        rows: [M] the originals' rows in the pool, ascending.
        test: the reconstructed test images, where something is tested on them.
        seconds: what making them took.
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
        reconstructions: one an original, in the same order; their own classes do not count.
    """
    assert len(originals) == len(reconstructions)
    return concat(originals.without_labels(), without_classes(reconstructions))
