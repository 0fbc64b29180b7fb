"""Objects of Python in the places of settings, and what files say of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused
from test_api import settings, splits, tiny_model

import genkt
from genkt.api.objects import given_settings
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.runs.model_factories import student_factory, teacher_factories
from genkt.settings.faults import SettingsError
from genkt.settings.objects import GivenObject, has_objects, object_in
from genkt.settings.written import as_values, kept, read_yaml


def test_an_object_is_never_copied_and_never_written() -> None:
    value = [1]
    held = GivenObject.of(value, "a list")
    assert dataclasses.asdict(held) == {"given": "a list"}
    assert copy.copy(held).value is value and pickle.loads(pickle.dumps(held)).value == value
    assert held == GivenObject("a list") and hash(held) == hash(GivenObject("a list"))
    with refused("a list"):
        _ = GivenObject("a list").value


def test_objects_arrive_as_they_are() -> None:
    data, student, teachers = digits(), tiny_model(10), [tiny_model(10, 1), tiny_model(10, 2)]
    found = genkt.TransferSet.of(data.train.select([0, 1]))
    named = {"data": data, "student": student, "teacher": teachers, "transfer_set": found}
    config = read_config(TransferConfig, "transfer", given_settings(named))
    (part,) = config.transfer_set.set_parts
    assert config.data.given is data and object_in(part.places) is found
    assert object_in(config.student.model).model is student
    assert [object_in(model).model for model in config.teacher.models] == teachers
    assert has_objects(config) and not has_objects(read_config(TransferConfig, "transfer", []))
    more = read_config(TransferConfig, "transfer", [*given_settings(named), "data.root=."])
    assert more.data.given is None  # the last one of a key counts


def test_models_are_made_of_objects_or_names() -> None:
    student, teachers = tiny_model(10), [tiny_model(10, 1), tiny_model(10, 2)]
    said = given_settings({"student": student, "teacher": teachers})
    given = read_config(TransferConfig, "transfer", said)
    made = student_factory(given.student)(10, 0).model
    assert made is not student and made.conv1.weight.equal(student.conv1.weight)
    copies = [make(None, 0).model for make in teacher_factories(given.teacher)]
    for copied, teacher in zip(copies, teachers, strict=True):
        assert copied.conv1.weight.equal(teacher.conv1.weight)
    named = read_config(TransferConfig, "transfer", [])
    (teacher_of,) = teacher_factories(named.teacher)
    assert teacher_of(None, 0).name == named.teacher.names[0]


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
