"""Random colours: none at strength 0, the same for the same seed, grey stays grey."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genkt.data.images import from_arrays
from genkt.data.jitter import JitterSpec, JitterViews, jitter
from genkt.data.transform import ImageTransform
from genkt.data.views import ViewDataset, ViewSpec

HALF = (0.5, 0.5, 0.5)
TRANSFORM = ImageTransform((12, 12), HALF, HALF, "bilinear", 1.0)
SEEDS = st.integers(0, 2**31)


def noise(seed: int = 0, size: int = 12) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(60, 190, (size, size, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (4, 4), colour)


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.float64)


@given(SEEDS)
def test_at_strength_0_nothing_changes(seed: int) -> None:
    assert values(jitter(noise(), 0.0, seed)).tolist() == values(noise()).tolist()


@given(SEEDS, st.floats(0.1, 1))
def test_the_seed_decides(seed: int, strength: float) -> None:
    first, again = (jitter(noise(), strength, seed) for _ in range(2))
    assert first.mode == "RGB" and first.tobytes() == again.tobytes()


@given(SEEDS, st.floats(0.1, 1))
def test_grey_stays_grey(seed: int, strength: float) -> None:
    grey = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 15).convert("RGB")
    found = values(jitter(grey, strength, seed))
    assert np.ptp(found, axis=2).max() <= 1  # a rounding


def test_as_often_as_in_the_paper() -> None:
    """0.8 of the pictures are jittered, and 0.2 have lost their colour."""
    picture = flat(150, 90, 60)
    found = [values(jitter(picture, 0.5, seed))[0, 0] for seed in range(2000)]
    grey = np.array([np.ptp(colour) <= 1 for colour in found])
    same = np.array([colour.tolist() == [150, 90, 60] for colour in found])
    assert grey.mean() == pytest.approx(0.2, abs=0.03)
    assert same.mean() == pytest.approx(0.2 * 0.8, abs=0.03)  # neither jittered nor grey


def test_factors_of_the_paper() -> None:
    """Of a flat picture contrast changes nothing: brightness and hue are left to measure."""
    strength, hues, lights = 0.5, [], []
    for seed in range(1000):
        colour = values(jitter(flat(120, 80, 80), strength, seed))[0, 0]
        lights.append(colour.mean() / (280 / 3))
        if np.ptp(colour) > 20:
            hue = colorsys.rgb_to_hsv(*colour / 255)[0]
            hues.append((hue + 0.5) % 1 - 0.5)  # the picture's own hue is 0
    assert 0.58 < min(lights) < 0.7 and 1.3 < max(lights) < 1.47  # 1 +- 0.8 s
    assert 0.08 < max(hues) < 0.125 and -0.125 < min(hues) < -0.08  # +- 0.2 s of a turn


def test_contrast_is_about_the_mean() -> None:
    """A grey picture whose mean stays in range keeps the ratio of spread to mean's change apart."""
    picture = Image.fromarray(np.tile(np.array([100, 120], dtype=np.uint8), (4, 2))).convert("RGB")
    spreads = set()
    for seed in range(200):
        found = values(jitter(picture, 0.4, seed))[..., 0]
        light = found.mean() / 110
        spreads.add(round(np.ptp(found) / (20 * light), 1))
    assert min(spreads) <= 0.8 and max(spreads) >= 1.2  # contrast alone: 1 +- 0.32
    assert min(spreads) >= 0.6 and max(spreads) <= 1.4


def test_views_of_a_set_are_jittered_by_id_and_view() -> None:
    pixels = np.stack([values(noise(seed)).astype(np.uint8) for seed in range(3)])
    images = from_arrays(pixels, [-1] * 3, (), "noise")
    spec = JitterSpec(num_views=0, seed=5, color_jitter=0.8)
    views = JitterViews(images, spec, [TRANSFORM])
    keys = [(0, 0), (0, 1), (1, 0), (2, 7)]
    (together,) = views.batch(keys)
    alone = [views.batch([key])[0][0] for key in keys]
    assert all((one == other).all() for one, other in zip(together, alone, strict=True))
    assert len({row.numpy().tobytes() for row in together}) == 4
    plain = ViewDataset(images, ViewSpec(num_views=0, seed=5), [TRANSFORM])
    still = JitterViews(images, JitterSpec(num_views=0, seed=5), [TRANSFORM])
    assert (plain.batch(keys)[0] == still.batch(keys)[0]).all()
    assert spec.as_dict() == still.spec.as_dict() | {"color_jitter": 0.8}


def test_a_set_of_stored_views_keeps_the_jittered_ones() -> None:
    images = from_arrays(values(noise()).astype(np.uint8)[None], [-1], (), "noise")
    spec = JitterSpec(num_views=2, seed=5, hflip=True, color_jitter=0.8)
    views = JitterViews(images, spec, [TRANSFORM])
    first, again = (views.batch([(0, 1)])[0] for _ in range(2))
    assert (first == again).all()
