"""Settings of arms are chosen on validation images, as many candidates for each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from compare_cases import STUDY, compare_words
from refusals import refused
from tiny import run

from genkt.cli.compare import read_comparison
from genkt.comparison.arm_task import ArmTask
from genkt.comparison.plan_arms import make_plan
from genkt.comparison.tuning import Candidate, candidates, choose, lost
from genkt.config.compare_settings import StudySettings
from genkt.metrics.choices import chosen
from genkt.report.compare.compare_data import Tried
from genkt.settings.faults import Fault
from genkt.settings.schema import parse
from genkt.types import StudentScores

GRIDS: dict[str, Any] = {
    "stl": {"train.lr": [1.0e-5, 2.0e-2]},
    "logit_kd": {"method.temperature": [1, 4]},
}


def tuned(home: Path, *more: str, draws: int = 2, grids: dict[str, Any] = GRIDS) -> list[str]:
    return compare_words(home, *more, tuning={"draws": draws, "grids": grids})


def test_the_best_candidate_on_validation_is_what_an_arm_runs_with(tmp_path: Path) -> None:
    ran = run(*tuned(tmp_path, "data.validation_fraction=0.3"))
    assert ran.code == 0, ran.err
    home = tmp_path / "comparison"
    told = json.loads((home / "compare.json").read_text())
    assert [entry["arm"] for entry in told["tuning"]] == ["stl", "stl", "real", "real"]
    found = read_comparison(tuned(tmp_path, "data.validation_fraction=0.3")[1:])
    for entry, candidate in zip(told["tuning"], candidates(found.arms, home, 2), strict=True):
        assert entry["words"] == list(candidate.words)
        measured = [validation(candidate.task.folder, draw) for draw in range(2)]
        assert entry["validation_accuracy"] == pytest.approx(sum(measured) / 2)
    for arm, key in {"stl": "train.lr", "real": "method.temperature"}.items():
        mine = [entry for entry in told["tuning"] if entry["arm"] == arm]
        tried = [each for each in candidates(found.arms, home, 2) if each.arm == arm]
        scores = [each.scores() for each in tried]
        for entry, own in zip(mine, scores, strict=True):
            assert own is not None and own.shape == (2, 9)  # draws, validation images
            assert entry["validation_accuracy"] == pytest.approx(own.mean())
        best = chosen([own for own in scores if own is not None])
        assert [entry["chosen"] for entry in mine] == [number == best for number in range(2)]
        kept = next(entry for entry in told["arms"] if entry["arm"] == arm)
        assert kept["words"][-1] == mine[best]["words"][0]
        group, name = key.split(".")
        assert f"{key}={kept['config'][group][name]:g}" == f"{key}={value_of(mine[best]):g}"
    for each in told["arms"]:  # two candidates, on as many draws as the arm itself
        assert each["budget"]["steps"] == 3 * each["cost"]["steps"]
        assert each["budget"]["choices"][-1] == "settings"
        assert each["budget"]["validation_labels"] == 9
        assert 0 < each["budget"]["search_seconds"] < each["budget"]["seconds"]
    work = told["work"]
    outcomes = [json.loads(path.read_text())["seconds"]
                for path in home.glob("**/outcomes/*.json")]  # fmt: skip
    assert len(outcomes) == 6 and work["task_seconds"] == pytest.approx(sum(outcomes))
    assert work["wall_seconds"] >= work["task_seconds"]  # one process
    again = run(*tuned(tmp_path, "data.validation_fraction=0.3"))
    assert json.loads((home / "compare.json").read_text())["work"] == work
    assert again.code == 0 and "finished" not in again.err  # nothing is trained twice


def test_with_cross_validation_candidates_are_judged_on_labels_alone(tmp_path: Path) -> None:
    """The slow learner is the default; it is far worse on labels that it did not see."""
    words = tuned(
        tmp_path, "data.validation_fraction=0", "validation=cross", "train.steps=12", draws=1,
        grids={"stl": {"train.lr": [1.0e-9, 2.0e-2]}},
    )  # fmt: skip
    ran = run(*words)
    assert ran.code == 0, ran.err
    home = tmp_path / "comparison"
    tried = candidates(read_comparison(words[1:]).arms, home, 1)
    for candidate in tried:
        scores = candidate.scores()
        assert scores is not None and scores.shape == (6,)  # two labels of each of three classes
        assert candidate.task.command.endswith("cross_validate=true")
        results = candidate.task.results()
        assert all("cross-validation" in stages for _, stages in results)
    told = json.loads((home / "compare.json").read_text())
    assert [entry["chosen"] for entry in told["tuning"]] == [False, True]
    arm = next(entry for entry in told["arms"] if entry["arm"] == "stl")
    assert arm["config"]["cross_validate"] is False
    assert "chosen on folds of the labelled images" in (home / "compare.md").read_text()


def test_the_first_candidate_wins_ties_and_stands_in_for_none(tmp_path: Path) -> None:
    settings = read_comparison(tuned(tmp_path)[1:]).arms
    tried = candidates(settings, tmp_path, 1)

    def words_of(*scores: list[int] | None) -> tuple[str, ...]:
        """The settings that stl gets if its candidates have these scores; None: it failed."""
        mine = [each for each in tried if each.arm == "stl"]
        rights = dict(zip([each.task.name for each in mine], scores, strict=True))

        def failure(task: ArmTask) -> str | None:
            return "lost" if rights.get(task.name, [1]) is None else None

        def scores(task: ArmTask) -> list[StudentScores]:
            found = np.array(rights.get(task.name, [1, 1]), np.float32)
            return [StudentScores(found, validation=found)]

        with patch.multiple(ArmTask, failure=failure, scores=scores):
            return choose(settings, tried)[0].arm.words

    def few(count: int) -> list[int]:
        return [1] * count + [0] * (9 - count)

    slow, fast = "train.lr=1e-05", "train.lr=0.02"
    assert words_of(few(4), few(5))[-1] == slow  # one image is one standard error
    assert words_of(few(4), few(6))[-1] == fast
    assert words_of(None, few(1))[-1] == fast
    assert words_of(None, None)[-1] == slow
    with patch.multiple(Candidate, scores=lambda _: None, judged=by_value):
        assert words_of([], [])[-1] == fast  # an older genkt kept the accuracy of each draw alone


def by_value(candidate: Candidate) -> list[float]:
    """Accuracies of two draws, better for a larger learning rate."""
    lead = float(candidate.words[0].partition("=")[2])
    return [0.5 + 10 * lead, 0.6 + 10 * lead]


def value_of(entry: dict[str, Any]) -> float:
    return float(entry["words"][0].partition("=")[2])


def validation(run_folder: Path, draw: int) -> float:
    found = next((run_folder / "draws" / str(draw)).glob("*/result.json"))
    value = json.loads(found.read_text())["result"]["extras"]["validation_accuracy"]
    assert isinstance(value, float)
    return value


def test_candidates_are_judged_on_other_label_draws(tmp_path: Path) -> None:
    found = read_comparison(tuned(tmp_path, draws=3)[1:])
    tried = candidates(found.arms, Path("home"), 3)
    assert len(tried) == 4
    for candidate in tried:
        config = candidate.task.config
        assert (config.first_draw, config.draws) == (2, 3)
        assert "first_draw=2" in candidate.task.command
        assert candidate.words[0] in candidate.task.command
    assert {each.config.draws for each in found.arms} == {2}


def test_candidates_of_equal_settings_are_trained_once(tmp_path: Path) -> None:
    grids = {"stl": {"train.lr": [1.0e-3, 1.0e-3]}}
    tried = candidates(read_comparison(tuned(tmp_path, grids=grids)[1:]).arms, Path("home"), 2)
    assert len(tried) == 2 and tried[0].task is tried[1].task


def test_data_without_validation_images(tmp_path: Path) -> None:
    ran = run(*tuned(tmp_path, "data.validation_fraction=0", "train.eval_every=0"))
    assert ran.code == 2
    assert "chosen on validation images, but the data have none" in ran.err


def test_an_arm_none_of_whose_candidates_ends_well_is_told_the_others_go_on(tmp_path: Path) -> None:
    grids = {"real": {"method.temperature": [5, 6]}}
    words = tuned(tmp_path, "data.validation_fraction=0.3", grids=grids)
    ran = run(*words, "teacher.args={layers: [1,1,1,1], channels: [8,8,16,16], in_chans: 7}")
    assert ran.code == 2 and "\ngenkt compare: arm real: " in ran.err, ran.err
    told = json.loads((tmp_path / "comparison" / "compare.json").read_text())
    assert [arm["arm"] for arm in told["arms"]] == ["stl"]
    assert [entry["validation_accuracy"] for entry in told["tuning"]] == [None, None]


@pytest.mark.parametrize(
    ("grids", "expected"),
    [
        ({"real": {"train.lr": 1}},
         "study.tuning.grids.real: expected settings such as train.lr, each with a list"),
        ({"real": {}}, "study.tuning.grids.real: expected settings such as train.lr"),
        ({"real": {"train.lr": [1, 2]}, "stl": {"train.lr": [1, 2, 3]}},
         "study.tuning.grids: expected as many candidates for all, got real 2, stl 3"),
    ],
)  # fmt: skip
def test_grids_that_make_no_sense(grids: dict[str, Any], expected: str) -> None:
    faults: list[Fault] = []
    parse(StudySettings, {**STUDY, "tuning": {"draws": 1, "grids": grids}}, "study", faults)
    assert len(faults) == 1 and str(faults[0]).startswith(expected)


def test_a_candidate_with_a_setting_that_is_not_there(tmp_path: Path) -> None:
    with refused("method.tau"):
        read_comparison(tuned(tmp_path, grids={"real": {"method.tau": [1, 2]}})[1:])


def test_a_grid_of_no_arm(tmp_path: Path) -> None:
    expected = "rael"
    with refused(expected):
        read_comparison(tuned(tmp_path, grids={"rael": {"train.lr": [1, 2]}})[1:])


def test_a_grid_does_not_take_the_place_of_what_was_said(tmp_path: Path) -> None:
    with refused("study.tuning.grids", "train.lr=0.1"):
        read_comparison([*tuned(tmp_path)[1:], "train.lr=0.1"])


def test_tuned_arms_may_come_out_equal(tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "hot": ["transfer_set=unlabelled", "method.temperature=4"]}
    words = compare_words(tmp_path, arms=arms, tuning={
        "draws": 1, "grids": {"real": {"method.temperature": [4, 5]}}})  # fmt: skip
    found = read_comparison(words[1:])
    assert {each.config.method for each in found.arms[1:]} == {found.arms[2].config.method}
    plan = make_plan(found.config.study, found.arms, tmp_path)
    assert [task.name for task in plan.tasks] == ["stl", "real", "hot"]
    chosen = [replace(each, candidates=(), tuned=bool(each.candidates)) for each in found.arms]
    assert len(make_plan(found.config.study, chosen, tmp_path).tasks) == 3


def test_a_dry_run_tells_of_the_candidates(tmp_path: Path) -> None:
    ran = run(*tuned(tmp_path, "dry_run=true"))
    assert ran.code == 0 and not (tmp_path / "comparison").exists()
    assert ran.out.endswith(
        "before that, 4 candidates for settings of arms are judged on validation images: "
        "8 students\n"
    )


def test_a_grid_that_grows_keeps_what_was_trained(tmp_path: Path) -> None:
    tasks = []
    for values in ([1, 4], [2, 1, 4]):
        words = tuned(tmp_path, grids={"real": {"method.temperature": values}})
        tried = candidates(read_comparison(words[1:]).arms, tmp_path, 2)
        tasks.append({each.task.name: each.task.config for each in tried})
    few, many = tasks
    assert len(few) == 2 and len(many) == 3
    assert {name: many[name] for name in few} == few


def test_candidates_that_ended_early_are_told() -> None:
    tried = [
        Tried("a", ("x=1",), None, 1.0, False), Tried("a", ("x=2",), 0.5, 1.0, True),
        Tried("b", ("x=1",), None, 1.0, True), Tried("c", ("x=1",), 0.5, 1.0, True),
    ]  # fmt: skip
    assert lost(tried) == [
        "1 of the 2 candidates of a ended early (tuning/logs says why); one of the others was "
        "chosen.",
        "1 of the 1 candidates of b ended early (tuning/logs says why); it has the settings of "
        "the first.",
    ]
