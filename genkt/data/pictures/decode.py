"""One picture, of any format, to upright 8-bit RGB."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from genkt.data.pictures.bmp import is_bmp, mended_bmp
from genkt.data.pictures.formats import (
    UnreadableImage,
    plugin_for,
    raw_maker,
    raw_reason,
    readable_formats,
    unknown_reason,
)
from genkt.data.pictures.levels import eight_bits
from genkt.data.pictures.profiles import to_srgb
from genkt.data.pictures.tiff import (
    first_number,
    go_to_page,
    is_misread,
    is_tiff,
    mended_palette,
    profile_of,
    read_tiff,
    tags_of,
)

DECODING = 2
"""Rises when the same bytes decode to other pixels; results of the old pixels are not reused.

1: colour profiles were not applied, nor was the transparent level of 2- and 4-bit grey PNG, and
some TIFF and BMP were read wrongly.
"""

_least_side: ContextVar[int] = ContextVar("least_side", default=0)

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STARTS_TO_CHECK = frozenset({b"BM", b"II", b"MM", b"FU", b"\0\0"})  # BMP, camera raw
_GREY_STEPS = {"1": 255, "L;2": 85, "L;4": 17, "L": 1}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339


@contextlib.contextmanager
def reduced(least_side: int) -> Iterator[None]:
    """Inside, JPEGs are decoded to 1/2, 1/4 or 1/8 while both sides keep so many pixels; 0: not."""
    token = _least_side.set(least_side)
    try:
        yield
    finally:
        _least_side.reset(token)


def decode(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Decode a file, its bytes or an open picture to upright 8-bit RGB.

    - Grey, palette, CMYK (Pillow has already undone Adobe's inversion), YCbCr and Lab become RGB;
      transparency is laid onto white.
    - A colour profile that is not sRGB is applied (``to_srgb``); PNG's gAMA and cHRM are not.
    - 16-bit grey is scaled by its full range, 32-bit and float pictures by the range they use
      (``eight_bits``); 16-bit colour keeps its high byte, which is within one level.
    - An animation gives its first frame, a TIFF its first page of full resolution.
    - HEIC, AVIF and JPEG XL are read where Pillow or its plugin for them is installed.

    The result carries no metadata, so decoding it again changes nothing.

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
            raise UnreadableImage("empty file")
        return _decoded(source)
    except UnreadableImage as error:
        raise UnreadableImage(f"{prefix}{error}") from error
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        raise UnreadableImage(prefix + _reason(error)) from error


def _decoded(data: bytes) -> Image.Image:
    if data[:2] in _STARTS_TO_CHECK:
        data = _checked(data)
    try:
        return _opened(data)
    except UnidentifiedImageError as error:
        if is_tiff(data):
            return _upright(*read_tiff(data))
        plugin = plugin_for(data)
        if plugin is not None and plugin.registered():
            with contextlib.suppress(UnidentifiedImageError):
                return _opened(data)
        raise UnreadableImage(unknown_reason(data)) from error


def _checked(data: bytes) -> bytes:
    """Bytes for Pillow, for files that it would show wrongly or only as a preview."""
    if maker := raw_maker(data):
        raise UnreadableImage(raw_reason(maker))
    return mended_bmp(data) if is_bmp(data) else data


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
        if image.format == "TIFF":
            go_to_page(image)
        if image.format == "JPEG" and (side := _least_side.get()):
            image.draft(None, (side, side))
        return _to_rgb(image)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or "no further message"
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.format == "TIFF" and is_misread(image):
        return _upright(*read_tiff(_bytes_of(image), image.tell()))
    level = _transparent_level(image)
    image.load()  # first, because TIFF turns itself upright here and PNG may find its EXIF here
    orientation = _orientation(image)
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and orientation == 1:
        return image  # decoded already, as most openers do: no copy
    profile = image.info.get("icc_profile")
    if image.format == "TIFF":
        profile = profile_of(image)
        image = mended_palette(image)
    if level is not None:
        image = image.copy()  # the caller's own picture stays as it is
        image.info["transparency"] = level
    return _upright(image, orientation, profile)


def _bytes_of(image: Image.Image) -> bytes:
    """The file that an open picture is being read from."""
    stream = getattr(image, "fp", None)
    if stream is None or stream.closed:
        raise UnreadableImage("Pillow reads this kind of TIFF wrongly: give its path or its bytes")
    stream.seek(0)
    data: bytes = stream.read()
    return data


def _transparent_level(image: Image.Image) -> Any:
    """The transparent colour of a PNG in the levels of its pixels, where Pillow has another."""
    key = image.info.get("transparency")
    if key is None or image.format != "PNG":
        return None
    tile = next(iter(getattr(image, "tile", ())), None)
    if tile is None:  # loaded: the number of bits per level is lost
        return None
    raw_mode = tile[3] if isinstance(tile[3], str) else tile[3][0]
    if raw_mode == "RGB;16B":  # the pixels have lost the bits that it would be compared with
        raise UnreadableImage(
            "PNG of 16-bit colour with a transparent colour is not read by Pillow"
        )
    if raw_mode in _GREY_STEPS and isinstance(key, int):
        return key % (255 // _GREY_STEPS[raw_mode] + 1) * _GREY_STEPS[raw_mode]
    return None


def _upright(image: Image.Image, orientation: int, profile: bytes | None = None) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        rgb = _deep_grey(image, profile)
    elif image.has_transparency_data:
        if image.mode == "La":  # from which Pillow converts to LA only
            image = image.convert("LA")
        colours = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(_opaque(image, colours, profile), mask=colours.getchannel("A"))
    else:
        rgb = to_srgb(image, profile)
    if orientation in _ORIENTATIONS:
        rgb = rgb.transpose(_ORIENTATIONS[orientation])
    rgb.info = {}
    return rgb


def _opaque(image: Image.Image, colours: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours of a picture with transparency, before they are laid onto white."""
    if profile is None:
        return colours
    is_grey = image.mode in ("1", "L", "LA")
    return to_srgb(colours.getchannel("R") if is_grey else colours.convert("RGB"), profile)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the pixels unreadable: as if it had none
        return 1
    return value if isinstance(value, int) else 1


def _deep_grey(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of mode I, F or I;16: 16-bit files by their full range (12-bit TIFF by its own)."""
    pixels, tags = np.asarray(image), tags_of(image)
    bits = first_number(tags, _TIFF_BITS, 1)
    if pixels.dtype == np.int32 and bits == 32 and first_number(tags, _TIFF_SAMPLE_FORMAT, 1) == 1:
        pixels = pixels.view(np.uint32)  # Pillow keeps unsigned 32-bit values in signed pixels
    full = None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        full = 4095.0 if bits == 12 else 65535.0
    white_is_zero = first_number(tags, _TIFF_PHOTOMETRIC, 1) == 0
    rgb = to_srgb(Image.fromarray(eight_bits(pixels, full=full, inverted=white_is_zero)), profile)
    key = image.info.get("transparency")
    if isinstance(key, int):  # PNG's transparent grey level, onto white
        rgb.paste("white", mask=Image.fromarray((pixels == key).astype(np.uint8) * 255))
    return rgb
