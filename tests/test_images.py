"""Decoding of every kind of picture, and what an ImageSet promises."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genkt.data.images import UnreadableImage, concat, decode, from_arrays, overlap
from genkt.types import UserError


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


def toy(count: int = 6, seed: int = 0, prefix: str = "toy") -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    return from_arrays(pixels, np.arange(count) % 2, ("cat", "dog"), prefix)


# --- decoding ---------------------------------------------------------------------------------


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
    with pytest.raises(UnreadableImage, match=r"gone\.png: No such file"):
        decode(tmp_path / "gone.png")


def test_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (100, 100)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="DecompressionBombError"):
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


# --- ImageSet ---------------------------------------------------------------------------------


def test_ids_follow_the_pixels() -> None:
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    before = from_arrays(pixels, [0, 0], ("a",), "x")
    assert before.ids[0].startswith("x/0#") and len(before.ids[0]) == len("x/0#") + 16
    pixels = pixels.copy()
    pixels[1, 0, 0, 0] = 1
    after = from_arrays(pixels, [0, 0], ("a",), "x")
    assert after.ids[0] == before.ids[0] and after.ids[1] != before.ids[1]


def test_select_load_and_labels() -> None:
    images = toy()
    part = images.select([4, 1])
    assert part.ids == (images.ids[4], images.ids[1]) and part.labels.tolist() == [0, 1]
    assert np.array_equal(np.asarray(part.load(0)), np.asarray(images.load(4)))
    assert images.select(images.labels == 1).class_counts() == {"cat": 0, "dog": 3}
    assert len(images.select([])) == 0
    bare = images.without_labels()
    assert (bare.num_labelled, bare.classes, bare.ids) == (0, images.classes, images.ids)
    assert repr(bare) == "ImageSet(6 images, 2 classes, 0 labelled)"
    with pytest.raises(IndexError):
        images.select([6])
    with pytest.raises(IndexError):
        images.select([-1])
    with pytest.raises(IndexError):
        images.select([True])
    part.labels[:] = -1
    assert images.num_labelled == 6, "a selection has its own labels"


def test_concat_opens_the_right_pictures_even_nested_and_pickled() -> None:
    a, b, c = toy(3, 1, "a"), toy(4, 2, "b"), toy(2, 3, "c").without_labels()
    joined = concat(concat(a, b.select([3, 0])), c, a.select([2]))
    joined = pickle.loads(pickle.dumps(joined))
    assert len(joined) == 8 and joined.num_labelled == 6
    expected = [(a, 0), (a, 1), (a, 2), (b, 3), (b, 0), (c, 0), (c, 1), (a, 2)]
    for index, (part, place) in enumerate(expected):
        assert joined.ids[index] == part.ids[place]
        assert np.array_equal(np.asarray(joined.load(index)), np.asarray(part.load(place)))


def test_concat_refuses_other_classes() -> None:
    other = from_arrays(np.zeros((1, 2, 2), np.uint8), [0], ("bird",), "o")
    with pytest.raises(UserError, match=r"same classes.*\[cat, dog\] and \[bird\]"):
        concat(toy(), other)
    nameless = from_arrays(np.zeros((1, 2, 2), np.uint8), [-1], (), "n")
    assert concat(nameless, toy()).classes == ("cat", "dog")
    with pytest.raises(UserError, match="at least one"):
        concat()


def test_overlap_finds_equal_content() -> None:
    a = toy(4)
    b = from_arrays(
        np.stack([np.asarray(a.load(2).convert("L")), np.zeros((4, 4), np.uint8)]),
        [0, 0],
        ("cat",),
        "b",
    )
    assert overlap(a, b) == [(a.ids[2], b.ids[0])]
    assert overlap(b, b.select([1])) == [(b.ids[1], b.ids[1])]


def test_faulty_sets_are_refused() -> None:
    pixels = np.zeros((2, 4, 4), dtype=np.uint8)
    with pytest.raises(UserError, match=r"labels from -1 .* to 0, came 1 for x/1#"):
        from_arrays(pixels, [0, 1], ("a",), "x")
    with pytest.raises(UserError, match="one label and one item for each of 2 ids"):
        from_arrays(pixels, [0], ("a",), "x")
    with pytest.raises(UserError, match="uint8 images"):
        from_arrays(pixels.astype(np.float32), [0, 0], ("a",), "x")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must differ"):
        from_arrays(pixels, [0, 0], ("a", "a"), "x")
