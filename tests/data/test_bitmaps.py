"""PNG and BMP of every kind against values that are known by how the bytes were written."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_cases import BLACK, BLUE, LIME, RED, WHITE, bmp_of, png_of, run_length_bmp
from PIL import Image
from refusals import refused

from genkt.data.pictures.decode import decode
from genkt.data.pictures.formats import UnreadableImage

# --- PNG --------------------------------------------------------------------------------------

GREY, COLOUR, INDEXED, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, INDEXED: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
PNG = [
    *((GREY, bits) for bits in (1, 2, 4, 8, 16)),
    *((INDEXED, bits) for bits in (1, 2, 4, 8)),
    *((colour, bits) for colour in (COLOUR, GREY_ALPHA, COLOUR_ALPHA) for bits in (8, 16)),
]


def look_of(samples: NDArray[np.int64], bits: int, colour: int, table: Any) -> NDArray[np.float64]:
    """[H, W, channels] samples as [H, W, 3] levels, by the letter of the format."""
    if colour == INDEXED:
        return np.asarray(table, float)[samples[..., 0]]
    levels = samples * 255.0 / (2**bits - 1)
    if colour in (GREY_ALPHA, COLOUR_ALPHA):
        share = levels[..., -1:] / 255
        levels = levels[..., :-1] * share + 255 * (1 - share)
    return np.broadcast_to(levels, (*levels.shape[:2], 3))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "bits"), PNG)
def test_png(colour: int, bits: int, interlaced: bool) -> None:
    random = np.random.default_rng(bits)
    samples = random.integers(0, 2**bits, (9, 11, CHANNELS[colour]))
    table = random.integers(0, 256, (2**bits, 3))
    chunks = [(b"PLTE", table.astype("u1").tobytes())] if colour == INDEXED else []
    # Whoever writes gAMA and cHRM, or sRGB, means no other pixels.
    for more in ([], [(b"gAMA", struct.pack(">I", 20000))], [(b"sRGB", b"\0")]):
        data = png_of(samples, bits, colour, *more, *chunks, interlaced=interlaced)
        got = np.asarray(decode(data)).astype(float)
        within = 2 if bits == 16 and colour >= GREY_ALPHA else 1
        assert np.abs(got - look_of(samples, bits, colour, table)).max() <= within


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_transparent_level(bits: int, interlaced: bool) -> None:
    top = 2**bits - 1
    samples = np.unique(np.linspace(0, top, 5).astype(int))[None, :, None]
    for key in samples.ravel().tolist():
        data = png_of(samples, bits, GREY, (b"tRNS", struct.pack(">H", key)), interlaced=interlaced)
        expected = np.where(samples[0, :, 0] == key, 255, samples[0, :, 0] * 255 / top)
        assert np.abs(np.asarray(decode(data))[0, :, 0] - expected).max() <= 0.5
        with Image.open(io.BytesIO(data)) as image:  # an open picture is the same, and stays
            before = dict(image.info)
            assert np.abs(np.asarray(decode(image))[0, :, 0] - expected).max() <= 0.5
            assert image.info == before


def test_png_transparent_colour() -> None:
    samples = np.array([[[1, 2, 3], [1, 2, 4]]])
    key = (b"tRNS", struct.pack(">3H", 1, 2, 3))
    assert np.asarray(decode(png_of(samples, 8, COLOUR, key))).tolist() == [[[255] * 3, [1, 2, 4]]]
    with refused("16-bit", kind=UnreadableImage):
        decode(png_of(samples, 16, COLOUR, key))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palette_transparency_of_every_length(bits: int) -> None:
    count = 2**bits
    table = np.random.default_rng(1).integers(0, 256, (count, 3))
    samples = np.arange(count)[None, :, None]
    for length in {1, 2, count // 2, count - 1, count}:
        alpha = np.random.default_rng(length).integers(0, 256, length)
        for given_alpha in (alpha, np.r_[255 * np.ones(length - 1, int), 0]):
            chunks = [(b"PLTE", table.astype("u1").tobytes())]
            chunks += [(b"tRNS", given_alpha.astype("u1").tobytes())]
            share = np.r_[given_alpha, np.full(count - length, 255)][:, None] / 255
            got = np.asarray(decode(png_of(samples, bits, INDEXED, *chunks))).astype(float)
            assert np.abs(got[0] - (table * share + 255 * (1 - share))).max() <= 1


# --- BMP --------------------------------------------------------------------------------------

BW = [BLACK, WHITE]
GREYS = [(level,) * 3 for level in range(16)]
ROW_555 = struct.pack("<4H", 0x7C00, 0x03E0, 0x001F, 0x7FFF)
ROW_565 = struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF)
BGRA = bytes([0, 0, 255, 255, 0, 255, 0, 255, 255, 0, 0, 255, 9, 9, 9, 0])
RGBW = [RED, LIME, BLUE, WHITE]
MASKS_8888 = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)

BWWB = [BLACK, WHITE, WHITE, BLACK]
RBRB = [RED, BLUE, RED, BLUE]
RUN_8 = b"\2\0\2\1\0\0\0\1"
RUN_4 = b"\4\x01\0\0\0\1"
MASKS_555, MASKS_565 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F, 0)

BMP: list[tuple[str, bytes, Sequence[tuple[int, ...]]]] = [
    ("1 bit", bmp_of([b"\x60"], 4, 1, palette=BW), BWWB),
    ("1 bit, white first", bmp_of([b"\x90"], 4, 1, palette=BW[::-1]), BWWB),
    ("1 bit, colours", bmp_of([b"\x50"], 4, 1, palette=[RED, BLUE]), RBRB),
    ("4 bits", bmp_of([b"\x01\x23"], 4, 4, palette=RGBW), RGBW),
    ("4 bits, black and white", bmp_of([b"\x01\x10"], 4, 4, palette=BW), BWWB),
    ("4 bits, greys", bmp_of([b"\xcd\xef"], 4, 4, palette=GREYS), GREYS[12:]),
    ("8 bits", bmp_of([b"\0\1\2\3"], 4, 8, palette=RGBW), RGBW),
    ("8 bits, black and white", bmp_of([b"\0\1\1\0"], 4, 8, palette=BW), BWWB),
    ("8 bits, greys", bmp_of([b"\0\1\2\3"], 4, 8, palette=GREYS), GREYS[:4]),
    ("16 bits", bmp_of([ROW_555], 4, 16), RGBW),
    ("16 bits 555", bmp_of([ROW_555], 4, 16, compression=3, masks=MASKS_555), RGBW),
    ("16 bits 565", bmp_of([ROW_565], 4, 16, compression=3, masks=MASKS_565[:3]), RGBW),
    ("565, V5", bmp_of([ROW_565], 4, 16, compression=3, masks=MASKS_565, header=124), RGBW),
    ("24 bits", bmp_of([BGRA[:3] + BGRA[4:7]], 2, 24), [RED, LIME]),
    ("32 bits, unused", bmp_of([BGRA], 4, 32), [RED, LIME, BLUE, (9, 9, 9)]),
    ("alpha", bmp_of([BGRA], 4, 32, compression=3, masks=MASKS_8888, header=56), RGBW),
    ("runs of 8 bits", run_length_bmp(RUN_8, 8, [RED, BLUE]), [RED, RED, BLUE, BLUE]),
    ("runs, black and white", run_length_bmp(RUN_8, 8, BW), [BLACK, BLACK, WHITE, WHITE]),
    ("runs of 4 bits", run_length_bmp(RUN_4, 4, [RED, BLUE]), RBRB),
    ("4-bit runs, black and white", run_length_bmp(RUN_4, 4, BW), [BLACK, WHITE] * 2),
]


@pytest.mark.parametrize(
    ("data", "colours"), [case[1:] for case in BMP], ids=[case[0] for case in BMP]
)
def test_bmp(data: bytes, colours: Sequence[tuple[int, ...]]) -> None:
    assert [tuple(pixel) for pixel in np.asarray(decode(data))[0].tolist()] == list(colours)


def test_bmp_from_the_top_and_from_the_bottom() -> None:
    rows = [bytes([1, 1, 1]), bytes([2, 2, 2])]
    for top_down in (False, True):
        got = np.asarray(decode(bmp_of(rows, 1, 24, top_down=top_down)))
        assert got[:, 0, 0].tolist() == [1, 2]


def test_bmp_of_16_bits_with_transparency_is_left_out() -> None:
    masks = (0x7C00, 0x3E0, 0x1F, 0x8000)
    with pytest.raises(UnreadableImage, match="16 bits with transparency"):
        decode(bmp_of([ROW_555], 4, 16, compression=3, masks=masks, header=56))


def test_a_damaged_count_of_colours_costs_no_memory() -> None:
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "BMP")
    data = bytearray(stream.getvalue())
    struct.pack_into("<I", data, 46, 0x65010101)  # a palette of 1.7 billion colours
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(UnreadableImage):
        decode(bytes(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
