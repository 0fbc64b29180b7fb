"""The built-in downstream tasks and the shipped teacher's figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from genkt.data.builtin.digits import digits, digits_on_photos
from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, photo_crops
from genkt.data.splits import Splits

TASKS = {"digits": digits, "digits_on_photos": digits_on_photos}


def index_of(sample_id: str) -> int:
    return int(sample_id.split("/")[1].split("#")[0])


@pytest.fixture(scope="module", params=TASKS)
def splits(request: pytest.FixtureRequest) -> Splits:
    return TASKS[request.param]()


def test_the_split_is_the_documented_one(splits: Splits) -> None:
    parts = splits.parts
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 900, "validation": 100, "test": 797,
    }  # fmt: skip
    indices = {name: [index_of(i) for i in part.ids] for name, part in parts.items()}
    assert indices["test"] == list(range(1000, 1797))
    assert sorted(indices["train"] + indices["validation"]) == list(range(1000))
    assert splits.classes == tuple("0123456789")
    assert (np.bincount(parts["validation"].labels) == 10).all()
    truth = load_digits().target
    for name, part in parts.items():
        assert np.array_equal(part.labels, truth[indices[name]])


def test_both_tasks_share_one_split_and_are_reproducible() -> None:
    plain, mixed = digits(), digits_on_photos()
    for name in plain.parts:
        assert [index_of(i) for i in plain.parts[name].ids] == [
            index_of(i) for i in mixed.parts[name].ids
        ]
    assert digits_on_photos().train.ids == mixed.train.ids
    assert not set(plain.train.ids) & set(mixed.train.ids)


def test_pixels_are_the_scans_scaled_up() -> None:
    test = digits().test
    assert test is not None
    picture = test.load(0)
    assert picture.size == (32, 32) and picture.mode == "RGB"
    grey = np.asarray(picture)[..., 0].astype(float)
    assert (np.asarray(picture) == grey[..., None]).all()
    small = grey.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    scan = load_digits().images[1000] * 255 / 16
    assert np.corrcoef(small.ravel(), scan.ravel())[0, 1] > 0.97


def test_on_photos_is_the_absolute_difference() -> None:
    plain, mixed = digits().test, digits_on_photos().test
    assert plain is not None and mixed is not None
    crops = photo_crops(DOWNSTREAM_PHOTOS, 1797, seed=7)
    for row in (0, 500):
        digit = np.asarray(plain.load(row)).astype(int)
        expected = np.abs(crops[1000 + row].astype(int) - digit)
        assert np.array_equal(np.asarray(mixed.load(row)), expected)
