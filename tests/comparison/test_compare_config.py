"""What a study spells out, which words go where, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compare_cases import STUDY, compare_words
from refusals import refused
from tiny import run, tree

from genkt.cli.compare import merged, read_comparison, sort_out
from genkt.comparison.plan_arms import make_plan
from genkt.config.compare_settings import StudySettings, arms_of
from genkt.settings.faults import Fault, refuse
from genkt.settings.schema import parse
from genkt.settings.words import Words
from genkt.types import UserError


def study(**changes: Any) -> StudySettings:
    faults: list[Fault] = []
    found = parse(StudySettings, {**STUDY, **changes}, "study", faults)
    refuse(faults)
    assert isinstance(found, StudySettings)
    return found


def test_arms_are_named_products_and_sweeps() -> None:
    sweep = {"name": "Real, many", "setting": "train.steps", "values": [3, 1000], "words": ["a=b"]}
    product = {"method": ["aft", "logit_kd"], "teacher": [["x/y", "z"]], "student": []}
    found = arms_of(study(product=product, sweeps=[sweep]))
    assert [arm.name for arm in found] == [
        "stl", "real", "aft-x_y+z", "logit_kd-x_y+z", "Real_many-3", "Real_many-1000",
    ]  # fmt: skip
    assert [arm.title for arm in found[:2]] == ["Plain fine-tuning", "real"]
    assert found[2].words == ("method=aft", "teacher=[x/y,z]")
    assert found[4].words == ("a=b", "train.steps=3")
    assert found[5].point is not None and found[5].point.value == 1000
    assert all(arm.point is None for arm in found[:4])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"baseline": "st"}, 'study.baseline: "st": not an arm. Did you mean stl'),
        ({"pairs": [["real", "rael"]]}, 'study.pairs: "rael": not an arm. Did you mean real'),
        ({"pairs": [["real"]]}, "study.pairs: expected two arms [a, b], got"),
        ({"arms": {"stl": "method=stl"}}, "study.arms.stl: expected a list of settings"),
        ({"arms": {"../x": [], "stl": []}}, 'study.arms: "../x": expected letters, digits'),
        ({"product": {"method": "aft"}}, "study.product.method: expected a list of values"),
        ({"product": {"method": ["stl"]}}, "study.arms: stl: there are 2 arms of this name"),
        ({"names": {"x": "X"}}, 'study.names: "x": not an arm.'),
        ({"sweeps": [{"name": "x"}]}, "study.sweeps[0].setting: missing"),
    ],
)
def test_a_study_that_makes_no_sense(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        study(**changes)
    assert any(line.startswith(expected) for line in str(caught.value).splitlines())


def test_words_go_to_the_comparison_or_to_all_arms() -> None:
    words = ["study=x", "out=y", "executor.num_workers=2", "draws=3", "data=folder", "train.lr=1",
             "--config-dir", "dir", "overwrite=true", "+study.arms.a=[]"]  # fmt: skip
    own, shared, folder = sort_out(words)
    assert own == ["study=x", "out=y", "executor.num_workers=2", "overwrite=true",
                   "+study.arms.a=[]"]  # fmt: skip
    assert (shared, folder) == (["draws=3", "data=folder", "train.lr=1"], ["--config-dir", "dir"])
    own, shared, _ = sort_out(["methods=[aft]", "transfer_sets=[a,b]", "method.x=1"])
    assert list(map(str, own)) == ["study=product", "study.product.method=[aft]",
                   "study.product.transfer_set=[a,b]"]  # fmt: skip
    assert shared == ["method.x=1"]
    with refused("methods=[a,b]"):
        sort_out(["-m", "train.lr=1,2"])


def test_later_words_take_the_place_of_earlier_ones() -> None:
    assert merged(["a=1", "b.c=2"], ["b.c=3", "~d"], ["a=4"]) == ["a=4", "b.c=3", "~d"]


@pytest.mark.parametrize("name", Words().choices("study"))
def test_every_study_that_ships_can_be_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for made_before in ("composed_digg", "composed_retrieved"):
        (tmp_path / "runs" / made_before).mkdir(parents=True)
    more = ["methods=[logit_kd,aft]", "transfer_sets=[digg,unlabelled]"]
    found = read_comparison([f"study={name}", *(more if name == "product" else [])])
    plan = make_plan(found.config.study, found.arms, Path("x"))
    assert plan.tasks[0].name == found.config.study.baseline
    # stages of the first two share the steps otherwise; what the last asks is how many are enough
    if name not in ("best", "composed", "defaults"):
        assert len({task.config.train.steps for task in plan.tasks}) == 1  # one budget for all
    assert len({task.config.student.model for task in plan.tasks}) == 1
    if name != "defaults":
        assert {task.config.data.views.num_views for task in plan.tasks} == {4}
    size = {task.name: task.size for task in plan.tasks}
    if name == "transfer_sets":
        assert len(size) == 16 and size["DIGG_few-4000"] > size["digg"] > size["real"]


def test_words_of_an_arm_win_over_those_of_all_and_these_over_the_study(tmp_path: Path) -> None:
    words = compare_words(tmp_path, "train.steps=3", "method=aft", "method.beta=1")
    found = read_comparison(words[1:])
    assert {each.config.train.steps for each in found.arms} == {3}
    arms = [(each.config.method.name, each.config.transfer_set.name) for each in found.arms]
    assert arms == [("stl", "labelled"), ("aft", "unlabelled")]
    assert found.arms[1].command.startswith("genkt transfer --config-dir=")
    assert "train.steps=3" in found.words
    assert not any("train.steps=4" in each.command for each in found.arms)
    assert "method.beta=1" not in found.arms[0].command  # plain fine-tuning has no beta
    with refused("transfer_set.generator=x"):
        read_comparison([*words[1:], "transfer_set.generator=x"])


def test_faults_of_arms_are_told_once(tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "bad": ["method=afft"], "worse": ["method=afft", "train.lrr=1"]}
    ran = run(*compare_words(tmp_path, "finetune.step=3", arms=arms))
    assert ran.code == 2 and not (tmp_path / "comparison").exists()
    lines = [line.removeprefix("genkt compare: ") for line in ran.lines]
    assert any(line.startswith("finetune.step: unknown setting. Did you mean") for line in lines)
    assert any(line.startswith("arm bad, worse: method=afft: expected one of") for line in lines)
    assert "arm worse: train.lrr: unknown setting. Did you mean train.lr?" in lines
    assert len(lines) == 3


@pytest.mark.parametrize(
    "word",
    ["seed=1", "draws=3", "data.validation_fraction=0.2", "validation=cross", "folds=3"],
)
def test_arms_of_other_label_draws_or_other_judges_are_refused(word: str, tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "other": ["transfer_set=unlabelled", word]}
    words = [each for each in compare_words(tmp_path, arms=arms) if each != "draws=2"]
    ran = run(*words)
    assert ran.code == 2 and len(ran.lines) == 1
    assert f"arm other: {word}, the baseline stl has" in ran.lines[0]


def test_equal_arms_are_refused_and_equal_points_are_trained_once(tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "again": ["transfer_set=unlabelled"]}
    ran = run(*compare_words(tmp_path, arms=arms))
    assert ran.lines == [
        "genkt compare: study.arms: real and again have the same settings: drop one"
    ]
    sweep = {"name": "Real", "setting": "transfer_set.max_images", "values": [4, 2],
             "words": ["transfer_set=unlabelled"]}  # fmt: skip
    arms = {**STUDY["arms"], "real": ["transfer_set=unlabelled", "transfer_set.max_images=4"]}
    found = read_comparison(compare_words(tmp_path, arms=arms, sweeps=[sweep])[1:])
    plan = make_plan(found.config.study, found.arms, tmp_path / "out")
    assert [task.name for task in plan.tasks] == ["stl", "real", "Real-2"]
    (line,) = plan.sweeps
    assert (line.values, line.arms) == ([2, 4], ["Real-2", "real"])


def test_a_dry_run_lists_the_arms_and_writes_nothing(tmp_path: Path) -> None:
    words = compare_words(tmp_path, "dry_run=true")
    before = tree(tmp_path)
    ran = run(*words)
    assert ran.code == 0 and "2 arms x 2 draws = 4 students" in ran.out
    assert "0 of 2" in ran.out and "transfer_set=unlabelled" in ran.out
    assert tree(tmp_path) == before


def test_sets_that_are_not_there_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "real": ["transfer_set=mix", "transfer_set.parts=[made,unlabeled]"]}
    ran = run(*compare_words(tmp_path, arms=arms))
    assert ran.code == 2 and not (tmp_path / "out").exists()
    assert "arm real: transfer_set.parts: no such folder: made\n" in ran.err
    assert "no such folder: unlabeled. Did you mean unlabelled?" in ran.err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    words = compare_words(tmp_path)
    ran = run(*words, f"out={tmp_path / 'images'}")
    assert ran.code == 2 and "holds no comparison" in ran.err
    (tmp_path / "file").touch()
    ran = run(*words, f"out={tmp_path / 'file'}")
    assert ran.code == 2 and "expected a folder, got a file" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method=logit_kd", "method.kl_weight=0.5"], "method.kl_weight=0.5 reads labelled rows"),
        (["method=aft", "method.beta=1", "method.kernel_rows=labelled"],
         "method.kernel_rows=labelled reads labelled rows"),
    ],
)  # fmt: skip
def test_methods_that_need_labels_say_so(words: list[str], told: str, tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "real": ["transfer_set=unlabelled", *words]}
    ran = run(*compare_words(tmp_path, arms=arms))
    assert ran.code == 2 and f"arm real: train.labelled_per_batch: {told}" in ran.err
