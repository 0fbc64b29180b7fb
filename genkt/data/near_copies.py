"""Pictures of the data that are nearly test pictures: they are told and shown, not left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet, LostImage
from genkt.data.looks import Looks, likeness, look_of, nearest_looks
from genkt.data.splits import Splits
from genkt.types import UNLABELLED, counted, verb

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
        nearly = counted(number, "test image", "has")
        nearly += " a near copy" if number == 1 else " near copies"
        text = (
            f"{nearly} ({', '.join(shown)}): the report shows them. They were not left "
            "out; if they are the same pictures, accuracies say less about new images."
        )
        return [text, *told]


def find_near_copies(splits: Splits) -> NearCopiesOfTest:
    """Test pictures that are nearly a picture of validation, train or unlabelled.

    Pictures are compared by their looks, then once more by their pixels. A cropped or mirrored copy
    is not found. Parts that are too large, and pictures that cannot be decoded, are left out.
    """
    test = splits.test
    if test is None or not len(test):
        return NearCopiesOfTest()
    parts = {part: splits.parts[part] for part in COMPARED if part in splits.parts}
    too_many = _too_many([test, *parts.values()])
    told = [f"Near copies of test images were not looked for: {too_many}."] if too_many else []
    labelled = {part: images for part, images in parts.items() if part != "unlabelled"}
    if too_many and (labelled == parts or _too_many([test, *labelled.values()])):
        return NearCopiesOfTest(None, told[0])
    if too_many:
        parts = labelled
        told = [
            f"Near copies of test images among unlabelled ones were not looked for: {too_many}."
        ]
    own = _looks(test)
    found = []
    num_lost = 0
    for part, images in parts.items():
        looks = _looks(images)
        num_lost += int((looks == 0).sum())
        rows, partners = nearest_looks(own, looks)
        bits = np.bitwise_xor(own[rows], looks[partners]).tolist()
        found += [
            (value.bit_count(), part, row, partner)
            for value, row, partner in zip(bits, rows.tolist(), partners.tolist(), strict=True)
        ]
    found.sort(key=lambda each: each[0])
    pairs, num_gone = _alike(splits, found[:MOST_PAIRS])
    if lost := num_lost + num_gone:
        told.append(
            f"Near copies of test images: {counted(lost, 'image')} could not be read and "
            f"{verb(lost, 'was')} not compared."
        )
    told += _more(len(found))
    return NearCopiesOfTest(pairs, " ".join(told))


def fits(splits: Splits) -> bool:
    """Whether the data have few enough pictures to be compared."""
    return sum(map(len, splits.parts.values())) <= MOST


def _too_many(sets: Sequence[ImageSet]) -> str:
    number = sum(map(len, sets))
    unseen = sum(len(images) for images in sets if images.looks is None)
    if number <= MOST and unseen <= MOST_LOADED:
        return ""
    why = f"the data have {number:,} images, and at most {MOST:,} are compared"
    if number <= MOST:
        why = f"{unseen:,} images would be decoded once more, and at most {MOST_LOADED:,} are"
    return why


def _more(number: int) -> list[str]:
    if number <= MOST_PAIRS:
        return []
    return [
        f"Near copies of test images: {number:,} pairs look alike at first sight; only the "
        f"{MOST_PAIRS} nearest were compared by their pixels."
    ]


def _looks(images: ImageSet) -> Looks:
    """[N] looks; 0 for an unlabelled picture that can no longer be read."""
    if images.looks is not None:
        return images.looks
    pictures = (_loaded(images, row) for row in range(len(images)))
    return np.array([0 if each is None else look_of(each) for each in pictures], np.uint64)


def _loaded(images: ImageSet, row: int) -> Image.Image | None:
    """A picture; None for an unlabelled one that can no longer be read."""
    try:
        return images.load(row)
    except LostImage:
        if images.labels[row] == UNLABELLED:
            return None
        raise


def _alike(
    splits: Splits, found: Sequence[tuple[int, str, int, int]]
) -> tuple[tuple[NearPair, ...], int]:
    """The pairs whose small grey pictures are alike, and how many pictures are gone."""
    known: dict[tuple[str, int], Image.Image | None] = {}

    def small(part: str, row: int) -> Image.Image | None:
        if (part, row) not in known:
            picture = _loaded(splits.parts[part], row)
            known[part, row] = None if picture is None else picture.resize((64, 64))
        return known[part, row]

    kept = []
    for _, part, row, other in found:
        one, two = small("test", row), small(part, other)
        if one is not None and two is not None and (alike := likeness(one, two)) >= ALIKE:
            kept.append(NearPair(row, part, other, alike))
    num_gone = sum(each is None for each in known.values())
    return tuple(sorted(kept, key=lambda pair: -pair.likeness)), num_gone
