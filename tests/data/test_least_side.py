"""Large JPEGs may be decoded smaller, and show nearly the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from refusals import refused

from genkt.data.images import ImageSet
from genkt.data.views import ImageTransform, ViewDataset, ViewSpec
from genkt.readers.folders import read_unlabelled


def photo_files(root: Path) -> ImageSet:
    """A smooth picture of 400 x 300 as a JPEG and as a PNG."""
    picture = Image.merge("RGB", [Image.radial_gradient("L").resize((400, 300))] * 3)
    for name in ("a.jpg", "b.png"):
        picture.save(root / name)
    return read_unlabelled(root)


@pytest.mark.parametrize(
    ("least_side", "size"), [(0, (400, 300)), (151, (400, 300)), (150, (200, 150)), (40, (100, 75))]
)
def test_large_jpegs_are_decoded_smaller_where_that_is_allowed(
    tmp_path: Path, least_side: int, size: tuple[int, int]
) -> None:
    images = photo_files(tmp_path)
    assert images.load(0, least_side).size == size and images.load(1, least_side).size == (400, 300)
    assert images.load(0).size == (400, 300), "only there"


def test_views_of_a_smaller_decoded_picture_show_the_same(tmp_path: Path) -> None:
    images, transform = photo_files(tmp_path), ImageTransform((64, 64), (0.5,) * 3, (0.5,) * 3)
    full = ViewSpec(num_views=3, crop_scale=(0.3, 1.0), hflip=True)
    small = replace(full, least_side=128)
    keys = [(0, view) for view in range(3)]
    (a,), (b,) = (ViewDataset(images, spec, [transform]).batch(keys) for spec in (full, small))
    difference = (a.int() - b.int()).abs()
    assert 0 < difference.max() < 16 and difference.float().mean() < 2


def test_an_identity_names_it_only_where_it_is_used() -> None:
    assert "least_side" not in ViewSpec().as_dict()
    assert ViewSpec(least_side=448).as_dict()["least_side"] == 448
    with refused("least_side"):
        ViewSpec(least_side=-1)
