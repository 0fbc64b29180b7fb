"""What went into each arm: labels that decided something, steps, images, searches and making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import run, transfer_words

from genkt.cli.app import read_config
from genkt.comparison.arm_budget import arm_budget
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.label_budget import validated_choices
from genkt.runs.student_places import student_folder
from genkt.stages.beta_search import rate_candidates
from genkt.types import Budget, Cost

LABELS, BATCH, VIEWS = 6, 12, 2


def told(home: Path, *words: str, out: str = "run") -> dict[str, Any]:
    own = ["transfer_set=unlabelled", "executor=inline", "finetune.keep=always"]
    ran = run(*transfer_words(home, *own, *words))
    assert ran.code == 0, ran.err
    report: dict[str, Any] = json.loads((home / out / "report.json").read_text())
    return report


def budget(report: dict[str, Any], arm: str) -> Budget:
    found = arm_budget(report, arm)
    assert found is not None
    return found


def part(report: dict[str, Any], name: str) -> int:
    return next(int(each["num_samples"]) for each in report["splits"] if each["name"] == name)


SEARCHED = [
    "method=aft", "method.beta=search", "method.beta_grid=[1,10,100]", "teacher.adapt=fine_tune",
    "train.select=best", "adapt.batch_size=8", "seeds_per_draw=2",
]  # fmt: skip
"""A method that searches beta and trains its teacher; students keep their best weights."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def searched(home: Path) -> dict[str, Any]:
    return told(home, *SEARCHED)


def test_steps_and_images_of_searches_and_teachers_count(searched: dict[str, Any]) -> None:
    found = budget(searched, "aft")
    a_student = 4 + 2
    assert found.labels == LABELS
    assert found.steps == 2 * a_student + 3 * 4 + 2  # of two students, three trials, a teacher
    assert found.samples == (2 * a_student + 3 * 4) * BATCH
    stored = (part(searched, "labelled") + part(searched, "transfer")) * VIEWS
    assert found.teacher_images == 2 * 8 + 2 * stored  # what each student looks at
    assert 0 < found.search_seconds < found.seconds and found.making_seconds == 0


def test_the_baseline_searches_its_learning_rate_over_as_many_values(
    searched: dict[str, Any],
) -> None:
    found = budget(searched, "stl")
    assert (found.labels, found.steps) == (LABELS, 2 * 6 + 3 * 6)  # two students, three trials
    assert found.samples == found.steps * BATCH and found.teacher_images == 0
    assert 0 < found.search_seconds < found.seconds
    cells = {(cell["arm"], cell["seed"]): cell["extras"] for cell in searched["cells"]}
    chosen = cells["stl", 0]["learning_rate"]
    assert cells["stl", 1]["learning_rate"] == chosen
    assert chosen in rate_candidates(searched["config"]["train"]["lr"], 3)
    (note,) = [note for note in searched["notes"] if note.startswith("The learning rate")]
    assert "(3)" in note and f"{chosen:.2g}" in note


def test_a_student_with_the_chosen_rate_is_the_searched_one(
    searched: dict[str, Any], home: Path
) -> None:
    chosen = next(cell["extras"] for cell in searched["cells"] if cell["arm"] == "stl")
    words = [*SEARCHED, f"train.lr={chosen['learning_rate']!r}", "baseline_search=false"]
    beside = told(home, *words, f"out={home / 'beside'}", out="beside")
    found = budget(beside, "stl")
    assert (found.steps, found.search_seconds) == (2 * 6, 0)
    assert any("baseline was not searched" in note for note in beside["notes"])
    for seed in (0, 1):
        one, other = (
            student_folder(home / out, 0, "stl", seed) / "student.safetensors"
            for out in ("run", "beside")
        )
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("number", [0, 1, 4, 7])
def test_learning_rates_are_around_that_of_the_settings(number: int) -> None:
    found = rate_candidates(2e-3, number)
    assert len(set(found)) == number and list(found[:1]) == [2e-3][:number]
    apart = np.diff(np.log10(sorted(found)))
    assert np.allclose(apart, 0.5)


def test_validation_labels_count_where_they_decide(searched: dict[str, Any]) -> None:
    num_validation = part(searched, "validation")
    method, baseline = budget(searched, "aft"), budget(searched, "stl")
    assert num_validation > 0
    assert method.validation_labels == baseline.validation_labels == num_validation
    assert method.choices == ("weights", "search", "student")
    assert baseline.choices == ("weights", "search")


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
        (["method=aft", "method.beta=search"], "aft", ("search",)),
        (["method=aft", "method.beta=search"], "stl", ("search",)),
        (["method=aft", "method.beta=search", "baseline_search=false"], "stl", ()),
        (["draws=2"], "logit_kd", ("student",)),
        (["draws=2"], "stl", ()),
        (["teacher.adapt=better"], "logit_kd", ("teacher",)),
        (["teacher.adapt=better", "train.select=best"], "stl", ("weights",)),
    ],
)
def test_what_reads_validation_labels(
    words: list[str], arm: str, choices: tuple[str, ...], tmp_path: Path
) -> None:
    given = transfer_words(tmp_path, "finetune.keep=always", *words)[1:]
    config = read_config(TransferConfig, "transfer", given)
    assert validated_choices(config, arm) == choices


def test_reports_of_earlier_versions_have_no_budget() -> None:
    assert arm_budget({"arms": [{"arm": "stl"}]}, "stl") is None
    assert Cost(1.0, 2, 3, 4) + Cost(1.0, 2, 3, 5, 6) == Cost(2.0, 4, 6, 5, 6)
