"""Fashion-MNIST out of its package: parts, and the half of the test that is kept for later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from package_cases import brought, write_fashion
from refusals import refused

from genkt.data.packages.fashion_mnist import fashion_mnist


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("packages")
    with brought(folder, fashion_mnist=write_fashion(folder)):
        yield folder


def test_the_parts_are_fixed_and_share_nothing(home: Path) -> None:
    splits = fashion_mnist(num_unlabelled=40)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 1000, "validation": 1000, "test": 150, "unlabelled": 40,
    }  # fmt: skip
    assert set(splits.train.class_counts().values()) == {100}
    assert splits.test is not None and set(splits.test.class_counts().values()) == {15}
    assert splits.classes[0] == "T-shirt/top" and not splits.notes
    ids = [each for part in splits.parts.values() for each in part.ids]
    assert len(ids) == len(set(ids))
    assert fashion_mnist(home, num_unlabelled=40).train.ids == splits.train.ids


def test_pictures_are_those_of_the_files(home: Path) -> None:
    splits = fashion_mnist(num_unlabelled=1)
    sample_id = splits.train.ids[7]
    row = int(sample_id.split("/")[2].split("#")[0])
    drawn = np.random.default_rng(0).integers(0, 256, (2100, 28, 28), dtype=np.uint8)
    assert np.array_equal(np.asarray(splits.train.load(7))[..., 0], drawn[row])
    assert splits.train.labels[7] == row // 210


def test_the_confirmation_part_is_the_other_half(home: Path) -> None:
    test = fashion_mnist(num_unlabelled=1).test
    last = fashion_mnist(num_unlabelled=1, part="confirmation")
    assert test is not None and last.test is not None and len(last.notes) == 1
    assert not set(test.ids) & set(last.test.ids)
    assert len({*test.ids, *last.test.ids}) == 300


def test_more_unlabelled_pictures_than_there_are_is_refused(home: Path) -> None:
    assert len(fashion_mnist(num_unlabelled=100).unlabelled or ()) == 100
    with refused(100, key="data.num_unlabelled", got=101):
        fashion_mnist(num_unlabelled=101)
