"""Recipes as lists of stages: every shipped one runs; order, settings and faults are the user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file
from test_irf import irf_words, stages_of
from tiny import ARGS, TRANSFORM, Ran, run, transfer_words

from genkt.config.read_config import read_config
from genkt.config.recipe_settings import StagedRecipe
from genkt.config.stage_settings import FinetuneStage
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_images import RunImages
from genkt.settings.words import Words
from genkt.training.soup import average_weights
from genkt.transfers.open_run import open_run

STAGED = sorted(set(Words().choices("recipe")) - {"irf"})
TWO_TEACHERS = [
    "teacher=[resnet18,resnet34]",
    "teacher.pretrained=false",
    f"teacher.args={ARGS}",
    f"teacher.transform={TRANSFORM}",
]


def cell_of(home: Path, arm: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (home / "run" / "draws" / "0" / arm / "result.json").read_text()
    )
    return found


def mine(home: Path, stages: str, *more: str) -> Ran:
    """A recipe of the user's own, in the user's own folder of YAML files."""
    (home / "conf" / "recipe").mkdir(parents=True, exist_ok=True)
    (home / "conf" / "recipe" / "mine.yaml").write_text(f"name: mine\nstages:\n{stages}")
    words = transfer_words(home, "recipe=mine", *more)
    return run(*words, "--config-dir", str(home / "conf"))


@pytest.mark.parametrize("name", STAGED)
def test_every_recipe_runs(name: str, tmp_path: Path) -> None:
    words = irf_words(tmp_path, f"recipe={name}", "train.steps=2", "finetune.steps=1")
    words += ["transfer_set=unlabelled", "data.validation_fraction=0.2"]
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()
    arm = "logit_kd" if name == "distil" else name
    assert cell_of(tmp_path, arm)["result"]["arm"] == arm


@pytest.mark.parametrize("name", STAGED)
def test_every_recipe_can_be_estimated(name: str, tmp_path: Path) -> None:
    words = ["transfer_set=unlabelled", "data.validation_fraction=0.2", "dry_run=true"]
    ran = run(*irf_words(tmp_path, f"recipe={name}", *words))
    assert ran.code == 0, ran.err
    assert "dry run: everything fits; nothing was written" in ran.out
    assert not (tmp_path / "run").exists()


def test_stages_run_in_the_order_of_the_file_and_report(tmp_path: Path) -> None:
    stages = (
        "  first: {do: finetune, steps: 2}\n"
        "  teach: {do: distil, steps: 3, lr: 0.001}\n"
        "  head: {do: linear_probe, steps: 1}\n"
        "  last: {do: finetune, steps: 4, batch_size: 6}\n"
    )
    ran = mine(tmp_path, stages)
    assert ran.code == 0, ran.err
    cell = cell_of(tmp_path, "mine")
    steps = {name: cost["steps"] for name, cost in cell["stages"].items() if cost["steps"]}
    assert list(steps.items()) == [("first", 2), ("teach", 3), ("head", 1), ("last", 4)]
    assert stages_of(tmp_path / "run")["mine/last"] == 4
    extras = cell["result"]["extras"]
    assert {"accuracy.first", "accuracy.teach", "accuracy.head"} <= set(extras)
    assert cell["result"]["accuracy_distilled"] == extras["accuracy.head"]
    assert [r["step"] for r in cell["result"]["curve"] if "lr" in r] == list(range(1, 11))
    # 6 steps of 12 images and 4 of 6 are 8 steps of 12 for the baseline
    assert cell_of(tmp_path, "stl")["result"]["cost"]["steps"] == 8


def records_of(home: Path, stage: str) -> list[dict[str, Any]]:
    lines = (home / "run" / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["stage"] == stage]


def test_a_stage_is_validated_whatever_it_is_called(tmp_path: Path) -> None:
    words = ["train.select=best", "train.eval_every=1", "train.lr=0.05"]
    words += ["data.validation_fraction=0.3", "teacher.adapt=fine_tune", "baseline=false"]
    ran = mine(tmp_path, "  adapt_x: {do: distil, steps: 6}\n", *words)
    assert ran.code == 0, ran.err
    measured = [r for r in records_of(tmp_path, "adapt_x") if "validation_accuracy" in r]
    assert [record["step"] for record in measured] == [1, 2, 3, 4, 5, 6]
    best = load_file(tmp_path / "run" / "checkpoints" / "best.safetensors")
    last = load_file(tmp_path / "run" / "checkpoints" / "last.safetensors")
    student = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in student.items())
    accuracies = [record["validation_accuracy"] for record in measured]
    if accuracies[-1] < max(accuracies):
        assert any(not torch.equal(value, last[name]) for name, value in student.items())
    teacher = records_of(tmp_path, "adapt-teacher0")
    assert teacher and not any("validation_accuracy" in record for record in teacher)


def test_no_file_of_a_stage_goes_for_its_name(tmp_path: Path) -> None:
    ran = mine(tmp_path, "  search-x: {do: finetune, steps: 1}\n", "baseline=false")
    assert ran.code == 0, ran.err
    cell = tmp_path / "run" / "draws" / "0" / "mine"
    assert (cell / "search-x" / "last.safetensors").is_file()
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").is_file()


@pytest.mark.parametrize("name", ["teachers", "search", "retrieve", "adapt-teacher0"])
def test_a_stage_may_not_be_called_as_what_the_run_has(name: str) -> None:
    with refused(name, key="stages"):
        StagedRecipe("mine", {name: FinetuneStage(do="finetune")})
    StagedRecipe("mine", {f"{name}x-": FinetuneStage(do="finetune")})


@pytest.mark.parametrize("name", ["cache", "teacher0"])
def test_a_recipe_may_not_be_called_as_a_folder_of_the_run(name: str) -> None:
    stages: dict[str, Any] = {"a": FinetuneStage(do="finetune")}
    with refused(name, key="name"):
        StagedRecipe(name, stages)
    StagedRecipe(f"my_{name}", stages)


def test_settings_of_a_stage_from_the_command_line(tmp_path: Path) -> None:
    words = transfer_words(
        tmp_path, "recipe.stages.distil.steps=1", "recipe.stages.finetune.lr=0.1"
    )
    assert run(*words).code == 0
    assert cell_of(tmp_path, "logit_kd")["stages"]["distil"]["steps"] == 1


def test_a_stage_of_no_steps_is_left_out(tmp_path: Path) -> None:
    assert run(*transfer_words(tmp_path, "finetune.steps=0")).code == 0
    cell = cell_of(tmp_path, "logit_kd")
    assert "finetune" not in cell["stages"] and cell["result"]["accuracy_distilled"] is None


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("recipe.stages.distil.step=1", "recipe.stages.distil.step: unknown setting. Did you mean"),
        ("recipe.stages.distil.do=distill", "recipe.stages.distil: expected do: one of distil, "),
        ("recipe.stages.finetune.lr=-1", "recipe.stages.finetune.lr: expected a number above 0"),
        (
            "recipe.stages.distil.teachers=[3]",
            "recipe.stages.distil.teachers: expected numbers of the 1 teachers, counted from 0, "
            "got 3",
        ),
        ("recipe.name=stl", "recipe.name: stl is the baseline's"),
        ("~recipe.stages.distil", ""),
    ],
)
def test_faults(word: str, fault: str, tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, word))
    assert (ran.code == 2) == bool(fault), ran.err
    assert fault in ran.err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ["recipe=task_agnostic", "method=cd"],
            "recipe.stages.distil.labelled_per_batch: method.cd_weight=0.5 reads labelled rows",
        ),
        (
            ["method=cd", "train.labelled_per_batch=0"],
            "train.labelled_per_batch: method.cd_weight=0.5 reads labelled rows",
        ),
        (
            ["recipe.stages.distil.batch_size=3"],
            "train.labelled_per_batch: expected less than recipe.stages.distil.batch_size (3), "
            "got 4",
        ),
        (
            ["recipe=pseudo_label", "train.batch_size=4"],
            "train.labelled_per_batch: expected less than train.batch_size (4), got 4",
        ),
        (
            ["method=aft", "method.beta=1", "recipe.stages.distil.batch_size=2",
             "recipe.stages.distil.labelled_per_batch=1"],
            "recipe.stages.distil.batch_size: method aft needs at least 3 rows, got 2",
        ),
        (["method=mcl", "train.ema=0.9"], "train.ema: method mcl averages the weights by its own"),
        (
            ["recipe=general_kt", "method=stl"],
            "recipe.stages.transfer: method stl reads no teacher, so there is none to learn from",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_in_a_stage(words: list[str], fault: str, tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *words))
    assert ran.code == 2 and fault in ran.err, ran.err
    assert not (tmp_path / "run").exists()


def test_a_method_that_reads_labels_runs_on_labelled_images_alone(tmp_path: Path) -> None:
    words = ["method=cd", "recipe.stages.distil.images=labelled", "baseline=false"]
    assert run(*transfer_words(tmp_path, *words, "train.labelled_per_batch=0")).code == 0


def test_the_notes_say_what_a_step_of_each_stage_sees(tmp_path: Path) -> None:
    stages = "  a: {do: distil, labelled_per_batch: 1}\n  b: {do: distil, images: labelled}\n"
    assert mine(tmp_path, stages).code == 0
    notes = json.loads((tmp_path / "run" / "report.json").read_text())["notes"]
    assert "A step of a sees 1 labelled and 11 transfer images." in notes
    assert not any(note.startswith("A step of b") for note in notes)
    (baseline,) = [note for note in notes if note.startswith("The baseline takes steps of 12")]
    assert baseline.endswith("(see Cost).")
    assert run(*transfer_words(tmp_path, "recipe=lp_ft", f"out={tmp_path / 'other'}")).code == 0
    notes = json.loads((tmp_path / "other" / "report.json").read_text())["notes"]
    assert not any("teachers" in note or "transfer images" in note for note in notes)


def test_every_process_of_a_soup_sees_all_rows(tmp_path: Path) -> None:
    config = read_config(TransferConfig, "transfer", transfer_words(tmp_path)[1:])
    opened = open_run(config, RunFolder(tmp_path / "run", {}, overwrite=False))
    images = RunImages.of(config, opened.pool, opened.fabric)
    second = SimpleNamespace(global_rank=1, world_size=2)
    one_of_two = replace(images, fabric=second)  # type: ignore[arg-type]
    draw = opened.pool.draws[0]

    def rows(images: RunImages, **how: Any) -> list[list[int]]:
        transforms = [opened.fresh_student().transform]
        found = images.batches(draw, config.train, transforms, labelled_only=False, **how)
        rows: list[list[int]] = found.step_rows(0).tolist()
        return rows

    whole = rows(images)
    assert rows(one_of_two, shared=False) == whole
    assert rows(one_of_two) == whole[len(whole) // 2 :]


def test_two_adaptations_are_refused(tmp_path: Path) -> None:
    stages = "  a: {do: adapt}\n  b: {do: adapt, how: none}\n  c: {do: finetune}\n"
    ran = mine(tmp_path, stages)
    assert ran.code == 2 and "expected at most one that adapts, got a, b" in ran.err


def test_teachers_in_turn_and_a_soup(tmp_path: Path) -> None:
    words = [w for w in transfer_words(tmp_path) if not w.startswith("teacher")] + TWO_TEACHERS
    words.append("baseline=false")
    assert run(*words, "recipe.stages.distil.teachers=in_turn").code == 0
    stages = cell_of(tmp_path, "logit_kd")["stages"]
    assert [name for name in stages if "distil" in name] == ["distil-0", "distil-1"]

    words = [word for word in words if not word.startswith("out=")]
    words += ["recipe.stages.distil.do=soup", "finetune.steps=0", f"out={tmp_path / 'soup'}"]
    ran = run(*words)
    assert ran.code == 0, ran.err
    home = tmp_path / "soup" / "draws" / "0" / "logit_kd"
    members = [load_file(home / f"distil-{n}" / "last.safetensors") for n in (0, 1)]
    served = load_file(home / "student.safetensors")
    mean = average_weights(members)
    for name, value in served.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, mean[name]), name
    moved = [not torch.equal(served[n], mean[n]) for n in served if "running_mean" in n]
    assert moved and all(moved)  # estimated anew on the stage's images
    shipped = load_file(tmp_path / "soup" / "checkpoints" / "last.safetensors")
    assert torch.equal(shipped["fc.weight"], served["fc.weight"])


def test_one_of_several_teachers(tmp_path: Path) -> None:
    words = [w for w in transfer_words(tmp_path) if not w.startswith("teacher")] + TWO_TEACHERS
    assert run(*words, "recipe.stages.distil.teachers=[1]", "baseline=false").code == 0


def test_the_better_adaptation_needs_validation_images(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "teacher.adapt=better", "data.validation_fraction=0")
    ran = run(*words)
    assert ran.code == 2 and "teacher.adapt: better compares on validation images" in ran.err


def test_the_better_adaptation_wins_on_validation(tmp_path: Path) -> None:
    """Without a step of fine-tuning a random head must lose against the probe."""
    words = transfer_words(
        tmp_path, "teacher.adapt=better", "adapt.steps=0", "data.validation_fraction=0.3"
    )
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert cell_of(tmp_path, "logit_kd")["result"]["extras"]["teacher_adapted.0"] == "linear_probe"


def test_what_a_recipe_reads() -> None:
    def config(*words: str) -> TransferConfig:
        return read_config(TransferConfig, "transfer", list(words))

    assert config("recipe=lp_ft").read_set.name == "labelled"
    assert config("recipe=lp_ft").needs == frozenset()
    assert config("recipe=ota").adaptation == "irf" and config("recipe=ota").re_represents
    assert config("recipe=task_oriented").adaptation == "better"
    assert config("method=aft").adaptation == "none"
    assert config("recipe=task_agnostic").main_arm == "task_agnostic"
    assert config().main_arm == "logit_kd"


def test_a_named_method_takes_the_place_of_the_recipes() -> None:
    for name, own, other in (
        ("task_agnostic", "contrastive", "cosine_patch"),
        ("ota", "l2_feature", "aft"),
        ("general_kt", "kl_dp", "logit_kd"),
    ):
        words = [f"recipe={name}"]
        found = read_config(TransferConfig, "transfer", words)
        assert [method.name for method in found.methods] == [own]
        found = read_config(TransferConfig, "transfer", [*words, f"method={other}"])
        assert [method.name for method in found.methods] == [other]


def test_a_stage_with_a_method_of_its_own_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(
        "defaults:\n  - _self_\n  - /method@stages.last.method: kl_dp\nname: mine\nstages:\n"
        "  first: {do: finetune}\n  middle: {do: distil}\n  last: {do: distil}\n"
    )
    words = ["recipe=mine", "--config-dir", str(tmp_path)]
    config = read_config(TransferConfig, "transfer", words)
    assert isinstance(config.recipe, StagedRecipe)
    assert list(config.recipe.stages) == ["first", "middle", "last"]
    assert [method.name for method in config.methods] == ["logit_kd", "kl_dp"]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("distil", ["adapt", "distil", "finetune"]),
        ("general_kt", ["adapt", "finetune", "transfer"]),
        ("lp_ft", ["linear_probe", "finetune"]),
        ("ota", ["adapt", "distil", "finetune"]),
        ("pseudo_label", ["finetune", "pseudo_label", "last"]),
        ("ssl", ["ssl", "finetune"]),
        ("supervised_pretrain", ["pretrain", "finetune"]),
        ("task_agnostic", ["adapt", "distil", "finetune"]),
        ("task_oriented", ["adapt", "distil", "finetune"]),
    ],
)
def test_stages_stand_in_the_order_of_their_file(name: str, order: list[str]) -> None:
    recipe = read_config(TransferConfig, "transfer", [f"recipe={name}"]).recipe
    assert isinstance(recipe, StagedRecipe)
    assert list(recipe.stages) == order
