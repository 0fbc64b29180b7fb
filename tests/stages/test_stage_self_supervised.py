"""Training without labels: what moves, what is read, what is told, and going on when killed."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_cases import run_and_interrupt
from test_recipes import cell_of
from tiny import Ran, run, transfer_words, tree
from training_cases import SETTINGS

from genkt.data.images import from_arrays
from genkt.runs.pool import Draw
from genkt.stages.self_supervised_stage import _plan
from genkt.training.batches import TransferPart

KEY = "recipe.stages.ssl"
SHORT = ["recipe=ssl", f"{KEY}.steps=3", "recipe.stages.finetune.steps=2", "baseline=false"]


def trained(home: Path, *more: str) -> Ran:
    ran = run(*transfer_words(home, *SHORT, *more))
    assert ran.code == 0, ran.err
    return ran


def weights(home: Path, stage: str = "ssl") -> dict[str, torch.Tensor]:
    return load_file(home / "run" / "draws" / "0" / "ssl" / stage / "last.safetensors")


def test_the_backbone_moves_and_the_classifier_does_not(tmp_path: Path) -> None:
    trained(tmp_path, "baseline=true")
    other = [*SHORT, f"{KEY}.steps=1", f"out={tmp_path / 'other' / 'run'}"]
    assert run(*transfer_words(tmp_path, *other)).code == 0
    first, second = weights(tmp_path), weights(tmp_path / "other")
    assert torch.equal(first["fc.weight"], second["fc.weight"])
    assert torch.equal(first["fc.bias"], second["fc.bias"])
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    finetuned = weights(tmp_path, "finetune")
    assert not torch.equal(first["fc.weight"], finetuned["fc.weight"])
    cell = cell_of(tmp_path, "ssl")
    assert {name: cost["steps"] for name, cost in cell["stages"].items()} == {
        "ssl": 3, "finetune": 2,
    }  # fmt: skip
    assert cell_of(tmp_path, "stl")["result"]["cost"]["steps"] == 5  # both views count
    # a classifier that has learned nothing yet is not tested
    assert "accuracy.ssl" not in cell["result"]["extras"]
    assert cell["result"]["accuracy_distilled"] is None
    ssl = [record for record in cell["result"]["curve"] if record["stage"] == "ssl"]
    assert len(ssl) == 3 and all("contrast" in record for record in ssl)
    assert not any("validation_accuracy" in record for record in ssl)


def test_no_label_is_read(tmp_path: Path) -> None:
    """Whichever of the images are labelled, the same is learned of all of them."""
    trained(tmp_path)
    trained(tmp_path / "b", f"data.root={tmp_path / 'images'}", "data.labels_per_class=1")
    first, second = weights(tmp_path), weights(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_workers_change_nothing(tmp_path: Path) -> None:
    trained(tmp_path)
    trained(tmp_path / "b", f"data.root={tmp_path / 'images'}", "train.num_workers=1")
    first, second = weights(tmp_path), weights(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_colours_change_something(tmp_path: Path) -> None:
    trained(tmp_path)
    trained(tmp_path / "b", f"data.root={tmp_path / 'images'}", f"{KEY}.color_jitter=0")
    assert not torch.equal(
        weights(tmp_path)["conv1.weight"], weights(tmp_path / "b")["conv1.weight"]
    )


def test_interrupted_in_the_middle_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = [*SHORT, f"{KEY}.steps=24", "train.save_seconds=0", "train.ema=0.9"]
    cut = transfer_words(tmp_path, *words)
    ran = run_and_interrupt(cut, "ssl", 4)
    assert ran.code == 130
    home = tmp_path / "run" / "draws" / "0" / "ssl"
    state = torch.load(home / "ssl" / "state.pt", weights_only=True)
    assert 0 < state["progress"]["step"] < 24
    assert any(name.startswith("objective.") for name in state["distiller"])  # the projection
    assert run(*cut).code == 0
    assert run(*transfer_words(tmp_path, *words, f"out={tmp_path / 'through'}")).code == 0
    one, other = tree(tmp_path / "run"), tree(tmp_path / "through")
    same = [path for path in one if re.search(r"(safetensors|metrics\.jsonl)$", path)]
    assert len(same) >= 5 and all(one[path] == other[path] for path in same)


def a_draw(parts: tuple[TransferPart, ...] = ()) -> Draw:
    """Twelve images: 0 to 3 are labelled, 3 to 11 are transfer images."""
    images = from_arrays(np.zeros((12, 2, 2), np.uint8), [-1] * 12, (), "zero")
    labels = np.array([0, 1, 2, 0] + [-1] * 8)
    return Draw(0, 1, images, labels, np.arange(4), np.arange(3, 12), parts)


def shown(draw: Draw, steps: int) -> np.ndarray:
    plan = _plan(draw, replace(SETTINGS, batch_size=24))
    rows = np.concatenate([plan.rows(step)[0::2, 0] for step in range(steps)])
    return np.bincount(rows, minlength=12)


def test_every_image_comes_equally_often() -> None:
    assert shown(a_draw(), 5).tolist() == [5] * 12


def test_shares_of_a_mix_are_kept() -> None:
    parts = (TransferPart(np.arange(3, 6), 2.0), TransferPart(np.arange(6, 12), 1.0))
    counts = shown(a_draw(parts), 48)
    own, first, second = counts[:3].sum(), counts[3:6].sum(), counts[6:].sum()
    assert first == pytest.approx(2 * second, abs=2)
    # the three labelled images that are no transfer images: as often as the nine on average
    assert own == pytest.approx((first + second) / 3, abs=2)


def test_more_pairs_than_images_are_told(tmp_path: Path) -> None:
    ran = trained(tmp_path, f"{KEY}.batch_size=60")
    assert "ssl: a step shows 30 pairs of views of 21 images" in ran.err
    assert "a step shows" not in trained(tmp_path / "b").err


def test_the_best_of_what_is_not_validated_is_told_to_be_the_last(tmp_path: Path) -> None:
    words = ("train.select=best", "data.validation_fraction=0.2")
    ran = trained(tmp_path, *words)
    assert ran.err.count("not validated: its last weights count") == 1
    assert not (tmp_path / "run" / "draws" / "0" / "ssl" / "ssl" / "best.safetensors").exists()


def test_without_lightly_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    ran = run(*transfer_words(tmp_path, *SHORT, "baseline=true"))
    assert ran.code == 2
    assert ran.lines == [
        "genkt transfer: self-supervised stages need lightly: pip install 'genkt[ssl]'"
    ]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([f"{KEY}.batch_size=7"], "batch_size: expected an even number, two views of every image"),
        ([f"{KEY}.batch_size=2"], "this method needs at least 4 images in each"),
        ([f"{KEY}.objective=dino"], f"{KEY}.objective: expected simclr"),
        ([f"{KEY}.temperature=0"], f"{KEY}.temperature: expected a number 0.01 .. 1000"),
        ([f"{KEY}.crop_scale=[0,1]"], "recipe.stages.ssl.crop_scale: expected 0 < low <= high"),
        (
            [f"{KEY}.crop_scale=[1,1]", f"{KEY}.color_jitter=0", "data.views.hflip=false",
             "data.views.num_views=1", "data.views.crop_ratio=[1,1]"],
            "simclr compares random views: give the stage crop_scale below 1",
        ),
    ],
)  # fmt: skip
def test_faults(words: list[str], fault: str, tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *SHORT, "baseline=true", *words))
    assert ran.code == 2 and fault in ran.err


def test_micro_batches_that_split_a_pair_are_refused(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *SHORT, f"{KEY}.batch_size=20", "train.accumulate=4"))
    assert ran.code == 2 and "expected pairs of views in every micro-batch" in ran.err


def test_a_dry_run_warns_of_nothing(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *SHORT, f"{KEY}.batch_size=60", "dry_run=true"))
    assert ran.code == 0 and "everything fits" in ran.out and "a step shows" not in ran.err
