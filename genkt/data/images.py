"""One picture to RGB, and sets of them: sample ids, labels, classes, lazily opened pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from genkt.data.names import canonical
from genkt.data.openers import ChainedOpener, Opener, StorageOpener, blocks_of
from genkt.types import UNLABELLED, UserError

# Decoders that start another program, or that only hand the file to a handler nobody registered.
_REFUSED_FORMATS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_SAMPLE_FORMAT = 258, 339


class UnreadableImage(UserError):
    """A picture that cannot be decoded; the message is the reason."""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out: its path and one short reason.

    Args:
        is_damage: it is one of the unusable files that ``max_skipped`` limits; False for files
            that are no pictures of the data, such as thumbnails.
    """

    path: str
    reason: str
    is_damage: bool = True


def decode(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Decode a file, its bytes or an open picture to upright 8-bit RGB.

    Grey, palette, CMYK (Pillow has already undone Adobe's inversion), YCbCr and Lab become RGB;
    transparency is laid onto white; 16-bit grey is scaled by its full range; 32-bit and float
    pictures by the range they use (``_to_eight_bits``); of an animation the first frame counts.
    Embedded colour profiles are not applied. The result carries no metadata, so decoding it
    again changes nothing.

    Raises:
        UnreadableImage: with one line that says why.
    """
    prefix = ""
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        if isinstance(source, (str, Path)):
            prefix = f"{source}: "
            source = Path(source).read_bytes()
        if not source:
            raise UnreadableImage(f"{prefix}empty file")
        with Image.open(io.BytesIO(source), formats=_formats()) as image:
            return _to_rgb(image)
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        raise UnreadableImage(prefix + _reason(error)) from error


def _formats() -> list[str]:
    Image.preinit()
    Image.init()  # does nothing after its first call
    return [name for name in Image.ID if name not in _REFUSED_FORMATS]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can open"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or "no further message"
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()  # first, because TIFF turns itself upright here and PNG may find its EXIF here
    orientation = _orientation(image)
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and orientation == 1:
        return image  # decoded already, as most openers do: no copy
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        rgb = _to_eight_bits(image).convert("RGB")
    elif image.has_transparency_data:
        colours = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(colours, mask=colours.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    if orientation in _ORIENTATIONS:
        rgb = rgb.transpose(_ORIENTATIONS[orientation])
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the pixels unreadable: as if it had none
        return 1
    return value if isinstance(value, int) else 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a deep grey picture to mode L.

    16-bit files by their full range (12-bit TIFF by its own); mode I and F by the first of
    [0, 1] (F only), [0, 255], [0, 65535] that holds every value, else from minimum to maximum.
    """
    pixels = np.asarray(image)
    bits, sample_format = (_tiff_tag(image, tag) for tag in (_TIFF_BITS, _TIFF_SAMPLE_FORMAT))
    if pixels.dtype == np.int32 and bits == 32 and sample_format == 1:
        pixels = pixels.view(np.uint32)  # Pillow keeps unsigned 32-bit values in signed pixels
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        low, high = 0.0, 4095.0 if bits == 12 else 65535.0
    else:
        limits = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        holding = [limit for limit in limits if low >= 0 and high <= limit]
        low, high = (0.0, holding[0]) if holding else (low, high)
    scaled = (values - low) * 255.0 / (high - low) if high > low else np.zeros_like(values)
    key = image.info.get("transparency")
    if isinstance(key, int):
        scaled[values == key] = 255.0  # PNG's transparent grey level, onto white
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    if isinstance(value, tuple):
        value = next(iter(value), None)
    return value if isinstance(value, int) else None


def content_hash(data: bytes) -> str:
    """16 hex digits of BLAKE2b: the part of a sample id after its last ``#``."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class ImageSet:
    """N pictures with ids, labels and class names; pixels are read only by ``load``.

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

    Raises:
        UserError: lengths that differ, a label without a class, a class name that comes twice.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: ArrayLike,
        classes: Sequence[str],
        items: ArrayLike,
        open_item: Opener,
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.ids = tuple(ids)
        self.labels = np.array(labels, dtype=np.int64)
        self.classes = tuple(map(canonical, classes))
        self.items = np.array(items, dtype=np.int64)
        self.open_item = open_item
        self.skipped = tuple(skipped)
        size = (len(self.ids),)
        if self.labels.shape != size or self.items.shape != size:
            raise UserError(
                f"expected one label and one item for each of {len(self.ids)} ids, came labels of "
                f"shape {self.labels.shape} and items of shape {self.items.shape}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise UserError(f"class names must differ, came {', '.join(self.classes)}")
        wrong = (self.labels < UNLABELLED) | (self.labels >= len(self.classes))
        if wrong.any():
            raise UserError(
                f"expected labels from {UNLABELLED} (unlabelled) to {len(self.classes) - 1}, came "
                f"{self.labels[wrong][0]} for {self.ids[int(wrong.argmax())]}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return (
            f"ImageSet({len(self)} images, {len(self.classes)} classes, "
            f"{self.num_labelled} labelled{skipped})"
        )

    @property
    def num_labelled(self) -> int:
        """How many samples have a class."""
        return int((self.labels != UNLABELLED).sum())

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """[N] the block of storage that each sample lies in; None where any order reads as fast."""
        return blocks_of(self.open_item, self.items)

    def class_counts(self) -> dict[str, int]:
        """Labelled samples of each class, in class order."""
        known = self.labels[self.labels != UNLABELLED]
        counts = np.bincount(known, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def load(self, index: int) -> Image.Image:
        """The picture at ``index``, upright RGB.

        Raises:
            UserError: the file is gone, was changed, or can no longer be decoded.
        """
        return decode(self.open_item(self.ids[index], int(self.items[index])))

    def read_ahead(self, indices: Sequence[int]) -> None:
        """Have the system fetch what ``load`` of these samples reads, where that is worth asking.

        Tars on a disk: all reads are in flight at once instead of one after the other.
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
                raise IndexError(f"expected {len(self)} booleans, came shape {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        elif not chosen.size:
            chosen = chosen.astype(np.int64)  # numpy takes [] for floats
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, came {chosen.tolist()}")
        ids = [self.ids[index] for index in chosen.tolist()]
        return ImageSet(
            ids, self.labels[chosen], self.classes, self.items[chosen], self.open_item, self.skipped
        )

    def without_labels(self) -> ImageSet:
        """The same samples as if nobody had labelled them; the class names stay."""
        labels = np.full(len(self), UNLABELLED)
        return ImageSet(self.ids, labels, self.classes, self.items, self.open_item, self.skipped)

    def with_skipped(self, skipped: Sequence[Skipped]) -> ImageSet:
        """The same samples, and what else was left out."""
        left_out = (*self.skipped, *skipped)
        return ImageSet(self.ids, self.labels, self.classes, self.items, self.open_item, left_out)


def concat(*sets: ImageSet) -> ImageSet:
    """All samples of the sets, in order.

    Raises:
        UserError: no set at all, or class names that disagree (a set without classes fits any).
    """
    if not sets:
        raise UserError("concat needs at least one ImageSet")
    if len(sets) == 1:
        return sets[0]
    named = [images.classes for images in sets if images.classes]
    for classes in named[1:]:
        if classes != named[0]:
            raise UserError(
                "the sets to join must have the same classes in the same order, came "
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
    )


def _shown(names: Sequence[str], most: int = 5) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return "[" + ", ".join(names[:most]) + more + "]"


def overlap(a: ImageSet, b: ImageSet) -> list[tuple[str, str]]:
    """Pictures of ``b`` that ``a`` holds too, by content: (id in a, id in b), one pair each."""
    known: dict[str, str] = {}
    for sample_id in a.ids:
        known.setdefault(sample_id.rpartition("#")[2], sample_id)
    hashes = ((sample_id.rpartition("#")[2], sample_id) for sample_id in b.ids)
    return [(known[digest], sample_id) for digest, sample_id in hashes if digest in known]


@dataclass(frozen=True)
class _ArrayOpener:
    images: NDArray[np.uint8]

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
        prefix: of the ids, which are ``prefix/index#content-hash``.

    Raises:
        UserError: another dtype or shape, or labels that do not fit.
    """
    colour = images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour):
        raise UserError(
            f"{prefix}: expected uint8 images [N, H, W] or [N, H, W, 3], "
            f"came {images.dtype} {list(images.shape)}"
        )
    shape = str(images.shape[1:]).encode()
    ids = [
        f"{prefix}/{index}#{content_hash(shape + image.tobytes())}"
        for index, image in enumerate(images)
    ]
    return ImageSet(ids, labels, classes, np.arange(len(ids)), _ArrayOpener(images))
