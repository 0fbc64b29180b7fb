"""Colour profiles against what their numbers say, and pictures that must stay as they are."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from profile_cases import (
    ADOBE,
    ADOBE_GAMMA,
    DISPLAY_P3,
    SRGB,
    gamma,
    grey_profile,
    ink_profile,
    matrix_profile,
    srgb_curve,
    srgb_of_lab,
    srgb_of_xyz50,
)

from genkt.data.pictures.decode import decode
from genkt.data.pictures.profiles import to_srgb

SPACES = {
    "Adobe RGB": (ADOBE, gamma(ADOBE_GAMMA)),
    "Display P3": (DISPLAY_P3, srgb_curve()),
    "linear": (SRGB, gamma(1.0)),
}
ADOBE_PROFILE = matrix_profile(ADOBE, gamma(ADOBE_GAMMA)[0])
SRGB_PROFILES = {
    "LittleCMS's": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "by hand": matrix_profile(SRGB, srgb_curve()[0]),
    "rounded": matrix_profile(np.round(SRGB, 4).tolist(), srgb_curve()[0]),
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colours() -> Any:
    """[18, 24, 3] colours of the whole cube."""
    return np.random.default_rng(0).integers(0, 256, (18, 24, 3)).astype(np.uint8)


def off(got: Image.Image, expected: Any) -> float:
    """The largest difference in levels."""
    return float(np.abs(np.asarray(got).astype(float) - expected).max())


def as_srgb(name: str, levels: Any) -> Any:
    """What the numbers of a profile say, in levels of sRGB."""
    primaries, (_, curve) = SPACES[name]
    return srgb_of_xyz50(curve(levels / 255.0) @ np.array(primaries).T)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("name", SPACES)
def test_an_rgb_profile_is_applied(name: str, kind: str) -> None:
    profile = matrix_profile(SPACES[name][0], SPACES[name][1][0])
    pixels = colours() if kind != "AVIF" else np.full((16, 16, 3), (200, 120, 60), np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    data = encoded(Image.fromarray(pixels), kind, icc_profile=profile, **options)
    # Of the steep start of a straight curve a level is many levels of sRGB.
    assert off(decode(data), as_srgb(name, pixels)) <= (6 if kind == "AVIF" else 2)
    plain = decode(encoded(Image.fromarray(pixels), kind, **options))
    assert off(decode(data), np.asarray(plain)) > 10, "the profile matters"


def test_a_jpeg_with_a_profile() -> None:
    image = Image.new("RGB", (16, 16), (60, 200, 90))
    data = encoded(image, "JPEG", quality=98, icc_profile=ADOBE_PROFILE)
    assert off(decode(data), as_srgb("Adobe RGB", np.asarray(image))) <= 4


def test_transparency_and_palette_under_a_profile() -> None:
    pixels = colours()
    clear = Image.fromarray(np.dstack([pixels, np.full((18, 24), 51, np.uint8)]))
    expected = as_srgb("Adobe RGB", pixels) * 0.2 + 255 * 0.8
    assert off(decode(encoded(clear, "PNG", icc_profile=ADOBE_PROFILE)), expected) <= 2
    palette = Image.fromarray(pixels).quantize(16)
    expected = as_srgb("Adobe RGB", np.asarray(palette.convert("RGB")))
    assert off(decode(encoded(palette, "PNG", icc_profile=ADOBE_PROFILE)), expected) <= 2


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_grey_profile_is_applied(depth: Any) -> None:
    levels = np.arange(256)[None, :]
    image = Image.fromarray((levels * (1 if depth is np.uint8 else 257)).astype(depth))
    grey = (levels / 255.0) ** 1.5
    expected = srgb_of_xyz50(grey[..., None] * np.array([0.9642, 1.0, 0.8249]))
    data = encoded(image, "PNG", icc_profile=grey_profile(gamma(1.5)[0]))
    assert off(decode(data), expected) <= 2
    half = encoded(
        Image.new("LA", (1, 1), (100, 51)), "PNG", icc_profile=grey_profile(gamma(1.5)[0])
    )
    assert off(decode(half), expected[0, 100] * 0.2 + 255 * 0.8) <= 2


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_a_cmyk_profile_is_applied(kind: str) -> None:
    random = np.random.default_rng(5)
    corners = random.integers(60, 200, (2, 2, 2, 2, 3))
    corners[..., 1:] = random.integers(120, 137, (2, 2, 2, 2, 2))  # colours that sRGB has
    corners[0, 0, 0, 0], corners[1, 1, 1, 1] = (255, 128, 128), (0, 128, 128)
    for inks in [*itertools.product((0, 255), repeat=4), (102, 0, 0, 0), (0, 0, 0, 153)]:
        place = np.array(inks) / 255
        # At most one ink is not at an end: the table is a straight line in it.
        low, high = (corners[tuple(edge(place).astype(int))] for edge in (np.floor, np.ceil))
        lab = low + (high - low) * (place % 1).max()
        expected = srgb_of_lab(np.array([lab[0] * 100 / 255, lab[1] - 128, lab[2] - 128]))
        image = Image.new("CMYK", (8, 8), inks)
        options = {"quality": 100} if kind == "JPEG" else {}
        data = encoded(image, kind, icc_profile=ink_profile(corners), **options)
        assert off(decode(data), expected) <= 3, inks


def test_the_blackest_ink_is_black() -> None:
    corners = np.full((2, 2, 2, 2, 3), 128)
    corners[..., 0] = 255 - 13 * np.indices((2, 2, 2, 2)).sum(0) ** 2  # L from 255 to 47
    image = Image.new("CMYK", (8, 8), (255,) * 4)
    data = encoded(image, "TIFF", icc_profile=ink_profile(corners))
    assert off(decode(data), 0) <= 2 and srgb_of_lab(np.array([47 * 100 / 255, 0, 0])).min() > 40


@pytest.mark.parametrize("name", SRGB_PROFILES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_a_picture_in_srgb_keeps_its_bits(mode: str, name: str) -> None:
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (3, 1, 3)))
    image = Image.fromarray(np.vstack([np.asarray(image), colours()[:3].repeat(11, 1)[:, :256]]))
    image = image.convert(mode)
    data = encoded(image, "PNG", icc_profile=SRGB_PROFILES[name])
    assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(encoded(image, "PNG"))))


@pytest.mark.parametrize(
    "profile", [b"no profile", ADOBE_PROFILE[:200], grey_profile(gamma(1.5)[0]), b"\0" * 300]
)
def test_a_profile_that_cannot_be_used_is_as_none(profile: bytes) -> None:
    image = Image.fromarray(colours())
    assert np.array_equal(np.asarray(to_srgb(image, profile)), colours())
    data = encoded(image, "PNG", icc_profile=profile)
    assert np.array_equal(np.asarray(decode(data)), colours())


def test_an_open_picture_keeps_its_profile_and_a_decoded_one_has_none() -> None:
    with Image.open(
        io.BytesIO(encoded(Image.fromarray(colours()), "PNG", icc_profile=ADOBE_PROFILE))
    ) as image:
        once = decode(image)
        assert image.info["icc_profile"] == ADOBE_PROFILE
    assert np.array_equal(np.asarray(decode(once)), np.asarray(once))


def test_threads_share_a_transform() -> None:
    pixels = [np.roll(colours(), number, axis=0) for number in range(64)]
    files = [encoded(Image.fromarray(each), "PNG", icc_profile=ADOBE_PROFILE) for each in pixels]
    alone = [np.asarray(decode(data)) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, files))
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(alone, together, strict=True))
