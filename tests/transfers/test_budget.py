"""What went into each arm: labels that decided something, steps, images, searches and making."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import run, transfer_words

from genkt.cli.app import read_config
from genkt.comparison.arm_budget import arm_budget
from genkt.config.transfer_settings import TransferConfig
from genkt.transfers.count_budget import validated_choices
from genkt.types import Budget, Cost

LABELS, BATCH, VIEWS = 6, 12, 2


def told(home: Path, *words: str) -> dict[str, Any]:
    own = ["transfer_set=unlabelled", "executor=inline"]
    ran = run(*transfer_words(home, *own, *words))
    assert ran.code == 0, ran.err
    report: dict[str, Any] = json.loads((home / "run" / "report.json").read_text())
    return report


def budget(report: dict[str, Any], arm: str) -> Budget:
    found = arm_budget(report, arm)
    assert found is not None
    return found


def part(report: dict[str, Any], name: str) -> int:
    return next(int(each["num_samples"]) for each in report["splits"] if each["name"] == name)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of a method that searches beta and trains its teacher, and keeps its best weights."""
    return told(
        tmp_path_factory.mktemp("searched"), "method=aft", "method.beta=search",
        "method.beta_grid=[1,10,100]", "teacher.adapt=fine_tune", "train.select=best",
        "adapt.batch_size=8", "seeds_per_draw=2",
    )  # fmt: skip


def test_steps_and_images_of_searches_and_teachers_count(searched: dict[str, Any]) -> None:
    found = budget(searched, "aft")
    a_student = 4 + 2
    assert found.labels == LABELS
    assert found.steps == 2 * a_student + 3 * 4 + 2  # of two students, three trials, a teacher
    assert found.samples == (2 * a_student + 3 * 4) * BATCH
    stored = (part(searched, "labelled") + part(searched, "transfer")) * VIEWS
    assert found.teacher_images == 2 * 8 + stored
    assert 0 < found.search_seconds < found.seconds and found.making_seconds == 0


def test_the_baseline_has_what_its_students_saw_alone(searched: dict[str, Any]) -> None:
    found = budget(searched, "stl")
    assert (found.labels, found.steps, found.samples) == (LABELS, 2 * 6, 2 * 6 * BATCH)
    assert found.teacher_images == 0 and found.search_seconds == 0


def test_validation_labels_count_where_they_decide(searched: dict[str, Any]) -> None:
    num_validation = part(searched, "validation")
    method, baseline = budget(searched, "aft"), budget(searched, "stl")
    assert num_validation > 0
    assert method.validation_labels == baseline.validation_labels == num_validation
    assert (method.choices, baseline.choices) == (("weights", "student"), ("weights",))


def test_online_teachers_answer_every_image_that_is_seen(tmp_path: Path) -> None:
    words = ["teacher.outputs=online", "data.views.num_views=0", "teacher.adapt=none",
             "method=feature_kd", "train.steps=3"]  # fmt: skip
    report = told(tmp_path, *words)
    found = budget(report, "feature_kd")
    assert found.teacher_images == 3 * BATCH and found.samples == (3 + 2) * BATCH
    assert found.choices == () and found.validation_labels == 0


@pytest.mark.parametrize(
    ("words", "arm", "choices"),
    [
        ([], "logit_kd", ()),
        (["draws=2"], "logit_kd", ("student",)),
        (["draws=2"], "stl", ()),
        (["teacher.adapt=better"], "logit_kd", ("teacher",)),
        (["teacher.adapt=better", "train.select=best"], "stl", ("weights",)),
    ],
)
def test_what_reads_validation_labels(
    words: list[str], arm: str, choices: tuple[str, ...], tmp_path: Path
) -> None:
    config = read_config(TransferConfig, "transfer", transfer_words(tmp_path, *words)[1:])
    assert validated_choices(config, arm) == choices


def test_reports_of_earlier_versions_have_no_budget() -> None:
    assert arm_budget({"arms": [{"arm": "stl"}]}, "stl") is None
    assert Cost(1.0, 2, 3, 4) + Cost(1.0, 2, 3, 5, 6) == Cost(2.0, 4, 6, 5, 6)
    assert replace(Budget(5), steps=1) == Budget(labels=5, steps=1)
