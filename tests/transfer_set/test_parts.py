"""What is told where the data have no test or no validation images: it must hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genkt.config.data_settings import (
    CarvedData,
    DataSettings,
    FolderData,
    SplitListData,
    TorchvisionData,
    ViewSettings,
)
from genkt.data.images import from_arrays
from genkt.data.splits import Splits, carve_missing
from genkt.runs.missing_parts import how_to_get
from genkt.settings.objects import GivenObject

VIEWS = ViewSettings(1, (1.0, 1.0), (1.0, 1.0), False, 0.0, 0.0, (1.0, 1.0))
SHARED: dict[str, Any] = {
    "labels_per_class": None, "label_fraction": None, "label_list": None, "views": VIEWS,
    "root": "images", "validation_fraction": 0.0, "test_fraction": 0.0, "max_skipped": 0.0,
}  # fmt: skip
FOLDER = FolderData(**SHARED, name="folder", group=None, unlabelled=[])
LISTS = SplitListData(
    **SHARED, name="split_list", group=None, train="train.csv", validation=None, test=None,
    unlabelled=[],
)  # fmt: skip
NAMED = TorchvisionData(**SHARED, name="torchvision", dataset="cifar10", download=False)
PIXELS = np.arange(20 * 48, dtype=np.int64).reshape(20, 4, 4, 3).astype(np.uint8)  # no copies
IMAGES = from_arrays(PIXELS, np.arange(20) % 2, ("a", "b"), "x")


def read(data: CarvedData, *, own_validation: bool) -> Splits:
    splits = Splits(IMAGES, validation=IMAGES if own_validation else None)
    return carve_missing(
        splits, test_fraction=data.test_fraction, validation_fraction=data.validation_fraction,
        seed=0,
    )  # fmt: skip


@pytest.mark.parametrize("validation_fraction", [0.0, 0.1])
@pytest.mark.parametrize("test_fraction", [0.0, 0.2])
@pytest.mark.parametrize("own_validation", [False, True])
def test_an_advice_to_carve_helps_or_says_when(
    own_validation: bool, test_fraction: float, validation_fraction: float
) -> None:
    data = replace(FOLDER, test_fraction=test_fraction, validation_fraction=validation_fraction)
    splits = read(data, own_validation=own_validation)
    if splits.test is not None:
        return
    told = how_to_get("test", data, splits)
    carved = read(replace(data, test_fraction=0.3), own_validation=own_validation).test is not None
    assert told.startswith("give a test folder")
    if "or data.test_fraction above 0" in told:
        assert carved or "counts only where" in told
    else:
        assert not carved


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FOLDER, "give a test folder, or data.test_fraction above 0"),
        (LISTS, "give data.test=LIST, or data.test_fraction above 0"),
        (NAMED, "give a data set with a test part, or data.test_fraction above 0"),
        (replace(FOLDER, root=GivenObject("Splits")), "give Splits with a test part"),
    ],
)
def test_what_to_give_is_of_the_kind_of_data(data: DataSettings, expected: str) -> None:
    assert how_to_get("test", data, Splits(IMAGES)) == expected
    validation = how_to_get("validation", data, Splits(IMAGES))
    assert "valid" in validation or "val folder" in validation
