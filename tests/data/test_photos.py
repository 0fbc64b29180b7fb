"""Bundled photographs."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, UPSTREAM_PHOTOS, open_photo, photo_crops


def test_the_two_worlds_share_no_photograph() -> None:
    assert not set(UPSTREAM_PHOTOS) & set(DOWNSTREAM_PHOTOS)


@pytest.mark.parametrize("name", UPSTREAM_PHOTOS + DOWNSTREAM_PHOTOS)
def test_every_photograph_is_bundled(name: str) -> None:
    photo = open_photo(name)
    assert photo.mode == "RGB" and min(photo.size) >= 96


def test_crops_follow_the_seed_and_come_from_all_pictures() -> None:
    crops = photo_crops(DOWNSTREAM_PHOTOS, 9, seed=1)
    assert crops.shape == (9, 32, 32, 3) and crops.dtype == np.uint8
    assert np.array_equal(crops, photo_crops(DOWNSTREAM_PHOTOS, 9, seed=1))
    assert not np.array_equal(crops, photo_crops(DOWNSTREAM_PHOTOS, 9, seed=2))
    assert len({crop.tobytes() for crop in crops}) == 9


def test_missing_pictures_are_named() -> None:
    with refused("skimage/data/absent.png"):
        open_photo("skimage/data/absent.png")
    with refused("absent_package"):
        open_photo("absent_package/x.png")
