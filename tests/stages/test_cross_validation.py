"""Choices on folds of the labelled images: what is read, what it costs, how it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from refusals import refused
from stage_cases import last_wins, run_and_interrupt
from tiny import run, transfer_words, tree

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.data.images import ImageSet
from genkt.runs.pool import build_pool
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import RunLog
from genkt.stages import beta_search, keep, prepare_teachers
from genkt.stages.cross_validation import Exam, choice_notes, choose, exams_of, folds_fault
from genkt.training.fabric import make_fabric
from genkt.training.probe import fit_head
from genkt.types import UNLABELLED, Cost, UserError

CROSS = ["validation=cross", "data.validation_fraction=0", "baseline=false"]
SEARCH = ["method=aft", "method.beta=search", "method.beta_grid=[1,5]"]
SPLITS = digits()


def opened(*words: str) -> tuple[TransferConfig, RunImages, Any]:
    config = read_config(
        TransferConfig, "transfer", ["device=cpu", "transfer_set=unlabelled", *words]
    )
    pool = build_pool(config, SPLITS)
    return config, RunImages.of(config, pool, make_fabric("fp32", "cpu")), pool


def result_of(home: Path, arm: str) -> dict[str, Any]:
    found = home / "run" / "draws" / "0" / arm / "result.json"
    answer: dict[str, Any] = json.loads(found.read_text())
    return answer


def report_of(home: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((home / "run" / "report.json").read_text())
    return answer


def test_an_exam_of_a_fold_holds_no_other_images() -> None:
    _, images, pool = opened("validation=cross", "data.labels_per_class=3")
    draw = pool.draws[0]
    exams = exams_of(images, pool, draw)
    assert [exam.name for exam in exams] == ["fold0", "fold1", "fold2"]
    assert SPLITS.test is not None and SPLITS.validation is not None
    asked: list[str] = []
    for exam in exams:
        held = exam.images.splits.parts["test"]
        learned = exam.draw.images.select(exam.draw.labelled)
        assert "validation" not in exam.images.splits.parts
        assert not {*held.ids, *learned.ids} & {*SPLITS.test.ids, *SPLITS.validation.ids}
        assert not set(held.ids) & set(learned.ids) and len(held) + len(learned) == 30
        assert (exam.draw.labels != UNLABELLED).sum() == len(learned) == 20
        assert set(learned.class_counts().values()) == {2}
        assert not set(exam.draw.transfer) & set(draw.labelled)
        asked += held.ids
    assert sorted(asked) == sorted(draw.images.select(draw.labelled).ids)


def test_with_validation_images_there_is_one_exam_on_them() -> None:
    _, images, pool = opened()
    (exam,) = exams_of(images, pool, pool.draws[0])
    assert exam.name == "" and exam.draw is pool.draws[0]
    assert exam.images.splits.parts["test"] is SPLITS.validation


def test_the_default_wins_ties_and_every_cost_counts() -> None:
    _, images, pool = opened("validation=cross")
    exams = exams_of(images, pool, pool.draws[0])

    def judging(*lead: float) -> tuple[int, Cost]:
        """Candidates that are right on so many of the 20 labelled images."""

        def judge(exam: Exam) -> tuple[list[np.ndarray], Cost]:
            held = len(exam.images.splits.parts["test"])
            return [(np.arange(held) < right).astype(np.float32) for right in lead], Cost(1.0, 5, 2)

        return choose(exams, judge, default=1)

    assert judging(5, 5, 5) == judging(6, 6, 5) == (1, Cost(2.0, 10, 4))
    assert judging(8, 5, 10)[0] == 2  # 10 of 20 more


@contextmanager
def no_test_images_while_choosing(test: set[str]) -> Iterator[list[str]]:
    """Loading a test image fails while a choice is made; yields what was loaded meanwhile."""
    original, read, active = ImageSet.load, [], 0

    def load(images: ImageSet, row: int, *how: Any) -> Any:
        sample = images.ids[row]
        if active:
            assert sample not in test, f"{sample} was read for a choice"
            read.append(sample)
        return original(images, row, *how)

    def watched(*args: Any, **keywords: Any) -> Any:
        nonlocal active
        active += 1
        try:
            return choose(*args, **keywords)
        finally:
            active -= 1

    with (
        patch.object(ImageSet, "load", load),
        patch.object(beta_search, "choose", watched),
        patch.object(prepare_teachers, "choose", watched),
        patch.object(keep, "choose", watched),
    ):
        yield read


IMAGES = ["data.validation_fraction=0.3", "baseline=false"]


@pytest.mark.parametrize(
    ("words", "on"),
    [
        (SEARCH, CROSS), (SEARCH, IMAGES),
        (["teacher.adapt=better"], CROSS), (["teacher.adapt=better"], IMAGES),
        (["finetune.keep=better"], CROSS),  # with images, these are in memory by then
    ],
)  # fmt: skip
def test_no_test_image_is_read_for_a_choice(
    words: list[str], on: list[str], tmp_path: Path
) -> None:
    command = transfer_words(tmp_path, *on, *words, "train.eval_every=0")
    config = read_config(TransferConfig, "transfer", command[1:])
    test = config.data.read(config.seed).test
    assert test is not None
    with no_test_images_while_choosing(set(test.ids)) as read:
        ran = run(*command)
    assert ran.code == 0, ran.err
    assert read, "the choice looked at no image"


def test_a_search_on_folds_pays_for_every_training(tmp_path: Path) -> None:
    """Two candidates, two folds, four steps each; teachers of a fold know only its labels."""
    fitted: list[int] = []

    def fitting(features: Any, labels: Any, *rest: Any) -> Any:
        fitted.append(len(labels))
        return fit_head(features, labels, *rest)

    command = transfer_words(tmp_path, *CROSS, *SEARCH, "teacher.adapt=linear_probe")
    command.append("finetune.keep=always")
    with patch.object(prepare_teachers, "fit_head", fitting):
        ran = run(*command)
    assert ran.code == 0, ran.err
    assert sorted(fitted) == [6, 6, 12]  # two views of 3, 3 and 6 labelled images
    found = result_of(tmp_path, "aft")
    assert found["stages"]["search"]["steps"] == 16 and found["stages"]["distil"]["steps"] == 4
    assert found["result"]["cost"]["steps"] == 16 + 4 + 2
    assert found["result"]["extras"]["beta"] in (1, 5)
    assert "validation_accuracy" not in found["result"]["extras"]
    assert not list((tmp_path / "run" / "draws" / "0").glob("*fold*"))
    report = report_of(tmp_path)
    assert "2 folds of the labelled images" in json.dumps(report["notes"])


@pytest.mark.parametrize("how", ["fine_tune", "better"])
def test_teachers_of_a_fold_are_paid_for_once(how: str, tmp_path: Path) -> None:
    """The choice of their way, the search and the students of folds share them."""
    words = [*CROSS, *SEARCH, f"teacher.adapt={how}", "cross_validate=true"]
    command = transfer_words(tmp_path, *words, "adapt.steps=3", "adapt.batch_size=10")
    with patch.object(prepare_teachers, "choose", last_wins):
        ran = run(*command)
    assert ran.code == 0, ran.err
    found = result_of(tmp_path, "aft")
    stages = found["stages"]
    chosen = 6 if how == "better" else 0  # steps of the teachers of two folds
    assert stages["teachers"]["steps"] == chosen + 3
    assert stages["search"]["steps"] == 2 * 2 * 4 + 6 - chosen
    assert stages["cross-validation"]["steps"] == 2 * (4 + 2)
    assert stages["cross-validation"]["teacher_images"] == 0
    transfer = 4 * 8  # rows of four steps, whose views differ
    answers = 2 * 6 + transfer + 2 * (2 * 3 + transfer)  # both views of six labels, of three a fold
    probe = 2 * 6 if how == "better" else 0
    assert found["result"]["cost"]["teacher_images"] == 3 * 3 * 10 + answers + probe


def test_answers_of_a_teacher_on_a_fold_are_those_on_its_draw(tmp_path: Path) -> None:
    words = [*CROSS, *SEARCH, "teacher.adapt=linear_probe", "cross_validate=true"]
    assert run(*transfer_words(tmp_path, *words)).code == 0
    stages = result_of(tmp_path, "aft")["stages"]
    assert stages["teachers"]["teacher_images"] == 2 * 6  # the probe's
    checks = [np.load(path) for path in tmp_path.glob("cache/*.rows/checks.npy")]
    kept = sum(int((rows != 0).sum()) for rows in checks)
    assert sum(each["teacher_images"] for each in stages.values()) == kept


def test_a_search_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    words = [*CROSS, *SEARCH, "train.save_seconds=0"]
    cut = transfer_words(tmp_path, *words, f"out={tmp_path / 'cut'}")
    stopped = run_and_interrupt(cut, "search-5", 6)  # in the second fold
    assert stopped.code == 130
    ran = run(*cut)
    assert ran.code == 0, ran.err
    assert run(*transfer_words(tmp_path, *words, f"out={tmp_path / 'whole'}")).code == 0
    one, other = tree(tmp_path / "whole"), tree(tmp_path / "cut")
    for name in ("student/model.safetensors", "metrics.jsonl"):
        assert one[name] == other[name]
    assert b'"stage": "fold1-search-5"' in one["metrics.jsonl"]


def test_a_better_adaptation_on_folds_costs_time_too(tmp_path: Path) -> None:
    """A random head that was not trained cannot win; each fold has trained one."""
    command = transfer_words(tmp_path, *CROSS, "teacher.adapt=better", "adapt.steps=3")
    assert run(*command).code == 0
    found = result_of(tmp_path, "logit_kd")
    won = found["result"]["extras"]["teacher_adapted.0"]
    assert found["stages"]["teachers"]["steps"] == {"linear_probe": 6, "fine_tune": 9}[won]


def test_whole_students_are_judged_on_folds(tmp_path: Path) -> None:
    command = transfer_words(tmp_path, *CROSS, "cross_validate=true")
    assert run(*command).code == 0
    found = result_of(tmp_path, "logit_kd")
    scores = np.load(tmp_path / "run" / "draws" / "0" / "logit_kd" / "validation.npy")
    assert scores.shape == (6,) and set(scores.tolist()) <= {0.0, 1.0}
    assert found["result"]["extras"]["validation_accuracy"] == scores.mean(dtype=np.float64)
    assert found["stages"]["cross-validation"]["steps"] == 2 * (4 + 2)
    assert "validation.npy" in found["files"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["validation=cross", "train.select=best"], "train.select"),
        (["validation=none", *SEARCH], "method.beta=search"),
        (["validation=none", "teacher.adapt=better"], "teacher.adapt=better"),
        (["cross_validate=true"], "cross_validate"),
        (["folds=1"], "folds"),
        (["validation=fold"], "validation"),
    ],
)
def test_choices_that_nothing_can_be_made_on_are_refused(words: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        read_config(TransferConfig, "transfer", words)


def test_labels_that_make_no_folds_stop_the_run_at_its_start(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *CROSS, *SEARCH, "data.labels_per_class=1"))
    assert ran.code == 2 and "two labelled images" in ran.err
    assert not (tmp_path / "run").exists()


def test_the_log_of_a_fold_has_lines_of_its_own(tmp_path: Path) -> None:
    log = RunLog(tmp_path).stage(2, "aft", 1)
    fold = log.below("fold0-")
    for each in (log, fold):
        each.begin("distil", 0)
        each.record({"stage": "distil", "step": 1})
        each.close()
    assert [json.loads(line)["stage"] for line in log.log.lines()] == ["distil", "fold0-distil"]
    assert len(log.known) == 2 and log.known is fold.known
    assert fold.place == f"{log.place}, fold0"


def test_what_is_not_read_and_not_chosen_is_told() -> None:
    config, _, pool = opened("validation=cross", "finetune.keep=always")
    told = choice_notes(config, pool)
    assert len(told) == 2 and "100 validation images are not read" in told[0]
    assert "validation_fraction" not in told[0]  # the digits have no such setting
    config, _, pool = opened()
    assert choice_notes(config, pool) == []


def test_a_default_that_finds_no_folds_stops_no_run() -> None:
    """One label of each class: none can be held out, and only ``finetune.keep`` would hold one."""
    config, images, pool = opened("validation=cross", "data.labels_per_class=1")
    told = choice_notes(config, pool)
    assert "the last stage stays" in told[1] and "hold one out" in told[1]
    assert folds_fault(pool.draws[0], images.folds) is not None
    searches = ("method=aft", "method.beta=search")
    config, _, pool = opened("validation=cross", "data.labels_per_class=1", *searches)
    with refused("hold one out"):
        choice_notes(config, pool)
