"""Every kind of picture against values that are known by how its bytes were written.

The tables say what genkt reads. A row whose last column is not empty is left out, with that reason.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiff_cases as t
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from profile_cases import srgb_of_lab
from refusals import refused

from genkt.data.pictures.decode import decode
from genkt.data.pictures.formats import UnreadableImage

HAS_IMAGECODECS = importlib.util.find_spec("imagecodecs") is not None
Floats = NDArray[np.float64]


def shown(data: bytes) -> Floats:
    """[H, W, 3] levels of a picture."""
    return np.asarray(decode(data)).astype(np.float64)


def onto_white(colours: Any, alpha: Any) -> Floats:
    """Colours in 0..255 under an alpha in 0..1."""
    array: Floats = np.asarray(colours) * np.asarray(alpha) + 255.0 * (1.0 - np.asarray(alpha))
    return array


def close(got: Floats, expected: Any, within: float, what: Any = "") -> None:
    expected = np.broadcast_to(np.asarray(expected, float), got.shape)
    worst = np.abs(got - expected).max()
    assert worst <= within, f"{what} off by {worst}: {got.ravel()[:12]} for {expected.ravel()[:12]}"


# --- TIFF -------------------------------------------------------------------------------------

SIZE = (19, 21)
CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (1, bytes),
    "lzw": (5, t.lzw),
    "deflate": (8, zlib.compress),
    "packbits": (32773, t.packbits),
}
LAYOUTS = list(itertools.product("<>", CODECS, (1, 2), (False, True), (False, True)))
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
IMAGECODECS = "imagecodecs"
NO_KIND = "not a kind that genkt reads"


@dataclass(frozen=True)
class Kind:
    """A kind of TIFF: what its samples are and how they look.

    Args:
        dtype: of a sample.  samples: a pixel.  look: [H, W, S] samples to [H, W, 1 or 3] levels.
        within: levels.  extra: ExtraSamples.
        left_out: where Pillow's faults leave only a reader without that layout.
    """

    photometric: int
    dtype: str
    samples: int
    look: Callable[[Floats], Floats]
    within: float = 0.5001
    extra: tuple[int, ...] = ()
    left_out: Callable[[str, str, int], str] = lambda order, codec, planes: ""


def full(top: float) -> Callable[[Floats], Floats]:
    return lambda values: values * 255.0 / top


def inverted(top: float) -> Callable[[Floats], Floats]:
    return lambda values: 255.0 - values * 255.0 / top


def spread(values: Floats) -> Floats:
    return (values - values.min()) * 255.0 / (values.max() - values.min())


def straight(top: float) -> Callable[[Floats], Floats]:
    return lambda values: onto_white(values[..., :-1] * 255.0 / top, values[..., -1:] / top)


def associated(top: float) -> Callable[[Floats], Floats]:
    return lambda values: (values[..., :-1] + top - values[..., -1:]) * 255.0 / top


def ink(values: Floats) -> Floats:
    return (255.0 - values[..., :3]) * (255.0 - values[..., 3:]) / 255.0


def ycc(values: Floats) -> Floats:
    y, blue, red = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
    rgb = [y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue]
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


def lab(values: Floats) -> Floats:
    light = values[..., 0] * 100 / 255
    a, b = (np.where(each > 127, each - 256, each) for each in (values[..., 1], values[..., 2]))
    return srgb_of_lab(np.stack([light, a, b], axis=-1))


def no_lzw(order: str, codec: str, planes: int) -> str:
    return IMAGECODECS if codec == "lzw" else ""


def big_without_lzw(order: str, codec: str, planes: int) -> str:
    return IMAGECODECS if codec == "lzw" and order == ">" else ""


def planes_without_lzw(order: str, codec: str, planes: int) -> str:
    return IMAGECODECS if codec == "lzw" and planes == 2 else ""


def no_planes(order: str, codec: str, planes: int) -> str:
    return NO_KIND if planes == 2 else ""


def no_bare_planes(order: str, codec: str, planes: int) -> str:
    return NO_KIND if planes == 2 and codec == "none" else ""


def never(order: str, codec: str, planes: int) -> str:
    return NO_KIND


TIFF = {
    "grey 8": Kind(BLACK_IS_ZERO, "u1", 1, full(255)),
    "grey 8 white is zero": Kind(WHITE_IS_ZERO, "u1", 1, inverted(255)),
    "grey 16": Kind(BLACK_IS_ZERO, "u2", 1, full(65535)),
    "grey 16 white is zero": Kind(
        WHITE_IS_ZERO, "u2", 1, inverted(65535), left_out=big_without_lzw
    ),
    "grey 32": Kind(BLACK_IS_ZERO, "u4", 1, spread, left_out=big_without_lzw),
    "grey 32 white is zero": Kind(
        WHITE_IS_ZERO, "u4", 1, lambda v: 255.0 - spread(v), left_out=no_lzw
    ),
    "signed 8": Kind(BLACK_IS_ZERO, "i1", 1, spread, left_out=no_lzw),
    "signed 16": Kind(BLACK_IS_ZERO, "i2", 1, spread, left_out=big_without_lzw),
    "signed 32": Kind(BLACK_IS_ZERO, "i4", 1, spread, left_out=big_without_lzw),
    "float 16": Kind(BLACK_IS_ZERO, "f2", 1, full(1), left_out=no_lzw),
    "float 32": Kind(BLACK_IS_ZERO, "f4", 1, full(1), left_out=big_without_lzw),
    "float 32 white is zero": Kind(WHITE_IS_ZERO, "f4", 1, inverted(1), left_out=big_without_lzw),
    "float 64": Kind(BLACK_IS_ZERO, "f8", 1, full(1), left_out=no_lzw),
    "grey 8, alpha": Kind(BLACK_IS_ZERO, "u1", 2, straight(255), 1, (2,), planes_without_lzw),
    "grey 8, associated": Kind(
        BLACK_IS_ZERO, "u1", 2, associated(255), 1, (1,), planes_without_lzw
    ),
    "grey 8, unused": Kind(BLACK_IS_ZERO, "u1", 2, lambda v: v[..., :1], extra=(0,)),
    "grey 16, alpha": Kind(BLACK_IS_ZERO, "u2", 2, straight(65535), 1, (2,), no_lzw),
    "RGB 8": Kind(RGB, "u1", 3, full(255)),
    "RGB 16": Kind(RGB, "u2", 3, full(65535), 1),
    "RGB 32": Kind(RGB, "u4", 3, spread, left_out=no_lzw),
    "RGB signed 8": Kind(RGB, "i1", 3, spread, left_out=no_lzw),
    "RGB float 32": Kind(RGB, "f4", 3, full(1), left_out=no_lzw),
    "RGBA 8": Kind(RGB, "u1", 4, straight(255), 1, (2,)),
    "RGBA 8, not named": Kind(RGB, "u1", 4, straight(255), 1, (), planes_without_lzw),
    "RGBA 8, associated": Kind(RGB, "u1", 4, associated(255), 1, (1,)),
    "RGBX 8": Kind(RGB, "u1", 4, lambda v: v[..., :3], extra=(0,)),
    "RGBA 16": Kind(RGB, "u2", 4, straight(65535), 2, (2,)),
    "RGBA 16, associated": Kind(RGB, "u2", 4, associated(65535), 3, (1,)),
    "RGBX 16": Kind(RGB, "u2", 4, lambda v: v[..., :3] / 257, 1, (0,)),
    "CMYK 8": Kind(CMYK, "u1", 4, ink, 1),
    "CMYK 16": Kind(CMYK, "u2", 4, lambda v: ink(v / 257), 2, left_out=no_bare_planes),
    "YCbCr 8": Kind(YCBCR, "u1", 3, ycc, 2, left_out=no_bare_planes),
    "Lab 8": Kind(LAB, "u1", 3, lab, 2, left_out=no_planes),
    "ICC Lab 8": Kind(9, "u1", 3, lab, left_out=never),
}


def samples_of(kind: Kind) -> NDArray[Any]:
    """[H, W, S] samples that a picture of the kind may hold."""
    random = np.random.default_rng(3)
    shape = (*SIZE, kind.samples)
    if kind.dtype[0] == "f":
        return random.random(shape).astype(kind.dtype)
    limits = np.iinfo(kind.dtype)
    values = random.integers(limits.min, limits.max, shape, kind.dtype, endpoint=True)
    if kind.extra == (1,):
        share = values[..., -1:] / limits.max
        values[..., :-1] = np.floor(values[..., :-1] * share)
    if kind.photometric == LAB:  # colours that sRGB has
        values = (random.integers(-9, 9, shape) + np.array([120, 0, 0])).astype("u1")
    return values


def tiff_in(
    kind: Kind,
    values: NDArray[Any],
    layout: tuple[str, str, int, bool, bool],
    cut: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """The samples in one layout; ``cut`` damages the last strip or tile."""
    order, codec, planes, tiled, big = layout
    height, width, count = values.shape
    number, encode = CODECS[codec]
    tags: dict[int, Any] = {
        t.WIDTH: width, t.HEIGHT: height, t.SAMPLES: count, t.COMPRESSION: number,
        t.BITS: [8 * values.dtype.itemsize] * count, t.PHOTOMETRIC: kind.photometric,
        t.PLANAR: planes, t.SAMPLE_FORMAT: ["uif".index(values.dtype.kind) + 1] * count,
    }  # fmt: skip
    if kind.extra:
        tags[t.EXTRA_SAMPLES] = kind.extra
    if kind.photometric == YCBCR:
        tags[t.SUBSAMPLING] = (1, 1)
    stored = values.astype(values.dtype.newbyteorder(order))  # type: ignore[call-overload]
    planes_of = [stored] if planes == 1 else [stored[..., i : i + 1] for i in range(count)]
    if tiled:
        tags |= {t.TILE_WIDTH: 16, t.TILE_LENGTH: 16}
        below, beside = -height % 16, -width % 16
        wide = [np.pad(part, [(0, below), (0, beside), (0, 0)]) for part in planes_of]
        corners = list(itertools.product(range(0, height, 16), range(0, width, 16)))
        chunks = [part[y : y + 16, x : x + 16] for part in wide for y, x in corners]
    else:
        tags[t.ROWS_PER_STRIP] = 4
        chunks = [part[y : y + 4] for part in planes_of for y in range(0, height, 4)]
    parts = [encode(chunk.tobytes()) for chunk in chunks]
    return t.tiff_of((tags, [*parts[:-1], cut(parts[-1])]), order=order, big=big)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow, of a big-endian BigTIFF
@pytest.mark.parametrize("name", TIFF)
def test_tiff(name: str) -> None:
    kind = TIFF[name]
    values = samples_of(kind)
    for layout in LAYOUTS:
        order, codec, planes, _, big = layout
        if planes == 2 and kind.samples == 1:
            continue
        reason = kind.left_out(order, codec, planes)
        if big and order == ">":  # which Pillow does not know
            reason = (no_lzw if kind.photometric <= RGB else never)(order, codec, planes)
        if reason == IMAGECODECS and HAS_IMAGECODECS:
            reason = ""
        data = tiff_in(kind, values, layout)
        try:
            got = shown(data)
        except UnreadableImage as error:
            assert reason and reason in str(error), (layout, str(error))
        else:
            assert not reason, layout
            close(got, kind.look(values.astype(float)), kind.within, layout)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", ["signed 8", "RGB 32", "float 64"])
def test_a_part_that_lacks_is_not_filled_in(name: str) -> None:
    kind = TIFF[name]
    for layout in LAYOUTS:
        whole = tiff_in(kind, samples_of(kind), layout)
        if layout[1] == "lzw" or (layout[2] == 2 and kind.samples == 1):
            continue
        for damaged in (
            tiff_in(kind, samples_of(kind), layout, cut=lambda chunk: b""),
            tiff_in(kind, samples_of(kind), layout, cut=lambda chunk: chunk[:-9]),
        ):
            assert decode(whole)
            with pytest.raises(UnreadableImage):
                decode(damaged)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 400), st.sampled_from(["signed 8", "RGB 32"]))
def test_damaged_bytes_give_a_picture_or_a_reason(noise: bytes, at: int, name: str) -> None:
    values = samples_of(TIFF[name])[:5, :5]
    data = bytearray(tiff_in(TIFF[name], values, (">", "deflate", 1, False, False)))
    data[at : at + len(noise)] = noise
    try:
        assert decode(bytes(data)).mode == "RGB"
    except UnreadableImage as error:
        assert "\n" not in str(error)


def test_a_decompression_bomb_is_refused_by_the_second_reader() -> None:
    page = t.page_of([[1]], 16, WHITE_IS_ZERO, b"\0\0", WIDTH=60_000, HEIGHT=60_000)
    with pytest.raises(UnreadableImage, match="too many"):
        decode(t.tiff_of(page, order=">"))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE])
def test_few_bits(photometric: int, bits: int, fill_order: int, codec: str, order: str) -> None:
    top = 2**bits - 1
    values = np.random.default_rng(1).integers(0, top + 1, (3, 5))
    colours = np.random.default_rng(2).integers(0, 256, (3, top + 1))
    table = {"COLOUR_MAP": (colours * 257).ravel().tolist()} if photometric == PALETTE else {}
    number, encode = CODECS[codec]
    data = encode(b"".join(t.bits_of(row, bits) for row in values.tolist()))
    if fill_order == 2:
        data = t.reversed_bits(data)
    page = t.page_of(
        values, bits, photometric, data, COMPRESSION=number, FILL_ORDER=fill_order, **table
    )
    data = t.tiff_of(page, order=order)
    packed = photometric == PALETTE and bits in (2, 4) and fill_order == 2 and codec == "none"
    if packed and not HAS_IMAGECODECS:
        with pytest.raises(UnreadableImage, match=IMAGECODECS):
            decode(data)
        return
    got = shown(data)
    if photometric == PALETTE:
        close(got, colours.T[values], 0)
    else:
        grey = values * 255 / top
        close(got, (255 - grey if photometric == WHITE_IS_ZERO else grey)[..., None], 0)


def test_a_palette_of_bytes_is_not_black() -> None:
    page = t.page_of(
        [[0, 1]], 8, PALETTE, bytes([0, 1]), COLOUR_MAP=[9, 200] + [0] * 254 + [7] * 512
    )
    close(shown(t.tiff_of(page)), [[[9, 7, 7], [200, 7, 7]]], 0)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_that_fill_no_bytes(bits: int, order: str) -> None:
    top = 2**bits - 1
    values = [0, 1, top // 2 + 1, top]
    for photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        page = t.page_of([values], bits, photometric, t.bits_of(values, bits))
        data = t.tiff_of(page, order=order)
        if not (HAS_IMAGECODECS or (bits == 12 and photometric == BLACK_IS_ZERO and order == "<")):
            with pytest.raises(UnreadableImage, match=IMAGECODECS):
                decode(data)
            continue
        levels = np.rint(np.array(values) * 255 / top)
        expected = 255 - levels if photometric == WHITE_IS_ZERO else levels
        close(shown(data), expected[None, :, None], 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_horizontal_differences(dtype: str, order: str) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (4, 6)).astype(dtype)
    differences = np.diff(values, axis=1, prepend=np.zeros((4, 1), dtype))
    data = zlib.compress(differences.astype(np.dtype(dtype).newbyteorder(order)).tobytes())
    bits = 8 * values.dtype.itemsize
    page = t.page_of(values, bits, BLACK_IS_ZERO, data, COMPRESSION=8, PREDICTOR=2)
    expected = values[..., None] * (255 / np.iinfo(dtype).max)
    close(shown(t.tiff_of(page, order=order)), expected, 0.5001)


def test_float_differences() -> None:
    values = np.random.default_rng(1).random((4, 6)).astype("<f4")
    planes = values.astype(">f4").view("u1").reshape(4, 6, 4).transpose(0, 2, 1).reshape(4, 24)
    data = zlib.compress(np.diff(planes, axis=1, prepend=np.zeros((4, 1), "u1")).tobytes())
    page = t.page_of(values, 32, BLACK_IS_ZERO, data, COMPRESSION=8, PREDICTOR=3, SAMPLE_FORMAT=3)
    close(shown(t.tiff_of(page)), values[..., None] * 255, 0.5001)


@pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt"])
def test_fax(codec: str) -> None:
    values = np.random.default_rng(1).integers(0, 2, (9, 17)).astype(bool)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF", compression=codec)
    close(shown(stream.getvalue()), values[..., None] * 255, 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_jpeg_in_tiff(mode: str) -> None:
    colour = (200, 120, 40)
    image = Image.new("RGB", (16, 16), colour).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF", compression="jpeg", quality=95)
    expected = [0.299 * 200 + 0.587 * 120 + 0.114 * 40] * 3 if mode == "L" else colour
    close(shown(stream.getvalue()), expected, 3)


def test_subsampled_colour_without_compression_is_left_out() -> None:
    values = np.full((2, 2, 3), 128)
    page = t.page_of(values, 8, YCBCR, bytes([90, 91, 92, 93, 200, 40]), SAMPLES=3)
    page[0][t.BITS] = (8, 8, 8)  # type: ignore[index]
    with refused("YCBCR", kind=UnreadableImage):
        decode(t.tiff_of(page))
