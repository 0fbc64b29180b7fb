"""Pretraining on another labelled set: which images, what moves, what is told, going on."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import torch
from refusals import refused
from safetensors.torch import load_file
from stage_cases import run_and_interrupt
from test_recipes import cell_of
from tiny import Ran, picture, run, transfer_words, tree, write_images

from genkt.stages.pretrain_backbone import source_images

KEY = "recipe.stages.pretrain"
SHORT = ["recipe=supervised_pretrain", f"{KEY}.steps=3", f"{KEY}.num_images=60"]
SHORT += ["recipe.stages.finetune.steps=2", "baseline=false"]


def source_words(home: Path) -> list[str]:
    """Pretraining on a folder of five classes, other images than the data's."""
    source = home / "source"
    if not source.is_dir():
        for label, name in enumerate("abcde"):
            (source / name).mkdir(parents=True)
            for number in range(4):
                picture(label, 50 + number).save(source / name / f"{number}.png")
    return [*SHORT, f"{KEY}.source={source}"]


def trained(home: Path, *more: str) -> Ran:
    ran = run(*transfer_words(home, *more))
    assert ran.code == 0, ran.err
    return ran


def weights(home: Path, stage: str = "pretrain") -> dict[str, torch.Tensor]:
    folder = home / "run" / "draws" / "0" / "supervised_pretrain"
    return load_file(folder / stage / "last.safetensors")


def test_the_backbone_learns_and_the_classifier_is_new(tmp_path: Path) -> None:
    words = source_words(tmp_path)
    trained(tmp_path, *words, "baseline=true")
    other = [*words, f"{KEY}.steps=1", f"out={tmp_path / 'other' / 'run'}"]
    trained(tmp_path, *other)
    first, second = weights(tmp_path), weights(tmp_path / "other")
    assert first["fc.weight"].shape == (3, 16)  # the task's, not the source's
    assert torch.equal(first["fc.weight"], second["fc.weight"])
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    assert not torch.equal(first["fc.weight"], weights(tmp_path, "finetune")["fc.weight"])
    cell = cell_of(tmp_path, "supervised_pretrain")
    assert {name: cost["steps"] for name, cost in cell["stages"].items()} == {
        "pretrain": 3, "finetune": 2,
    }  # fmt: skip
    baseline = cell_of(tmp_path, "stl")["result"]
    assert baseline["cost"]["steps"] == 5
    assert cell["result"]["extras"]["first_weights"] == baseline["extras"]["first_weights"]
    assert "accuracy.pretrain" not in cell["result"]["extras"]


def test_it_learns_the_classes_of_the_source(tmp_path: Path) -> None:
    trained(tmp_path, *source_words(tmp_path), f"{KEY}.steps=60", f"{KEY}.lr=0.02")
    curve = cell_of(tmp_path, "supervised_pretrain")["result"]["curve"]
    losses = [r["cross_entropy"] for r in curve if r["stage"] == "pretrain"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_interrupted_in_the_middle_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = [*source_words(tmp_path), f"{KEY}.steps=24", "train.save_seconds=0"]
    cut = transfer_words(tmp_path, *words)
    ran = run_and_interrupt(cut, "pretrain", 4)
    assert ran.code == 130
    home = tmp_path / "run" / "draws" / "0" / "supervised_pretrain"
    state = torch.load(home / "pretrain" / "state.pt", weights_only=True)
    assert 0 < state["progress"]["step"] < 24
    assert state["distiller"]["objective.weight"].shape == (5, 16)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    picture(0, 99).save(tmp_path / "source" / "a" / "new.png")
    ran = run(*cut, f"out={tmp_path / 'copy'}")
    assert ran.code == 2 and "belongs to a run with other settings, data" in ran.err
    (tmp_path / "source" / "a" / "new.png").unlink()
    assert run(*cut).code == 0
    trained(tmp_path, *words, f"out={tmp_path / 'through'}")
    one, other = tree(tmp_path / "run"), tree(tmp_path / "through")
    same = [path for path in one if re.search(r"(safetensors|metrics\.jsonl)$", path)]
    assert len(same) >= 5 and all(one[path] == other[path] for path in same)


def test_glyphs_are_drawn_once_for_all_draws(tmp_path: Path) -> None:
    trained(tmp_path, *SHORT, "draws=2")
    images = source_images("glyphs", 60, 0)
    assert source_images("glyphs", 60, 0) is images
    assert len(images) == 60 and len(images.classes) == 47 and images.num_labelled == 60
    assert images.load(0).size == (32, 32)
    heads = [
        load_file(tmp_path / f"run/draws/{draw}/supervised_pretrain/pretrain/last.safetensors")
        for draw in (0, 1)
    ]
    assert not torch.equal(heads[0]["fc.weight"], heads[1]["fc.weight"])


def test_some_images_of_a_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "many")
    everything = source_images(str(tmp_path / "many"), 100, 0)
    assert len(everything) == 30 and everything.classes == ("cat", "dog", "elk")
    some = source_images(str(tmp_path / "many"), 12, 0)
    assert len(some) == 12 and set(some.ids) < set(everything.ids)
    assert set(source_images(str(tmp_path / "many"), 12, 1).ids) != set(some.ids)


def test_another_place_of_labelled_images() -> None:
    images = source_images("torchvision:fake::train", 50, 0)
    assert len(images) == 50 and len(images.classes) == 10 and (images.labels >= 0).all()


def test_test_images_in_the_source_are_told(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, *SHORT)
    shutil.copytree(tmp_path / "images", tmp_path / "source")
    ran = run(*words, f"{KEY}.source={tmp_path / 'source'}")
    assert ran.code == 0, ran.err
    assert "pretrain: 6 test images are also in" in ran.err
    clean = trained(tmp_path / "b", *source_words(tmp_path / "b"))
    assert "test images are also" not in clean.err


def test_sources_that_teach_nothing_are_refused_before_training(tmp_path: Path) -> None:
    write_images(tmp_path / "one", ("only",), 4)
    ran = run(
        *transfer_words(tmp_path, *SHORT, f"{KEY}.source={tmp_path / 'one'}", "baseline=true")
    )
    assert ran.code == 2 and "at least two" in ran.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    with tarfile.open(tmp_path / "bare.tar", "w") as tar:
        tar.add(next((tmp_path / "one").rglob("*.png")), "bare.png")
    with refused("bare.tar", 2):
        source_images(str(tmp_path / "bare.tar"), 10, 0)
    with refused("nowhere"):
        source_images(str(tmp_path / "nowhere"), 10, 0)
