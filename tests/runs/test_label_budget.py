"""The labels behind a result: those trained on, and those that a choice has read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.runs.label_budget import LabelBudget, label_budget
from genkt.runs.pool import build_pool

SPLITS = digits()
BETA = ("method=aft", "method.beta=search")


def budget(*words: str, arm: str | None = None) -> LabelBudget:
    given = ["device=cpu", "transfer_set=labelled", "finetune.keep=always", *words]
    config = read_config(TransferConfig, "transfer", given)
    return label_budget(config, build_pool(config, SPLITS), arm)


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (("draws=1", "finetune.keep=better"), ("stage",)),
        (("draws=1", "finetune.keep=better", "finetune.steps=0"), ()),
        ((), ("student",)),  # five draws: the exported one is chosen
        (("draws=1",), ()),
        (("draws=1", "seeds_per_draw=2"), ("student",)),
        (("draws=1", "train.select=best"), ("weights",)),
        (("draws=1", "teacher.adapt=better"), ("teacher",)),
        (("draws=1", "teacher.adapt=better", "method=stl"), ()),  # no method reads a teacher
        (("draws=1", *BETA), ("search",)),
        (("validation=cross", *BETA), ()),
        (("validation=none",), ()),
    ],
)
def test_validation_labels_count_where_a_choice_reads_them(
    words: tuple[str, ...], choices: tuple[str, ...]
) -> None:
    assert budget(*words) == LabelBudget(20, 100 if choices else 0, choices)


def test_every_arm_has_its_own() -> None:
    assert budget("draws=1", *BETA, arm="stl").choices == ("search",)  # of its learning rate
    assert budget("draws=1", "baseline_search=false", *BETA, arm="stl") == LabelBudget(20, 0)
    assert budget(arm="stl") == LabelBudget(20, 0)
    assert budget(arm="logit_kd") == LabelBudget(20, 100, ("student",))


def test_the_training_labels_are_those_of_a_draw() -> None:
    assert budget("data.labels_per_class=5", "draws=1") == LabelBudget(50, 0)


def test_data_without_validation_images_have_none_to_read() -> None:
    config = read_config(TransferConfig, "transfer", ["transfer_set=labelled", *BETA])
    pool = build_pool(config, replace(SPLITS, validation=None))
    assert label_budget(config, pool) == LabelBudget(20, 0)
