"""TIFF: choice of the page, and a second reader for what Pillow cannot read correctly.

The second reader is tifffile. Without the package ``imagecodecs`` it cannot read LZW or JPEG, so
Pillow is tried first.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from genkt.data.pictures.formats import UnreadableImage, raw_reason
from genkt.data.pictures.levels import eight_bits

_SUBFILE, _OLD_SUBFILE, _BITS, _SUB_IFDS, _SAMPLE_FORMAT = 254, 255, 258, 330, 339
_PLANAR, _COLOUR_MAP, _SUBSAMPLING, _PROFILE, _DNG = 284, 320, 530, 34675, 50706
_EXTRA_SAMPLES, _FILL_ORDER = 338, 266
_PHOTOMETRIC, _ORIENTATION = 262, 274
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED = 1
_ASSOCIATED, _UNASSOCIATED = 1, 2

# tifffile warns about harmless oddities. What stops it is an exception, which is reported.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Tags(Protocol):
    """A page's tags by number."""

    def get(self, tag: int, default: Any = None) -> Any: ...


def is_tiff(data: bytes) -> bool:
    """Whether an encoded picture is a TIFF or BigTIFF."""
    return data.startswith(_STARTS)


def tags_of(image: Image.Image) -> Tags:
    """The tags of the page that an open picture is at; none for other formats than TIFF."""
    return cast(Tags, getattr(image, "tag_v2", {}))


def first_number(tags: Tags, tag: int, default: int) -> int:
    """The (first) value of a tag of integers."""
    value = tags.get(tag, default)
    if isinstance(value, (tuple, list)):
        value = next(iter(value), default)
    return int(value) if isinstance(value, int) else default


def profile_of(image: Image.Image) -> bytes | None:
    """The colour profile of the page; Pillow keeps that of an earlier page in ``info``."""
    profile = tags_of(image).get(_PROFILE)
    return profile if isinstance(profile, bytes) else None


def go_to_page(image: Image.Image) -> None:
    """Go to the page that counts: the first of full resolution that is no mask, else the first.

    Raises:
        UnreadableImage: camera raw, whose pages are previews.
        UnidentifiedImageError: a page before it is of a kind that Pillow does not know.
    """
    image.seek(_number_of_page(_pages_of(image)))


def _pages_of(image: Image.Image) -> Iterator[Tags]:
    for number in itertools.count(1):
        yield tags_of(image)
        try:
            image.seek(number)
        except EOFError:
            return
        except SyntaxError as error:
            raise UnidentifiedImageError(str(error)) from error


def _number_of_page(pages: Iterable[Tags]) -> int:
    has_parts = False
    for number, tags in enumerate(pages):
        if tags.get(_DNG) is not None:
            raise UnreadableImage(raw_reason("DNG"))
        if not _is_passed_over(tags):
            return number
        has_parts = has_parts or tags.get(_SUB_IFDS) is not None
    if has_parts:  # the picture itself is in them
        raise UnreadableImage(raw_reason(""))
    return 0


def is_misread(image: Image.Image) -> bool:
    """Whether Pillow would open the page of a TIFF but show wrong pixels."""
    tags = tags_of(image)
    bits = tags.get(_BITS, (1,))
    compressed = image.info.get("compression") != "raw"
    if first_number(tags, _SAMPLE_FORMAT, _UNSIGNED) != _UNSIGNED:
        # Signed bytes are taken for unsigned; libtiff turns the order of big-endian bytes, and
        # Pillow turns it once more.
        is_big = getattr(tags, "prefix", b"II") == b"MM"
        return bool(max(bits) == 8 or (compressed and is_big))
    planar = first_number(tags, _PLANAR, 1)
    if planar == 2 and len(bits) > 1:
        if not compressed:
            return bool(image.mode != "CMYK" or max(bits) > 8)
        has_alpha = image.mode == "RGBA" and tags.get(_EXTRA_SAMPLES) is None
        return has_alpha or image.mode not in ("L", "RGB", "RGBA", "CMYK")
    if first_number(tags, _FILL_ORDER, 1) == 2 and not compressed:
        # Pillow names raw modes here that it does not have.
        odd = _PALETTE if max(bits) < 8 else _WHITE_IS_ZERO
        return first_number(tags, _PHOTOMETRIC, 0) == odd
    halved = tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1)
    return halved and not compressed and first_number(tags, _PHOTOMETRIC, 0) == _YCBCR


def mended_palette(image: Image.Image) -> Image.Image:
    """Undo Pillow's division by 256 where a program wrote a palette of bytes, not of 16 bits."""
    colours = tags_of(image).get(_COLOUR_MAP, ())
    if image.mode not in ("P", "PA") or not colours or max(colours) > 255:
        return image
    table = np.array(colours, np.uint8).reshape(3, -1).T
    image = image.copy()
    image.putpalette(table.tobytes())
    return image


def read_tiff(data: bytes, number: int | None = None) -> tuple[Image.Image, int, bytes | None]:
    """A page of a grey or RGB TIFF as an 8-bit picture, its orientation and its colour profile.

    Args:
        number: of the page; None: the one that counts.

    Raises:
        UnreadableImage: another kind of TIFF.
    """
    import tifffile  # slow to load, and rarely needed

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if number is None:
            number = _number_of_page(map(_Numbered, file.pages))
        page = file.pages[number]
        tags = _Numbered(page)
        shown = _picture(_pixels(page), page)
        return shown, first_number(tags, _ORIENTATION, 1), tags.get(_PROFILE)


class _Numbered:
    """tifffile's tags in Pillow's manner."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def get(self, tag: int, default: Any = None) -> Any:
        return self._page.tags.valueof(tag, default)


def _is_passed_over(tags: Tags) -> bool:
    """A thumbnail (reduced resolution) or a mask, in the new tag or the old one."""
    reduced_or_mask = 1 | 4
    if first_number(tags, _SUBFILE, 0) & reduced_or_mask:
        return True
    return tags.get(_SUBFILE) is None and first_number(tags, _OLD_SUBFILE, 1) == 2


def _kind(page: Any) -> str:
    bits = page.bitspersample
    numbers = {2: "signed ", 3: "float "}.get(page.sampleformat, "")
    layout = " in separate planes" if page.planarconfig == 2 else ""
    compression = str(getattr(page.compression, "name", page.compression))
    photometric = str(getattr(page.photometric, "name", page.photometric))
    return f"TIFF ({photometric}, {bits} bits {numbers}each{layout}, compression {compression})"


def _pixels(page: Any) -> NDArray[Any]:
    """[H, W, samples] of a page of tifffile."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None:  # twice as many, as Pillow has it; of four samples each at the most
        num_pixels = page.imagewidth * page.imagelength
        if num_pixels > 2 * limit or math.prod(page.shape) > 8 * limit:
            size = f"{page.imagewidth} x {page.imagelength}"
            raise UnreadableImage(f"{size} pixels of {page.samplesperpixel} samples are too many")
        if page.is_tiled and page.tilewidth * page.tilelength > 2 * limit:
            raise UnreadableImage(f"tiles of {page.tilewidth} x {page.tilelength} are too large")
    known = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
    if page.photometric not in known or page.dtype is None:
        raise UnreadableImage(f"{_kind(page)} is not a kind that genkt reads")
    parts = [count for count in page.databytecounts if count]
    if len(parts) < math.prod(page.chunked):  # tifffile would fill in zeros
        raise UnreadableImage(f"damaged TIFF: {len(parts)} of {math.prod(page.chunked)} parts")
    try:
        pixels: NDArray[Any] = page.asarray()
    except (ValueError, KeyError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        raise UnreadableImage(f"{_kind(page)} needs a package: pip install imagecodecs") from error
    if pixels.ndim == 2:
        return pixels[..., None]
    return np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 else pixels


def _picture(pixels: NDArray[Any], page: Any) -> Image.Image:
    """[H, W, samples] of any number type as a picture of mode L, RGB, LA or RGBA."""
    if page.photometric == _PALETTE:
        levels = np.moveaxis(page.colormap[:, pixels[..., 0].astype(np.intp)], 0, -1) // 256
        return Image.fromarray(levels.astype(np.uint8))
    colours = 3 if page.photometric == _RGB else 1
    if pixels.ndim != 3 or pixels.shape[2] < colours or pixels.dtype.kind not in "uif":
        raise UnreadableImage(f"{_kind(page)} is not a kind that genkt reads")
    bits = page.bitspersample
    full = 2.0**bits - 1 if pixels.dtype.kind == "u" and bits <= 16 else None
    inverted = page.photometric == _WHITE_IS_ZERO
    shown = eight_bits(pixels[..., :colours], full=full, inverted=inverted)
    extra = _extra_of(pixels, page)
    if extra not in (_ASSOCIATED, _UNASSOCIATED):
        return Image.fromarray(shown if colours == 3 else shown[..., 0])
    if full is None or (inverted and extra == _ASSOCIATED):
        raise UnreadableImage(f"{_kind(page)}, with transparency, is not a kind that genkt reads")
    alpha = eight_bits(pixels[..., colours : colours + 1], full=full)
    if extra == _ASSOCIATED:  # the colours were multiplied by it
        straight = shown * (255.0 / np.maximum(alpha, 1))
        shown = np.rint(np.minimum(straight, 255.0)).astype(np.uint8)
    return Image.fromarray(np.concatenate([shown, alpha], axis=2))


def _extra_of(pixels: NDArray[Any], page: Any) -> int:
    """What the first sample after the colours is; a fourth one without a name is transparency."""
    if page.extrasamples:
        return int(page.extrasamples[0])
    return _UNASSOCIATED if page.photometric == _RGB and pixels.shape[2] == 4 else 0
