"""Sets of pictures: sample ids, labels, classes, lazily opened pixels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from genkt.data.names import canonical
from genkt.data.openers import ChainedOpener, Opener, StorageOpener, blocks_of, decoding_of
from genkt.data.pictures.decode import decode as decode
from genkt.data.pictures.decode import reduced
from genkt.data.pictures.formats import LostImage as LostImage
from genkt.data.pictures.formats import UnreadableImage as UnreadableImage
from genkt.types import UNLABELLED, UserError, counted


@dataclass(frozen=True)
class Skipped:
    """A file that was left out: its path and one short reason.

    Args:
        is_damage: the file counts towards ``max_skipped``; False for files that do not belong to
        the data, such as thumbnails.
    """

    path: str
    reason: str
    is_damage: bool = True


def reasons_text(skipped: Sequence[Skipped], most: int = 3) -> str:
    """Why files were left out: each reason once with its count, the most frequent first.

    >>> files = [Skipped("a.jpg", "empty file"), Skipped("b.heic", "HEIC needs a package")]
    >>> reasons_text([*files, Skipped("c.heic", "HEIC needs a package")])
    'b.heic and 1 more (HEIC needs a package), a.jpg (empty file)'
    """
    groups: dict[str, list[Skipped]] = {}
    for entry in skipped:  # "... after byte 17" and "... after byte 90" are one reason
        groups.setdefault(re.sub(r"\d+", "0", entry.reason), []).append(entry)
    ordered = sorted(groups.values(), key=len, reverse=True)
    shown = [
        f"{same[0].path}{f' and {len(same) - 1:,} more' if same[1:] else ''} ({same[0].reason})"
        for same in ordered[:most]
    ]
    rest = sum(map(len, ordered[most:]))
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def left_out_text(skipped: Sequence[Skipped]) -> str:
    """How many files were left out, and why.

    >>> left_out_text([Skipped("a.jpg", "empty file")])
    '1 file was left out: a.jpg (empty file)'
    """
    return f"{counted(len(skipped), 'file', 'was')} left out: {reasons_text(skipped)}"


def content_hash(data: bytes) -> str:
    """16 hex digits of BLAKE2b: the part of a sample id after its last ``#``."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class ImageSet:
    """N pictures with ids, labels and class names. Only ``load`` reads pixels.

    >>> pixels = np.zeros((3, 8, 8), dtype=np.uint8)
    >>> images = from_arrays(pixels, [0, 1, -1], classes=("cat", "dog"), prefix="toy")
    >>> images
    ImageSet(3 images, 2 classes, 2 labelled)
    >>> images.load(0).size, images.class_counts()
    ((8, 8), {'cat': 1, 'dog': 1})
    >>> images.select([2, 0]).labels.tolist()
    [-1, 0]

    Args:
        ids: N strings, ``relative/path#content-hash``.
        labels: [N] int64 in 0..C-1, ``UNLABELLED`` (-1) where the class is unknown.
        classes: C names, or empty where nothing is labelled; kept in Unicode's form NFC.
        items: [N] int64, what ``open_item`` needs beside the id.
        open_item: opens one picture; shared by every selection of this set.
        skipped: what was left out when the set was read.
        groups: N names; images of one group (of a patient, a plant, a video) stay on one side of
            every split. None: each image is for itself.
        looks: [N] uint64, what the pictures look like (``genkt.data.looks``), where a reader has
            decoded them; None: unknown.

    Raises:
        UserError: lengths that differ, a label without a class, a repeated class name.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: ArrayLike,
        classes: Sequence[str],
        items: ArrayLike,
        open_item: Opener,
        skipped: Sequence[Skipped] = (),
        groups: Sequence[str] | None = None,
        looks: ArrayLike | None = None,
    ) -> None:
        self.ids = tuple(ids)
        self.labels = np.array(labels, dtype=np.int64)
        self.classes = tuple(map(canonical, classes))
        self.items = np.array(items, dtype=np.int64)
        self.open_item = open_item
        self.skipped = tuple(skipped)
        self.groups = None if groups is None else tuple(groups)
        self.looks = None if looks is None else np.array(looks, dtype=np.uint64)
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise UserError.of("groups", f"one for each of {len(self.ids)} ids", len(self.groups))
        size = (len(self.ids),)
        if self.labels.shape != size or self.items.shape != size:
            raise UserError(
                f"expected one label and one item for each of {len(self.ids)} ids, got labels of "
                f"shape {self.labels.shape} and items of shape {self.items.shape}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise UserError(f"class names must differ, got {', '.join(self.classes)}")
        wrong = (self.labels < UNLABELLED) | (self.labels >= len(self.classes))
        if wrong.any():
            raise UserError(
                f"expected labels from {UNLABELLED} (unlabelled) to {len(self.classes) - 1}, got "
                f"{self.labels[wrong][0]} for {self.ids[int(wrong.argmax())]}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return (
            f"ImageSet({counted(len(self), 'image')}, {counted(len(self.classes), 'class')}, "
            f"{self.num_labelled} labelled{skipped})"
        )

    @property
    def num_labelled(self) -> int:
        """How many samples have a class."""
        return int((self.labels != UNLABELLED).sum())

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """[N] each sample's block of storage; None if every order reads equally fast."""
        return blocks_of(self.open_item, self.items)

    @property
    def decoding(self) -> int:
        """The first ``DECODING`` number for which these ids have these pixels."""
        return decoding_of(self.open_item)

    def class_counts(self) -> dict[str, int]:
        """Labelled samples of each class, in class order."""
        known = self.labels[self.labels != UNLABELLED]
        counts = np.bincount(known, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def load(self, index: int, least_side: int = 0) -> Image.Image:
        """The picture at ``index``, upright RGB.

        Args:
            least_side: a JPEG may be decoded to 1/2, 1/4 or 1/8 if both sides keep so many pixels.

        Raises:
            LostImage: it is gone, was changed or cannot be decoded; the message starts with its
                path.
        """
        try:
            with reduced(least_side):
                return decode(self.open_item(self.ids[index], int(self.items[index])))
        except LostImage:
            raise
        except UnreadableImage as error:
            raise LostImage(path_of(self.ids[index]), f"cannot be decoded: {error}") from error

    def read_ahead(self, indices: Sequence[int]) -> None:
        """Ask the system to prefetch what ``load`` will read for these samples, if that helps.

        For tars on a disk, all reads then run at once instead of one after another.
        """
        if isinstance(self.open_item, StorageOpener):
            self.open_item.read_ahead(self.items[indices])

    def select(self, indices: ArrayLike) -> ImageSet:
        """The samples at ``indices`` (integers in any order, or N booleans); ``skipped`` stays.

        Raises:
            IndexError: an index outside 0..N-1, or booleans that are not N.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise IndexError(f"expected {len(self)} booleans, got shape {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        elif not chosen.size:
            chosen = chosen.astype(np.int64)  # numpy takes [] for floats
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {chosen.tolist()}")
        rows = chosen.tolist()
        return self.replaced(
            ids=[self.ids[row] for row in rows],
            labels=self.labels[chosen],
            items=self.items[chosen],
            groups=None if self.groups is None else [self.groups[row] for row in rows],
            looks=None if self.looks is None else self.looks[chosen],
        )

    def replaced(self, **changes: Any) -> ImageSet:
        """The same set with other arguments than it was made of, by their names."""
        return ImageSet(**({name: getattr(self, name) for name in _ARGUMENTS} | changes))

    def without_labels(self) -> ImageSet:
        """The same samples as if nobody had labelled them; the class names stay."""
        return self.replaced(labels=np.full(len(self), UNLABELLED))

    def with_skipped(self, skipped: Sequence[Skipped]) -> ImageSet:
        """The same samples, with more files listed as left out."""
        return self.replaced(skipped=(*self.skipped, *skipped))


_ARGUMENTS = ("ids", "labels", "classes", "items", "open_item", "skipped", "groups", "looks")


def concat(*sets: ImageSet) -> ImageSet:
    """All samples of the sets, in order.

    Raises:
        UserError: no set, or different class names (a set without classes fits any other).
    """
    if not sets:
        raise UserError("concat needs at least one ImageSet")
    if len(sets) == 1:
        return sets[0]
    named = [images.classes for images in sets if images.classes]
    for classes in named[1:]:
        if classes != named[0]:
            raise UserError(
                "the sets to join must have the same classes in the same order, got "
                f"{_shown(named[0])} and {_shown(classes)}"
            )
    openers = tuple({id(images.open_item): images.open_item for images in sets}.values())
    which = {id(opener): place for place, opener in enumerate(openers)}
    items = [images.items * len(openers) + which[id(images.open_item)] for images in sets]
    return ImageSet(
        [sample_id for images in sets for sample_id in images.ids],
        np.concatenate([images.labels for images in sets]),
        named[0] if named else (),
        np.concatenate(items),
        ChainedOpener(openers),
        tuple(dict.fromkeys(entry for images in sets for entry in images.skipped)),
        _joined_groups(sets),
        _joined_looks(sets),
    )


def _joined_looks(sets: Sequence[ImageSet]) -> NDArray[np.uint64] | None:
    """The looks of all sets, where all are known."""
    looks = [images.looks for images in sets if images.looks is not None]
    return np.concatenate(looks) if len(looks) == len(sets) else None


def _joined_groups(sets: Sequence[ImageSet]) -> list[str] | None:
    """The groups of all sets; an image of a set without any is a group of its own."""
    if all(images.groups is None for images in sets):
        return None
    return [group for images in sets for group in images.groups or images.ids]


def _shown(names: Sequence[str], most: int = 5) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return "[" + ", ".join(names[:most]) + more + "]"


@dataclass(frozen=True)
class _ArrayOpener:
    images: NDArray[np.uint8]
    decoding: ClassVar[int] = 1  # the id is of the pixels

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return Image.fromarray(self.images[item])


def from_arrays(
    images: NDArray[np.uint8], labels: ArrayLike, classes: Sequence[str], prefix: str
) -> ImageSet:
    """An ImageSet over pixels in memory (or a memory-mapped file).

    Args:
        images: [N, H, W] or [N, H, W, 3] uint8.
        labels: [N], -1 where unknown.
        classes: C names.
        prefix: start of the ids, which are ``prefix/index#content-hash``.

    Raises:
        UserError: another dtype or shape, or labels that do not fit.
    """
    colour = images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour):
        raise UserError.of(
            prefix, "uint8 images [N, H, W] or [N, H, W, 3]", f"{images.dtype} {list(images.shape)}"
        )
    shape = str(images.shape[1:]).encode()
    ids = [
        f"{prefix}/{index}#{content_hash(shape + image.tobytes())}"
        for index, image in enumerate(images)
    ]
    return ImageSet(ids, labels, classes, np.arange(len(ids)), _ArrayOpener(images))


def content_of(sample_id: str) -> str:
    """The content hash in a sample id."""
    return sample_id.rpartition("#")[2]


def path_of(sample_id: str) -> str:
    """The path in a sample id; all of it where it has no content hash."""
    return sample_id.rpartition("#")[0] or sample_id
