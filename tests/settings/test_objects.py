"""Objects of Python in the places of settings, and what files say of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_api import settings, splits, tiny_model

import genkt
from genkt.api.objects import given_settings
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.settings.faults import SettingsError
from genkt.settings.objects import GivenObject
from genkt.settings.written import as_values, kept, read_yaml
from genkt.transfers.open_run import Given
from genkt.types import UserError


def test_an_object_is_never_copied_and_never_written() -> None:
    value = [1]
    held = GivenObject.of(value, "a list")
    assert dataclasses.asdict(held) == {"given": "a list"}
    assert copy.copy(held).value is value and pickle.loads(pickle.dumps(held)).value == value
    assert held == GivenObject("a list") and hash(held) == hash(GivenObject("a list"))
    with pytest.raises(UserError, match="a list was given in Python"):
        _ = GivenObject("a list").value


def test_objects_arrive_as_they_are() -> None:
    data, student, teachers = digits(), tiny_model(10), [tiny_model(10, 1), tiny_model(10, 2)]
    found = genkt.TransferSet.of(data.train.select([0, 1]))
    named = {"data": data, "student": student, "teacher": teachers, "transfer_set": found}
    config = read_config(TransferConfig, "transfer", given_settings(named))
    given = Given.of(config)
    assert given.data is data and given.transfer_set is found
    assert given.student is not None and given.student.model is student
    assert given.teachers is not None and [each.model for each in given.teachers] == teachers
    assert not given.found_by_name(config)
    assert Given.of(read_config(TransferConfig, "transfer", [])) == Given()
    more = read_config(TransferConfig, "transfer", [*given_settings(named), "data.root=."])
    assert Given.of(more).data is None  # the last one of a key counts


def test_a_file_says_what_was_given_and_cannot_stand_for_it(tmp_path: Path) -> None:
    data = splits(tmp_path)
    named = {**settings(tmp_path), "train": {"steps": 1, "batch_size": 12, "num_workers": 0}}
    words = ("data.labels_per_class=2", "method=stl")
    result = genkt.transfer(*words, data=data, student=tiny_model(), **named)
    plain: Any = as_values(kept(read_yaml(result.out / "config.yaml")))
    assert plain["data"]["root"] == {"given": "Splits of 24 train, 6 test images"}
    assert plain["student"]["model"] == {"given": "ResNet"}
    again = ["--config-dir", str(result.out), "--config-name", "config"]
    with pytest.raises(SettingsError) as caught:
        read_config(TransferConfig, "transfer", again)
    assert {fault.key for fault in caught.value.faults} == {"data.root", "student.model"}
    more = [f"data.root={tmp_path / 'images'}", "student.model=resnet18"]
    assert read_config(TransferConfig, "transfer", [*again, *more]).train.steps == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"seed": object()}, "seed: expected plain values, got an object of class object"),
        ({"data": tiny_model()}, "data: expected Splits or an ImageSet, got an object of class"),
        ({"train": {"lr": [object()]}}, "train: expected plain values"),
        ({"teacher": ["resnet18", tiny_model()]}, "teacher.model: expected a list of names or"),
    ],
)
def test_an_object_in_a_wrong_place_is_told(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(TransferConfig, "transfer", given_settings(arguments))
    assert expected in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    arguments = {"seed": np.int64(3), "train": {"lr": np.float32(0.5)}, "baseline": np.bool_(False)}
    config = read_config(TransferConfig, "transfer", given_settings(arguments))
    assert (config.seed, config.train.lr, config.baseline) == (3, 0.5, False)
