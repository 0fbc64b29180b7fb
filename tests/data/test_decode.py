"""Every kind of picture but TIFF against values that are known by how its bytes were written."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_cases import BLACK, BLUE, LIME, RED, WHITE, gif_of
from PIL import Image
from refusals import refused

from genkt.data.pictures.decode import decode
from genkt.data.pictures.formats import UnreadableImage


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixel(source: Any, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = decode(source)
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_undone(orientation: int, kind: str) -> None:
    upright = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    # How the camera stores what it sees for each EXIF value (row 0 / column 0 of the standard).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    once = decode(data)
    assert np.array_equal(np.asarray(once), upright)
    assert np.array_equal(np.asarray(decode(once)), upright), "not turned a second time"


def test_broken_exif_leaves_the_pixels() -> None:
    data = encoded(Image.new("RGB", (4, 4), (0, 0, 255)), "PNG", exif=b"Exif\0\0MM\0*\xff\xff")
    assert pixel(data) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_by_its_full_range(kind: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    got = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    assert got[0, :, 0].tolist() == [0, 1, 128, 255]
    dark = np.array([[0, 200]], dtype=np.uint16)  # a dark picture stays dark
    assert np.asarray(decode(encoded(Image.fromarray(dark), kind))).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([0.0, float("nan"), float("inf")], [0, 0, 0]),
        ([0.0, 1e6, 2e6], [0, 128, 255]),
    ],
)
def test_float_pictures(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert np.asarray(decode(encoded(image, "TIFF")))[0, :, 0].tolist() == expected


def test_integer_pictures() -> None:
    def grey(values: list[int], dtype: Any) -> list[int]:
        image = Image.fromarray(np.array([values], dtype=dtype))
        shown: list[int] = np.asarray(decode(encoded(image, "TIFF")))[0, :, 0].tolist()
        return shown

    assert grey([0, 7, 255], np.int32) == [0, 7, 255]
    assert grey([0, 128 * 257, 65535], np.int32) == [0, 128, 255]
    assert grey([-100, 0, 100], np.int32) == [0, 128, 255]


def test_unsigned_32_bit_tiff_does_not_wrap() -> None:
    signed = encoded(Image.fromarray(np.array([[0, -1]], dtype=np.int32)), "TIFF")
    tag = struct.pack("<HHI", 339, 3, 1)  # sample format, one short: 2 is signed, 1 unsigned
    unsigned = signed.replace(tag + b"\2", tag + b"\1")
    assert unsigned != signed
    assert np.asarray(decode(unsigned))[0, :, 0].tolist() == [0, 255]


def test_palette_and_transparency_onto_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    assert pixel(encoded(palette, "PNG")) == (200, 0, 0)
    clear = encoded(palette, "PNG", transparency=0)
    assert (pixel(clear), pixel(clear, 1)) == ((255, 255, 255), (0, 200, 0))
    half = encoded(palette, "PNG", transparency=bytes([128, 255]))
    assert pixel(half) == (227, 127, 127)


def test_alpha_onto_white() -> None:
    assert pixel(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "PNG")) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 255)), "PNG")) == (0, 0, 0)
    assert pixel(encoded(Image.new("LA", (1, 1), (0, 51)), "PNG")) == (204, 204, 204)
    key = encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG", transparency=(9, 9, 9))
    assert pixel(key) == (255, 255, 255)
    deep = Image.fromarray(np.array([[0, 5000]], dtype=np.uint16))
    assert pixel(encoded(deep, "PNG", transparency=5000), 1) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    red, green, blue = pixel(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), kind))
    assert red < 10 and green > 245 and blue > 245, "cyan"


def test_one_bit_grey_and_ycbcr() -> None:
    assert pixel(encoded(Image.new("1", (1, 1), 1), "PNG")) == (255, 255, 255)
    assert pixel(encoded(Image.new("L", (1, 1), 77), "PNG")) == (77, 77, 77)
    assert pixel(Image.new("RGB", (1, 1), (255, 0, 0)).convert("YCbCr")) == (254, 0, 0)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(data) == (255, 0, 0)


def test_faults_are_one_line(tmp_path: Path) -> None:
    whole = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    for data, reason in [
        (b"", "empty file"),
        (b"no picture at all", "not a picture that Pillow can open"),
        (whole[: len(whole) // 2], "truncated"),
    ]:
        with pytest.raises(UnreadableImage, match=reason) as caught:
            decode(data)
        assert "\n" not in str(caught.value) and "0x" not in str(caught.value)
    with refused("gone.png", kind=UnreadableImage):
        decode(tmp_path / "gone.png")


def test_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (100, 100)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with refused("DecompressionBombError", kind=UnreadableImage):
        decode(data)


def test_postscript_under_another_name_is_not_run() -> None:
    data = encoded(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(UnreadableImage, match="not a picture"):
        decode(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 400), st.sampled_from(["PNG", "TIFF", "GIF", "BMP"]))
def test_damaged_bytes_give_a_picture_or_unreadable(noise: bytes, at: int, kind: str) -> None:
    data = bytearray(encoded(Image.effect_noise((12, 12), 50), kind))
    data[at : at + len(noise)] = noise
    try:
        assert decode(bytes(data)).mode == "RGB"
    except UnreadableImage as error:
        assert "\n" not in str(error)


# --- GIF, WebP, JPEG, PFM ---------------------------------------------------------------------

GLOBAL, LOCAL = [RED, LIME, BLUE, WHITE], [BLUE, RED, LIME, BLACK]
GIF = [
    ("global palette", [([0, 1, 2, 3], (), None)], [RED, LIME, BLUE, WHITE]),
    ("local palette", [([0, 1, 2, 3], LOCAL, None)], [BLUE, RED, LIME, BLACK]),
    ("transparent", [([0, 1, 2, 3], (), 1)], [RED, WHITE, BLUE, WHITE]),
    ("transparent, local", [([0, 1, 2, 3], LOCAL, 3)], [BLUE, RED, LIME, WHITE]),
    ("two frames", [([0] * 4, (), None), ([1] * 4, LOCAL, None)], [RED] * 4),
]


@pytest.mark.parametrize(
    ("frames", "colours"), [case[1:] for case in GIF], ids=[case[0] for case in GIF]
)
def test_gif(frames: Any, colours: Sequence[tuple[int, ...]]) -> None:
    got = np.asarray(decode(gif_of(4, 1, frames, GLOBAL)))[0]
    assert [tuple(pixel) for pixel in got.tolist()] == list(colours)


@pytest.mark.parametrize("kind", ["lossless", "lossy", "animated"])
def test_webp(kind: str) -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    options: dict[str, Any] = {"lossless": kind != "lossy", "quality": 95, "exact": True}
    if kind == "animated":
        options |= {"save_all": True, "append_images": [Image.new("RGBA", (8, 8), "blue")]}
    got = pixel(encoded(image, "WEBP", **options))
    assert np.abs(np.subtract(got, (200, 100, 50))).max() <= (4 if kind == "lossy" else 0)
    image.putalpha(51)
    got = pixel(encoded(image, "WEBP", **options))
    assert np.abs(np.subtract(got, (244, 224, 214))).max() <= (2 if kind == "lossy" else 1)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGB stored", "CMYK"])
def test_jpeg(mode: str, subsampling: int, progressive: bool) -> None:
    colour = (200, 120, 40)
    options: dict[str, Any] = {"quality": 95, "progressive": progressive}
    if mode == "RGB stored":  # Adobe's marker says: no YCbCr
        options["keep_rgb"] = True
    else:
        options["subsampling"] = subsampling
    image = Image.new("RGB", (16, 16), colour)
    expected: Sequence[float] = colour
    if mode == "L":
        image, expected = image.convert("L"), [135] * 3
    if mode == "CMYK":
        image = Image.merge(
            "CMYK", [Image.new("L", (16, 16), level) for level in (10, 90, 200, 40)]
        )
        expected = [(255 - ink) * (255 - 40) / 255 for ink in (10, 90, 200)]
    assert np.abs(np.subtract(pixel(encoded(image, "JPEG", **options)), expected)).max() <= 3


def test_jpeg_ycck() -> None:
    """The same bytes under the other value of Adobe's marker: YCbCr of the inks, inverted K."""
    inks = [Image.new("L", (16, 16), level) for level in (10, 128, 128, 40)]
    data = encoded(Image.merge("CMYK", inks), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    ycck = data[:at] + b"\2" + data[at + 1 :]
    # Stored are 255 - ink: Y = 245 without colour, so 245 of each ink, and K = 40.
    assert np.abs(np.subtract(pixel(ycck), 10 * 215 / 255)).max() <= 3


def test_jpeg_of_12_bits_is_left_out() -> None:
    data = bytearray(encoded(Image.new("L", (16, 16), 99), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(UnreadableImage, match="not a picture that Pillow can open"):
        decode(bytes(data))


def test_pfm_is_no_black_picture() -> None:
    data = b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 1.0)
    assert np.asarray(decode(data))[0, :, 0].tolist() == [128, 255]
