"""Which page of a TIFF is shown, and that both readers show it upright."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tiff_cases as t
from PIL import Image
from profile_cases import gamma, grey_profile, srgb_of_xyz50

from genkt.data.pictures.decode import decode
from genkt.data.pictures.formats import UnreadableImage

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1


def shown(data: bytes) -> Any:
    """[H, W, 3] levels of a picture."""
    return np.asarray(decode(data))


def grey_page(level: int, **more: Any) -> t.Page:
    return t.page_of([[level]], 8, BLACK_IS_ZERO, bytes([level]), **more)


def deep_page(level: int, **more: Any) -> t.Page:
    """A page that only the second reader knows."""
    return t.page_of([[level]], 16, WHITE_IS_ZERO, bytes([255 - level] * 2), **more)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("pages", "level"),
    [
        ([grey_page(10), grey_page(20)], 10),
        ([grey_page(10, SUBFILE_TYPE=1), grey_page(20)], 20),
        ([grey_page(10, OLD_SUBFILE=2), grey_page(20, OLD_SUBFILE=1)], 20),
        ([grey_page(10, SUBFILE_TYPE=0, OLD_SUBFILE=2), grey_page(20)], 10),
        ([grey_page(10, SUBFILE_TYPE=4), grey_page(20, SUBFILE_TYPE=2), grey_page(30)], 20),
        ([grey_page(10, SUBFILE_TYPE=1)], 10),
        ([grey_page(10, SUBFILE_TYPE=1), deep_page(20)], 20),
        ([deep_page(10, SUBFILE_TYPE=1), grey_page(20)], 20),
        ([deep_page(10), grey_page(20)], 10),
    ],
)
def test_the_first_page_of_full_resolution_counts(
    pages: list[t.Page], level: int, order: str
) -> None:
    assert (shown(t.tiff_of(*pages, order=order)) == level).all()


@pytest.mark.parametrize("tag", ["SUB_IFDS", "DNG"])
@pytest.mark.parametrize("page", [grey_page, deep_page])
def test_the_preview_of_camera_raw_is_not_shown(page: Any, tag: str) -> None:
    with pytest.raises(UnreadableImage, match="camera raw"):
        decode(t.tiff_of(page(10, SUBFILE_TYPE=1, **{tag: 8}), order=">"))


def test_the_page_that_a_caller_opened_counts() -> None:
    data = t.tiff_of(grey_page(10), t.page_of([[7]], 8, 1, b"\x07", SAMPLE_FORMAT=2), grey_page(30))
    with Image.open(io.BytesIO(data)) as image:
        for page, level in enumerate([10, 7, 30]):
            image.seek(page)
            assert decode(image).getpixel((0, 0)) == (level,) * 3
        image.seek(1)


def test_the_profile_is_that_of_the_page() -> None:
    dark = grey_profile(gamma(1.0)[0])
    expected = srgb_of_xyz50(np.array([100 / 255 * 0.9642, 100 / 255, 100 / 255 * 0.8249]))
    for page in (grey_page, deep_page):  # of both readers
        got = shown(t.tiff_of(page(100, PROFILE=dark), order=">"))
        assert np.abs(got - expected).max() <= 2
    thumbnail = grey_page(10, SUBFILE_TYPE=1, PROFILE=dark)
    assert (shown(t.tiff_of(thumbnail, grey_page(100))) == 100).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_the_second_reader(orientation: int) -> None:
    values = np.array([[0, 50, 100], [150, 200, 250]])
    stored = (255 - values).astype("u1").repeat(2).tobytes()
    deep = t.tiff_of(
        t.page_of(values, 16, WHITE_IS_ZERO, stored, ORIENTATION=orientation), order=">"
    )
    plain = t.tiff_of(
        t.page_of(values, 8, BLACK_IS_ZERO, values.astype("u1").tobytes(), ORIENTATION=orientation)
    )
    assert np.array_equal(shown(deep), shown(plain))
