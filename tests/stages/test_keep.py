"""A run never hands over the worse of its students."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import run, student_bits, transfer_words, tree

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.files import read_tensors
from genkt.io import resource
from genkt.metrics.choices import chosen
from genkt.runs.pool import build_pool
from genkt.stages import cross_validation
from genkt.stages.arms import StagedArm
from genkt.stages.build_stages import StageBuilder
from genkt.stages.keep import Keeper
from genkt.stages.recipe_plan import StagedPlan, plan_of
from genkt.stages.student_training import StudentTraining
from genkt.transfers.unused import unused

SPLITS = digits()
RECIPES = sorted(path.stem for path in (resource("configs") / "recipe").iterdir())

HARM = ("finetune.lr=1.0", "train.clip_grad=null", "train.optimizer=sgd", "train.lr=0.05")
SETTINGS = ("train.steps=30", "finetune.steps=8", "data.labels_per_class=3", *HARM)
IMAGES = ("data.validation_fraction=0.4",)
FOLDS = ("validation=cross", "folds=2", "data.validation_fraction=0")


def words(home: Path, *more: str) -> list[str]:
    return transfer_words(home, *SETTINGS, *more)


def cells(home: Path, arm: str) -> list[dict[str, Any]]:
    report = json.loads((home / "run" / "report.json").read_text(encoding="utf-8"))
    return [cell for cell in report["cells"] if cell["arm"] == arm]


def same(one: Path, other: Path) -> bool:
    first, second = read_tensors(one), read_tensors(other)
    return all(bool((first[name] == second[name]).all()) for name in first)


def test_a_last_stage_that_does_harm_is_taken_back(tmp_path: Path) -> None:
    ran = run(*words(tmp_path, *IMAGES))
    assert ran.code == 0, ran.err
    (cell,) = cells(tmp_path, "logit_kd")
    extras, out = cell["extras"], tmp_path / "run"
    assert extras["kept"] == "earlier"
    assert extras["validation.earlier"] > extras["validation.later"]
    assert cell["accuracy"] == cell["accuracy_distilled"] == extras["accuracy.distil"]
    assert "accuracy.finetune" in extras and cell["cost"]["steps"] == 38  # it was paid for
    distilled = out / "draws" / "0" / "logit_kd" / "distil" / "last.safetensors"
    for path in ("checkpoints/last.safetensors", "student/model.safetensors"):
        assert same(distilled, out / path)
    sentence = "kept the distilled one"
    assert sentence in ran.out and sentence in (out / "report.html").read_text()
    assert sentence in (out / "student" / "README.md").read_text()
    (plain,) = cells(tmp_path, "stl")
    for arm, before, after in (
        ("Logit KD", extras["accuracy.distil"], extras["accuracy.finetune"]),
        ("Plain fine-tuning", plain["extras"]["test.earlier"], plain["extras"]["test.later"]),
    ):
        both = f"{100 * before:.1f} → {100 * after:.1f}"
        (row,) = (line for line in ran.out.splitlines() if line.startswith(f"{arm}  "))
        assert row.endswith(f"  {both}")
        assert both in (out / "report.html").read_text(encoding="utf-8")
    assert plain["accuracy"] in (plain["extras"]["test.earlier"], plain["extras"]["test.later"])
    assert plain["accuracy_distilled"] is None
    again = run(*words(tmp_path, *IMAGES))  # read back
    assert again.out == ran.out


def test_a_stage_taken_back_leaves_the_best_weights_of_the_one_before(tmp_path: Path) -> None:
    assert run(*words(tmp_path, *IMAGES, "train.select=best", "train.eval_every=5")).code == 0
    assert cells(tmp_path, "logit_kd")[0]["extras"]["kept"] == "earlier"
    out = tmp_path / "run"
    best = out / "draws" / "0" / "logit_kd" / "distil" / "best.safetensors"
    for path in ("checkpoints/best.safetensors", "student/model.safetensors"):
        assert same(best, out / path)


@pytest.mark.parametrize("more", [(), ("finetune.steps=0",), ("train.steps=0",)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_settings_know_whether_there_is_a_stage_to_take_back(
    recipe: str, more: tuple[str, ...]
) -> None:
    """Where there is none, no validation label is counted, and the setting is told as not used."""
    given = ["device=cpu", "draws=1", f"recipe={recipe}", "transfer_set=unlabelled", *more]
    config = read_config(TransferConfig, "transfer", given)
    plan = plan_of(StageBuilder(config, SPLITS, config.data.views, 1))
    draw = build_pool(config, SPLITS).draws[0]
    there = isinstance(plan, StagedPlan) and plan.staged.images_before_last(draw) > 0
    there = there and not config.head_untaught
    assert config.ends_on_labels == config.keeps_better == there
    assert bool(unused(config, ["finetune.keep"])) is not there


def test_what_was_kept_is_called_by_its_stage(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *IMAGES, "recipe=lp_ft"))
    assert "after linear_probe" in ran.out and "distilled" not in ran.out.split("Kept:")[-1]


def test_always_keeps_it_and_never_leaves_it_out(tmp_path: Path) -> None:
    assert run(*words(tmp_path, *IMAGES, "finetune.keep=always")).code == 0
    (cell,), last = cells(tmp_path, "logit_kd"), tmp_path / "run/checkpoints/last.safetensors"
    assert "kept" not in cell["extras"] and cell["accuracy"] != cell["accuracy_distilled"]
    assert same(tmp_path / "run/draws/0/logit_kd/finetune/last.safetensors", last)
    harmed = read_tensors(tmp_path / "run/draws/0/logit_kd/distil/last.safetensors")
    never = words(tmp_path, *IMAGES, "finetune.keep=never", "overwrite=true")
    assert run(*never).code == 0
    for arm in ("stl", "logit_kd"):
        assert cells(tmp_path, arm)[0]["cost"]["steps"] == 30
    assert all(bool((harmed[name] == value).all()) for name, value in read_tensors(last).items())


def test_the_baseline_has_the_same_choice(tmp_path: Path) -> None:
    """Its earlier student is the one at the step where the method's last stage begins."""
    assert run(*words(tmp_path, *IMAGES, "finetune.keep=better")).code == 0
    (cell,) = cells(tmp_path, "stl")
    assert {"kept", "validation.earlier", "validation.later"} <= cell["extras"].keys()
    assert cell["cost"]["steps"] == 38
    assert (tmp_path / "run" / "draws/0/stl/finetune/snapshot.safetensors").is_file()


@pytest.mark.parametrize("arm", ["stl", "logit_kd"])
@pytest.mark.parametrize("scores", [([0, 0, 0, 1], [1, 1, 1, 1]), ([0, 1, 1, 1], [1, 1, 1, 1])])
def test_the_rule_is_the_same_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str, scores: tuple[list[int], ...]
) -> None:
    """What is kept follows from the scores alone: the later student unless clearly worse."""
    seen: list[Sequence[Any]] = []

    def given(found: Sequence[Any], default: int) -> int:
        seen.append(found)
        return chosen(scores, default)

    monkeypatch.setattr(cross_validation, "chosen", given)
    assert run(*words(tmp_path, *IMAGES)).code == 0
    kept = "earlier" if scores[0][1] == 0 else "later"
    assert cells(tmp_path, arm)[0]["extras"]["kept"] == kept
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    parts = {part["name"]: part["num_samples"] for part in report["splits"]}
    assert parts["validation"] != parts["test"]  # so these are no scores of test images
    assert len(seen) == 2
    assert {len(each) for found in seen for each in found} == {parts["validation"]}


def test_stopped_among_the_folds_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    both, number = StagedArm._both, 0

    def stop_at_the_second(arm: StagedArm, own: StudentTraining) -> Any:
        nonlocal number
        number += 1
        if number == 2:
            raise Stopped
        return both(arm, own)

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert run(*words(whole, *FOLDS)).code == 0
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(StagedArm, "_both", stop_at_the_second)
        run(*words(parted, *FOLDS))
    assert run(*words(parted, *FOLDS)).code == 0
    assert student_bits(whole) == student_bits(parted)
    for one, other in zip(cells(whole, "logit_kd"), cells(parted, "logit_kd"), strict=True):
        assert one["extras"] == other["extras"] and one["cost"]["steps"] == other["cost"]["steps"]


def test_the_only_stage_that_teaches_the_head_is_never_left_out(tmp_path: Path) -> None:
    """Features alone teach no classifier: without fine-tuning the student could not answer."""
    given = words(tmp_path, *IMAGES, "method=l2_feature", "finetune.keep=never")
    ran = run(*given)
    assert ran.code == 0, ran.err
    (cell,) = cells(tmp_path, "l2_feature")
    assert cell["cost"]["steps"] == 38 and "kept" not in cell["extras"]
    config = read_config(TransferConfig, "transfer", given[1:])
    assert any("finetune.keep" in line for line in unused(config, ["finetune.keep"]))


def test_stopped_before_the_choice_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    def stop(*given: object) -> None:
        raise Stopped

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert run(*words(whole, *IMAGES)).code == 0
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(Keeper, "kept", stop)
            run(*words(parted, *IMAGES))
    assert run(*words(parted, *IMAGES)).code == 0
    for path in ("student/model.safetensors", "draws/0/stl/student.safetensors"):
        assert tree(whole / "run")[path] == tree(parted / "run")[path]


def test_folds_of_the_labels_judge_it_and_a_draws_students_share_the_choice(tmp_path: Path) -> None:
    assert run(*words(tmp_path, *FOLDS, "seeds_per_draw=2")).code == 0
    first, second = cells(tmp_path, "logit_kd")
    assert first["extras"]["kept"] == second["extras"]["kept"]
    assert first["extras"]["validation.later"] == second["extras"]["validation.later"]
    budget = json.loads((tmp_path / "run" / "report.json").read_text())["arms"]
    for found in [arm["budget"] for arm in budget if arm["budget"]]:
        assert found["steps"] == 2 * 38 + 2 * 38  # two students, two folds
        assert found["validation_labels"] == 0


def test_without_images_to_judge_by_it_stays_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(*words(tmp_path, "validation=none")).code == 0
    assert "kept" not in cells(tmp_path, "logit_kd")[0]["extras"]
    assert caplog.text.count("finetune.keep=better: ") == 1
