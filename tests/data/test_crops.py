"""Crops of gallery pictures: the same ones from the same seed, inside the picture, distorted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import refused
from tiny import picture

from genkt.data.crops import OPERATIONS, CropSpec, crop_id, make_crop

SPEC = CropSpec(10, 0, 16, (0.08, 1.0), (0.75, 1.333), 2, 9)
PLAIN = replace(SPEC, num_ops=0)


@given(
    width=st.integers(1, 60), height=st.integers(1, 60), index=st.integers(0, 9),
    seed=st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_crop_lies_in_its_picture_and_is_made_again(
    width: int, height: int, index: int, seed: int
) -> None:
    spec, whole = replace(SPEC, seed=seed), picture(1, 2, 60).resize((width, height))
    crop = make_crop(whole, spec, "a.png", index)
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert crop.picture.size == (16, 16) and crop.picture.mode == "RGB"
    again = make_crop(whole, spec, "a.png", index)
    assert again.picture.tobytes() == crop.picture.tobytes() and again == replace(
        crop, picture=again.picture
    )


def test_seed_id_and_number_decide() -> None:
    whole = picture(0, 0, 64)
    boxes = {
        make_crop(whole, replace(SPEC, seed=seed), name, index).box
        for seed in (0, 1)
        for name in ("a", "b")
        for index in range(10)
    }
    assert len(boxes) > 35


def test_without_distortions_a_crop_is_a_part_of_the_picture() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(40), np.arange(40)[:, None]
    crop = make_crop(Image.fromarray(pixels), PLAIN, "a", 0)
    left, top, right, bottom = crop.box
    middle = np.asarray(crop.picture)[7:9, 7:9].mean(axis=(0, 1))
    assert crop.operations == ()
    assert middle[0] == pytest.approx((left + right - 1) / 2, abs=1)
    assert middle[1] == pytest.approx((top + bottom - 1) / 2, abs=1)


def test_areas_and_shapes_cover_their_ranges() -> None:
    whole = picture(0, 0, 100)
    spec = replace(PLAIN, per_image=200)
    boxes = np.array([make_crop(whole, spec, "a", index).box for index in range(200)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, ratio = width * height / 10_000, width / height
    assert area.min() > 0.07 and area.max() <= 1 and area.min() < 0.15 and area.max() > 0.85
    assert ratio.min() > 0.7 and ratio.max() < 1.45 and ratio.std() > 0.1


def test_every_distortion_is_drawn_and_does_something() -> None:
    whole, seen = picture(2, 3, 32), dict[str, bool]()
    spec = replace(SPEC, per_image=300, num_ops=1, magnitude=20)
    for index in range(300):
        crop = make_crop(whole, spec, "a", index)
        plain = make_crop(whole, replace(spec, num_ops=0), "a", index)
        name = crop.operations[0].rstrip("+-.0123456789 ")
        changed = crop.picture.tobytes() != plain.picture.tobytes()
        seen[name] = seen.get(name, False) or changed
    assert set(seen) == set(OPERATIONS)
    assert [name for name, changed in seen.items() if not changed] == ["identity"]


def test_faults() -> None:
    for changes, message in (
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.5, 1.2)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
    ):
        with refused(message):
            replace(SPEC, **changes)
    with refused("crop 10", "a"):
        make_crop(picture(0, 0), SPEC, "a", 10)
    assert crop_id("x/a.png#00", 3) == "x/a.png#00@3"
