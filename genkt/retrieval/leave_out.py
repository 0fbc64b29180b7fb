"""What stays out of a retrieved set: the same image again, near copies, images of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genkt.config.retrieval_settings import EncoderSettings
from genkt.data.images import content_of
from genkt.retrieval.leaks import Suspect
from genkt.retrieval.search.duplicates import near_duplicates

SAME, OF_THE_DATA = "same image again", "image of the data"
NEAR, LEAK = "near copy", "leak"


@dataclass(frozen=True)
class GalleryCandidates:
    """Gallery rows in the order of retrieval, and what is known of each.

    Args:
        image_ids: n ids of their images; crops of one image share it.
        rows: features of the rows themselves, one [n, D_e] array per encoder.
        whole: features of their whole images; the same arrays where there are no crops.
    """

    image_ids: Sequence[str]
    rows: tuple[NDArray[np.float16], ...]
    whole: tuple[NDArray[np.float16], ...]

    def select(self, places: NDArray[np.int64]) -> GalleryCandidates:
        """Some of them."""
        whole = tuple(array[places] for array in self.whole)
        same = self.whole is self.rows
        rows = whole if same else tuple(array[places] for array in self.rows)
        return GalleryCandidates([self.image_ids[place] for place in places.tolist()], rows, whole)


def repeated(image_ids: Sequence[str]) -> NDArray[np.bool_]:
    """[n] whether an image with the same content, or another crop of it, is earlier."""
    seen: set[str] = set()
    found = np.zeros(len(image_ids), dtype=bool)
    for place, each in enumerate(image_ids):
        content = content_of(each)
        found[place] = content in seen
        seen.add(content)
    return found


def among(image_ids: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """[n] whether an image's content is that of one of the others."""
    known = {content_of(each) for each in others}
    return np.array([content_of(each) in known for each in image_ids], dtype=bool)


def near_copies(
    whole: tuple[NDArray[np.float16], ...], settings: EncoderSettings
) -> NDArray[np.bool_]:
    """[n] whether an image is a near copy of one that was retrieved before it.

    Source: R. Vemulapalli et al., B.3: of a cluster of pairs whose mean similarity exceeds the
    threshold, one image stays; here the first in the order of retrieval.
    """
    if settings.duplicates is None or not len(whole[0]):
        return np.zeros(len(whole[0]), dtype=bool)
    used = [place for place, share in enumerate(settings.mean_of) if share > 0]
    found = near_duplicates(
        [whole[place] for place in used], settings.duplicates,
        weights=[settings.mean_of[place] for place in used],
    )  # fmt: skip
    return ~found.keep


@dataclass(frozen=True)
class Kept:
    """What the filters leave.

    Args:
        places: of the candidates that stay, in order; suspects that nobody has decided on too.
        dropped: how many were left out, by reason.
        suspects: those that may be leaks.
    """

    places: NDArray[np.int64]
    dropped: dict[str, int]
    suspects: list[Suspect]

    def without(self, leaks: Sequence[bool], most: int) -> tuple[NDArray[np.int64], dict[str, int]]:
        """The first ones that are no leaks, and everything that was left out.

        Args:
            leaks: one per suspect.
            most: how many are wanted.
        """
        pairs = zip(self.suspects, leaks, strict=True)
        out = {suspect.place for suspect, leaked in pairs if leaked}
        places = np.array([p for p in self.places.tolist() if p not in out], dtype=np.int64)
        dropped = self.dropped | {LEAK: len(out)}
        return places[:most], {reason: count for reason, count in dropped.items() if count}
