"""Pictures of the data that are nearly test pictures: they are told and shown, not left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet
from genkt.data.looks import Looks, likeness, look_of, nearest_looks
from genkt.data.splits import Splits
from genkt.types import counted

COMPARED = ("validation", "train", "unlabelled")
"""The parts that test pictures are compared with."""

MOST = 100_000
"""Pictures that are compared; of more data none are."""
MOST_LOADED = 10_000
"""Pictures that are decoded for it, where nobody has noted what they look like."""
MOST_PAIRS = 500
"""Pairs whose pictures are looked at again, the nearest first."""
ALIKE = 0.99
"""Likeness of small grey pictures from which a pair counts; handwritten digits stay below."""


@dataclass(frozen=True)
class NearPair:
    """A test picture and the picture of another part that is nearest to it.

    Args:
        test, other: indices.  part: of the other one.  likeness: 0..1.
    """

    test: int
    part: str
    other: int
    likeness: float


@dataclass(frozen=True)
class NearCopiesOfTest:
    """What a search for near copies of test pictures found.

    Args:
        pairs: the most alike first; of each test picture one a part. None: nobody has looked.
        not_compared: why nothing was looked for, or how much was not; "" if all was.
    """

    pairs: tuple[NearPair, ...] | None = ()
    not_compared: str = ""

    def notes(self) -> list[str]:
        """Sentences for the user: none if there is nothing to tell."""
        told = [self.not_compared] if self.not_compared else []
        if not self.pairs:
            return told
        counts = [sum(pair.part == part for pair in self.pairs) for part in COMPARED]
        shown = [
            f"{count:,} in {part}" for count, part in zip(counts, COMPARED, strict=True) if count
        ]
        number = len({pair.test for pair in self.pairs})
        nearly = counted(number, "test image", "has") + " near copies"
        text = (
            f"{nearly} ({', '.join(shown)}): the report shows them. They were not left "
            "out; if they are the same pictures, accuracies say less about new images."
        )
        return [text, *told]


def find_near_copies(splits: Splits) -> NearCopiesOfTest:
    """Test pictures that are nearly a picture of validation, train or unlabelled.

    Pictures are compared by their looks, then once more by their pixels. A cropped or mirrored copy
    is not found.
    """
    parts = [part for part in COMPARED if part in splits.parts]
    test, others = splits.test, [splits.parts[part] for part in parts]
    if test is None or not len(test):
        return NearCopiesOfTest()
    if fault := _too_many([test, *others]):
        return NearCopiesOfTest(None, fault)
    own = _looks(test)
    found = []
    for part, images in zip(parts, others, strict=True):
        looks = _looks(images)
        rows, partners = nearest_looks(own, looks)
        bits = np.bitwise_xor(own[rows], looks[partners]).tolist()
        found += [
            (value.bit_count(), part, row, partner)
            for value, row, partner in zip(bits, rows.tolist(), partners.tolist(), strict=True)
        ]
    found.sort(key=lambda each: each[0])
    return NearCopiesOfTest(_alike(splits, found[:MOST_PAIRS]), _more(len(found)))


def _too_many(sets: Sequence[ImageSet]) -> str:
    number = sum(map(len, sets))
    unseen = sum(len(images) for images in sets if images.looks is None)
    if number <= MOST and unseen <= MOST_LOADED:
        return ""
    why = f"the data have {number:,} images, and at most {MOST:,} are compared"
    if number <= MOST:
        why = f"{unseen:,} images would be decoded once more, and at most {MOST_LOADED:,} are"
    return f"Near copies of test images were not looked for: {why}."


def _more(number: int) -> str:
    if number <= MOST_PAIRS:
        return ""
    return (
        f"Near copies of test images: {number:,} pairs look alike at first sight; only the "
        f"{MOST_PAIRS} nearest were compared by their pixels."
    )


def _looks(images: ImageSet) -> Looks:
    if images.looks is not None:
        return images.looks
    return np.array([look_of(images.load(row)) for row in range(len(images))], np.uint64)


def _alike(splits: Splits, found: Sequence[tuple[int, str, int, int]]) -> tuple[NearPair, ...]:
    """The pairs whose small grey pictures are alike."""
    known: dict[tuple[str, int], Image.Image] = {}

    def small(part: str, row: int) -> Image.Image:
        if (part, row) not in known:
            known[part, row] = splits.parts[part].load(row).resize((64, 64))
        return known[part, row]

    pairs = (
        NearPair(row, part, other, likeness(small("test", row), small(part, other)))
        for _, part, row, other in found
    )
    kept = [pair for pair in pairs if pair.likeness >= ALIKE]
    return tuple(sorted(kept, key=lambda pair: -pair.likeness))
