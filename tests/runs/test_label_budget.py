"""The labels behind a result: those trained on, and those that a choice has read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.runs.label_budget import LabelBudget, choices, label_budget
from genkt.runs.pool import build_pool

SPLITS = digits()
BETA = ("method=aft", "method.beta=search")


def budget(*words: str, tuned: bool = False) -> LabelBudget:
    given = ["device=cpu", "transfer_set=labelled", *words]
    config = read_config(TransferConfig, "transfer", given)
    return label_budget(config, build_pool(config, SPLITS), tuned=tuned)


@pytest.mark.parametrize(
    ("words", "validation"),
    [
        ((), 100),  # five draws: the exported one is chosen
        (("draws=1",), 0),
        (("draws=1", "train.select=best"), 100),
        (("draws=1", "teacher.adapt=better"), 100),
        (("draws=1", "teacher.adapt=better", "method=stl"), 0),  # no method reads a teacher
        (("draws=1", *BETA), 100),
        (("validation=cross", *BETA), 0),
        (("validation=none",), 0),
    ],
)
def test_validation_labels_count_where_a_choice_reads_them(
    words: tuple[str, ...], validation: int
) -> None:
    assert budget(*words) == LabelBudget(20, validation)


def test_the_training_labels_are_those_of_a_draw() -> None:
    assert budget("data.labels_per_class=5", "draws=1") == LabelBudget(50, 0)


def test_a_tuned_arm_has_read_them() -> None:
    assert budget("draws=1", tuned=True) == LabelBudget(20, 100)
    assert budget("draws=1", "validation=cross", tuned=True) == LabelBudget(20, 0)


def test_data_without_validation_images_have_none_to_read() -> None:
    config = read_config(TransferConfig, "transfer", ["transfer_set=labelled", *BETA])
    splits = replace(SPLITS, validation=None)
    assert choices(config, splits) == ("method.beta=search",)
    assert label_budget(config, build_pool(config, splits)) == LabelBudget(20, 0)
