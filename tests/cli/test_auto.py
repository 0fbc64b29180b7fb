"""``method=auto``: what is chosen for which facts, what the user hears, who has the last word."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from tiny import run, transfer_words
from training_cases import tiny_resnet

from genkt.api.objects import given_settings
from genkt.cli.auto import decided
from genkt.config import evidence
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.models.backbone import Backbone
from genkt.transfers import auto_method
from genkt.transfers.auto_method import DataFacts, choose, facts_of

ROOT = Path(__file__).parents[2]


PLAIN = DataFacts(
    labels_per_class=2,
    num_unlabelled=0,
    student_pretrained=False,
    student_knows=False,
    teachers_know=False,
    built_in=False,
)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "method=stl"),
        ({"student_pretrained": True}, "method=aft"),
        ({"built_in": True}, "transfer_set=digg"),
        ({"num_unlabelled": 9}, "transfer_set=unlabelled"),
        ({"num_unlabelled": 9, "built_in": True}, "transfer_set=unlabelled"),
        ({"num_unlabelled": 9, "teachers_know": True}, "teacher.adapt=none"),
        ({"student_knows": True, "teachers_know": True}, "recipe=general_kt"),
    ],
)
def test_every_choice_is_a_valid_run(changes: dict[str, bool | int], word: str) -> None:
    choice = choose(replace(PLAIN, **changes))  # type: ignore[arg-type]
    assert word in choice.words
    assert choice.what and choice.why
    read_config(TransferConfig, "transfer", list(choice.words))


def test_facts_of_the_built_in_digits() -> None:
    config = read_config(TransferConfig, "transfer", [])
    facts = facts_of(config, digits())
    assert facts.labels_per_class == 2 and facts.built_in and facts.num_unlabelled > 500
    assert not (facts.student_pretrained or facts.student_knows or facts.teachers_know)


def knowing(*classes: str) -> Backbone:
    """A student whose own head has these classes."""
    model = tiny_resnet()
    model.model.pretrained_cfg = {"label_names": list(classes)}  # type: ignore[assignment]
    return model


def test_models_given_in_python_are_looked_at() -> None:
    data = digits()
    student, other = knowing(*data.classes), knowing(*reversed(data.classes))

    def facts_with(student: Backbone, *teachers: Backbone) -> DataFacts:
        said = given_settings({"student": student, "teacher": list(teachers)})
        return facts_of(read_config(TransferConfig, "transfer", said), data)

    facts = facts_with(student, student)
    assert facts.student_pretrained and facts.student_knows and facts.teachers_know
    facts = facts_with(other, student, other)
    assert facts.student_pretrained and not facts.student_knows and not facts.teachers_know
    given = given_settings({"data": data, "student": student, "teacher": [student]})
    found = decided([*given, "method=auto"])
    assert found.words[0] == "recipe=general_kt"


def test_more_labels_than_were_measured_are_told() -> None:
    facts = replace(PLAIN, num_unlabelled=9)
    assert "you have" not in choose(facts).why
    assert "2 labels per class, you have 50" in choose(replace(facts, labels_per_class=50)).why


@pytest.mark.parametrize(
    ("changes", "arm"),
    [({"num_unlabelled": 9}, "real_few"), ({"built_in": True}, "digg_few"), ({}, "few")],
)
def test_figures_are_those_of_the_study(changes: dict[str, bool | int], arm: str) -> None:
    choice = choose(replace(PLAIN, **changes))  # type: ignore[arg-type]
    stored = next(each for each in results("transfer_sets")["minus_baseline"] if each["a"] == arm)
    points = [stored["accuracy"][f"{name}_points"] for name in ("mean", "low", "high")]
    mean, low, high = (f"{point:.1f}".replace("-", "\u2212") for point in points)
    figure = f"({'+' * (points[0] > 0)}{mean} points, {low} to {high}"
    doubt = "" if stored["accuracy"]["established"] else ", not established"
    assert f"{figure}{doubt}, on digits with 2 labels" in choice.why


def results(study: str) -> Any:
    """What a study stored."""
    return json.loads((ROOT / "docs" / study / "compare.json").read_text(encoding="utf-8"))


def flat(settings: dict[str, Any], key: str = "") -> dict[str, Any]:
    """Every setting by its full key."""
    found = {}
    for name, value in settings.items():
        inner = isinstance(value, dict)
        found.update(flat(value, f"{key}{name}.") if inner else {f"{key}{name}": value})
    return found


def test_the_arms_quoted_are_the_runs_chosen() -> None:
    """The default run has the settings of the arm that is quoted; the labelled images are mixed in.

    A study has no baseline of its own in each arm, and all of its arms have four stored views.
    """
    apart = {"out", "baseline", "executor.name", "data.views.num_views"}
    for facts, arm in (({"num_unlabelled": 9}, "real_few"), ({"built_in": True}, "digg_few")):
        choice = choose(replace(PLAIN, **facts))  # type: ignore[arg-type]
        config = read_config(TransferConfig, "transfer", list(choice.words))
        (found,) = [each for each in results("transfer_sets")["arms"] if each["arm"] == arm]
        mine = flat(json.loads(json.dumps(asdict(config))))
        stored = {key: value for key, value in flat(found["config"]).items() if key in mine}
        assert {key for key in stored if stored[key] != mine[key]} == apart
        assert mine["train.labelled_per_batch"] > 0 and len(stored) > 60


def test_no_claim_beyond_the_studies() -> None:
    gains = {each["a"]: each["accuracy"] for each in results("transfer_sets")["minus_baseline"]}
    assert max(gains, key=lambda arm: gains[arm]["mean_points"]) == "real_few"
    assert gains["few"]["mean_points"] < 0 < gains["digg_few"]["mean_points"]
    others = results("methods")["minus_reference"]  # minus logit_kd on unlabelled images
    better = [
        each["a"]
        for each in others
        if each["accuracy"]["established"] and each["accuracy"]["mean_points"] > 0
    ]
    assert len(others) > 20 and not better
    surer = choose(replace(PLAIN, student_knows=True, teachers_know=True)).why
    assert "50 % of 30 pairs" in surer and "77 % of 30" in surer


def test_a_gain_that_is_not_established_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    known = evidence.contrast("transfer_sets", "few", "stl")
    monkeypatch.setattr(
        auto_method, "contrast", lambda *_: replace(known, established=not known.established)
    )
    choice = choose(PLAIN)
    assert (", not established, on digits" in choice.why) == known.established


def test_the_users_own_words_have_the_last_say() -> None:
    found = decided(["method=auto", "transfer_set=labelled", "teacher=embedded"])
    assert found.words == ["method=logit_kd", "transfer_set=labelled", "teacher=embedded"]
    assert "unlabelled images" in found.told[0] and found.told[1].startswith("  because")
    assert "transfer_set=unlabelled" in found.told[2]


def test_without_it_nothing_is_looked_at() -> None:
    assert decided(["data=nowhere", "plan=off"]).splits is None


def test_a_sweep_is_refused() -> None:
    with refused("method=auto"):
        decided(["-m", "method=auto"])


def test_a_run(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "method=auto", "train.steps=1", "finetune.steps=1")
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert "method=auto: the teacher's predictions on" in ran.err
    assert run(*words).code == 0  # the same command finds the finished run
