"""Image re-representation fine-tuning: its two stages, its place in a distillation, Table 4."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from tiny import run, transfer_words
from tiny_generator import save_tiny_generator

from genkt.cli.app import read_config
from genkt.config.irf_settings import BASELINE, IRF_SETTINGS, same_training
from genkt.config.recipe_settings import IrfArm
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import RunFolder
from genkt.stages.irf import train_setting
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import RunWithSets


def irf_words(home: Path, *more: str) -> list[str]:
    """Tiny models and a small generator for every ``irf``."""
    generator = home / "generator"
    if not generator.is_dir():
        save_tiny_generator(generator)
    return transfer_words(home, f"irf.generator={generator}", *more)


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def stages_of(folder: Path) -> dict[str, int]:
    """Stage -> steps, as the log of the run has them."""
    steps: dict[str, int] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        name = f"{record['arm']}/{record['stage']}"
        steps[name] = max(steps.get(name, 0), record["step"])
    return steps


def test_the_arms_are_those_of_the_settings() -> None:
    assert set(IRF_SETTINGS) == {BASELINE, *get_args(IrfArm), "irf"}
    twins = {arm: same_training(arm) for arm in IRF_SETTINGS}
    assert {arm for arm, twin in twins.items() if arm != twin} == {"rec_rec_on_rec"}
    assert twins["rec_rec_on_rec"] == "rec_rec"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> RunWithSets:
    home = tmp_path_factory.mktemp("irf run")
    words = irf_words(home, "recipe=irf")[1:]
    config = read_config(TransferConfig, "transfer", words)
    folder = RunFolder(home / "run", asdict(config), overwrite=False)
    return with_sets(open_run(config, folder))


@pytest.mark.parametrize("arm", ["linear_probe", "irf", BASELINE, "mixed_mixed"])
def test_delivering_moves_the_head_alone(arm: str, opened: RunWithSets, tmp_path: Path) -> None:
    draw, setting = opened.pool.draws[0], IRF_SETTINGS[arm]
    assert opened.represented is not None
    model = opened.opened.fresh_student()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    settings = opened.config.train
    costs, curve = train_setting(
        opened.images, opened.represented, draw, model, setting, settings, tmp_path,
        opened.opened.log.stage(0, arm), head_lr=opened.config.irf.head_lr,
    )  # fmt: skip
    assert sum(cost.steps for cost in costs.values()) == settings.steps
    assert curve[-1]["step"] == settings.steps
    moved = {
        name
        for name, value in model.model.state_dict().items()
        if not torch.equal(value, before[name]) and "num_batches" not in name
    }
    heads = {"fc.weight", "fc.bias"}
    assert moved == heads if setting.calibrate is None else heads < moved
    if setting.deliver is not None:
        delivered = load_file(tmp_path / "deliver" / "last.safetensors")
        changed = {name for name in before if not torch.equal(delivered[name], before[name])}
        assert changed == heads


def test_pictures_of_the_reconstructions_are_the_generators(opened: RunWithSets) -> None:
    assert opened.represented is not None
    draw = opened.pool.draws[0]
    twins = opened.represented.draw(draw, "reconstructions")
    generator = opened.opened.generators.load(opened.config.irf.generator)
    originals = [draw.images.load(int(row)) for row in draw.labelled]
    for row, expected in zip(twins.labelled, generator.reconstruct(originals), strict=True):
        pixels = torch.tensor(list(twins.images.load(int(row)).tobytes())).view(16, 16, 3)
        difference = (pixels.permute(2, 0, 1) - expected.int()).abs()
        assert difference.max() <= 1  # decoders round differently for other batch sizes


def test_a_teacher_is_adapted_by_irf(tmp_path: Path) -> None:
    ran = run(*irf_words(tmp_path, "teacher.adapt=irf", "adapt.steps=5"))
    assert ran.code == 0, ran.err
    steps = stages_of(tmp_path / "run")
    assert steps["logit_kd/adapt-teacher0-deliver"] == 2
    assert steps["logit_kd/adapt-teacher0-calibrate"] == 3
    report = report_of(tmp_path / "run")
    assert list(report["stages"]) == ["re-represent", "teachers", "distil", "finetune"]
    assert any("re-represented" in note for note in report["notes"])
    assert not list((tmp_path / "run").rglob("state.pt"))


def test_digg_then_irf(tmp_path: Path) -> None:
    generator = save_tiny_generator(tmp_path / "generator")
    more = ["transfer_set=digg", f"transfer_set.generator={generator}"]
    more += ["transfer_set.num_images=8", "finetune.recipe=irf", "finetune.steps=3"]
    ran = run(*irf_words(tmp_path, *more))
    assert ran.code == 0, ran.err
    report = report_of(tmp_path / "run")
    stages = {name: cost["steps"] for name, cost in report["stages"].items()}
    assert stages == {
        "synthesize": 0, "re-represent": 0, "teachers": 0, "distil": 4, "deliver": 1,
        "calibrate": 2,
    }  # fmt: skip
    assert {arm["arm"]: arm["cost"]["steps"] for arm in report["arms"]} == {
        "stl": 7, "logit_kd": 7, "teacher0": 0,
    }  # fmt: skip
    exported = load_file(tmp_path / "run" / "checkpoints" / "last.safetensors")
    student = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert all(torch.equal(exported[name], student[name]) for name in student)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of every arm; only read."""
    home = tmp_path_factory.mktemp("table 4")
    more = ["recipe=irf", "recipe.steps=6", "recipe.batch_size=4", "draws=2"]
    words = irf_words(home, *more)
    ran = run(*words, f"recipe.upstream={home / 'images'}")
    assert ran.code == 0, ran.err
    return home


def test_every_arm_takes_the_same_steps(table: Path) -> None:
    report = report_of(table / "run")
    assert [arm["arm"] for arm in report["arms"]] == [
        "stl", "linear_probe", "lp_ft", "rec_rec", "rec_rec_on_rec", "mixed", "mixed_mixed", "irf",
    ]  # fmt: skip
    for arm in report["arms"]:
        assert arm["cost"]["steps"] == 12  # (d) is the student of (c), so its cost is (c)'s
    steps = stages_of(table / "run")
    for arm, setting in IRF_SETTINGS.items():
        both = setting.deliver is not None and setting.calibrate is not None
        for stage in ("deliver", "calibrate"):
            if arm != "rec_rec_on_rec" and getattr(setting, stage) is not None:
                assert steps[f"{arm}/{stage}"] == (3 if both else 6)


def test_setting_d_is_the_student_of_setting_c(table: Path) -> None:
    for draw in ("0", "1"):
        home = table / "run" / "draws" / draw
        trained, tested = home / "rec_rec", home / "rec_rec_on_rec"
        name = "student.safetensors"
        assert (trained / name).read_bytes() == (tested / name).read_bytes()
        name = "probabilities.npy"
        assert (trained / name).read_bytes() != (tested / name).read_bytes()


def test_the_report_compares_irf_with_every_arm(table: Path) -> None:
    report = report_of(table / "run")
    assert report["method"] == "irf" and report["baseline"] == "stl"
    others = [arm["arm"] for arm in report["arms"] if arm["arm"] != "irf"]
    assert list(report["method_minus_arms"]) == others
    accuracy = {arm["arm"]: arm["accuracy"]["mean_percent"] for arm in report["arms"]}
    for arm, found in report["method_minus_arms"].items():
        assert found["mean_points"] == pytest.approx(accuracy["irf"] - accuracy[arm])
    page = (table / "run" / "report.html").read_text(encoding="utf-8")
    assert "IRF against every other arm" in page and "(d) (c) on rec" in page
    assert report["headline"].startswith("Model transferred by IRF")
    assert report["transfer_set"]["composition"] == {"real, labelled": 6, "re-represented (IRF)": 6}
    sources = [sample["source"] for sample in report["transfer_set"]["samples"]]
    assert sources == ["real", "re-represented"] * 6


def test_the_distance_from_upstream(table: Path) -> None:
    found = report_of(table / "run")["distance"]
    assert found["num_images"] == 21 and found["upstream"] == str(table / "images")
    assert 0 <= found["before"] < found["after"]  # upstream are the very same pictures
    page = (table / "run" / "report.html").read_text(encoding="utf-8")
    assert "Frechet distance of 21 downstream images" in page


def test_without_upstream_images_there_is_no_distance(table: Path, tmp_path: Path) -> None:
    more = ["recipe=irf", "recipe.steps=2", "recipe.batch_size=4", "recipe.arms=[]"]
    words = irf_words(table, *more, f"out={tmp_path / 'run'}")
    ran = run(*words, "recipe.upstream=/no/such/folder")
    assert ran.code == 2 and "recipe.upstream: no such folder" in ran.err
    ran = run(*words, "baseline=false")
    assert ran.code == 0, ran.err
    report = report_of(tmp_path / "run")
    assert report["distance"] is None
    assert any("no Frechet distance" in note for note in report["notes"])
    assert [arm["arm"] for arm in report["arms"]] == ["irf"]
    assert not (tmp_path / "run" / "transfer_sets" / "irf_test").exists()


def test_the_model_is_the_shipped_one_unless_named() -> None:
    def student(*words: str) -> str:
        return read_config(TransferConfig, "transfer", list(words)).student.model

    assert student("recipe=irf") == "genkt:digits_teacher"
    assert student("recipe=irf", "student=resnet18") == "resnet18"
    assert student() == "resnet18"  # the embedded student


def test_a_dry_run_of_the_table(table: Path, tmp_path: Path) -> None:
    more = ["recipe=irf", "recipe.steps=9", "dry_run=true", f"out={tmp_path / 'run'}"]
    ran = run(*irf_words(table, *more))
    assert ran.code == 0, ran.err
    assert "1 draw x 8 arms, 9 steps each" in ran.out and "teachers   none" in ran.out
