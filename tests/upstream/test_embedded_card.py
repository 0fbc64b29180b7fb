"""The shipped teachers' figures are what their cards say, and the ways they are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from teacher.pretrain_teacher import card_text
from teacher.teacher_card import (
    fine_tune,
    linear_probe,
    nearest_centroid,
    outputs,
    pixels,
    task_figures,
    upstream_accuracy,
)

from genkt.data.builtin.digits import digits, digits_on_photos
from genkt.io import resource
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model

CHECKPOINTS = Path(resource("checkpoints"))
SHIPPED = ("digits_teacher", "digits_teacher_small")


@pytest.fixture(scope="module", params=SHIPPED)
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    text = (CHECKPOINTS / request.param / "figures.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture(scope="module")
def teacher(figures: dict[str, Any]) -> Backbone:
    return load_model(ModelSpec(f"genkt:{figures['name']}")).freeze()


def test_the_card_states_the_figures(figures: dict[str, Any], teacher: Backbone) -> None:
    home = CHECKPOINTS / figures["name"]
    assert (home / "README.md").read_text(encoding="utf-8") == card_text(figures)
    assert teacher.num_parameters == figures["num_parameters"]
    assert (home / "model.safetensors").stat().st_size < 2.1 * figures["num_parameters"]


def test_all_that_is_shipped_is_small() -> None:
    sizes = [path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()]
    assert sum(sizes) < 12e6


@pytest.mark.parametrize("name", SHIPPED)
def test_timm_loads_the_folder(name: str) -> None:
    model = timm.create_model(f"local-dir:{CHECKPOINTS / name}", pretrained=True).eval()
    assert model.pretrained_cfg["license"] == "apache-2.0"
    assert len(model.pretrained_cfg["label_names"]) == model.num_classes == 47
    assert model(torch.zeros(1, *model.pretrained_cfg["input_size"])).shape == (1, 47)


@pytest.mark.parametrize("task", ["digits", "digits_on_photos"])
def test_downstream_figures_are_met(teacher: Backbone, figures: dict[str, Any], task: str) -> None:
    splits = digits() if task == "digits" else digits_on_photos()
    measured = task_figures(teacher, splits, tuned=False)
    stated = figures["accuracy"][task]
    few, few_stated = measured["linear_probe_2_per_class"], stated["linear_probe_2_per_class"]
    assert few["mean"] == pytest.approx(few_stated["mean"], abs=0.5)
    assert few["draws"] == pytest.approx(few_stated["draws"], abs=1.0)
    for name in ("linear_probe_pool", "centroid_pool"):
        assert measured[name]["value"] == pytest.approx(stated[name]["value"], abs=0.5)


@pytest.mark.parametrize(("key", "on_photos"), [("plain", False), ("on_photos", True)])
def test_upstream_figures_are_met(
    teacher: Backbone, figures: dict[str, Any], key: str, on_photos: bool
) -> None:
    stated = figures["accuracy"]["upstream_held_out_fonts"][key]
    assert upstream_accuracy(teacher, on_photos=on_photos) == pytest.approx(stated, abs=0.5)


def test_fine_tuning_learns_the_few_images_and_leaves_the_teacher() -> None:
    teacher = load_model(ModelSpec("genkt:digits_teacher")).freeze()
    before = teacher.fingerprint()
    rows = [int(np.flatnonzero(digits().train.labels == label)[0]) for label in (0, 1, 2, 3)]
    images, labels = pixels(digits().train.select(rows), teacher), torch.tensor([0, 1, 2, 3])
    tuned = fine_tune(teacher, images, labels, num_classes=10, seed=0, steps=20)
    assert outputs(tuned, images)[1].argmax(dim=1).tolist() == labels.tolist()
    assert tuned.num_classes == 10 and teacher.num_classes == 47
    assert teacher.fingerprint() == before
    again = fine_tune(teacher, images, labels, num_classes=10, seed=0, steps=20)
    assert torch.equal(outputs(again, images)[1], outputs(tuned, images)[1])


def test_probes_separate_what_is_separable_and_only_that() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(60) % 3
    centres = 5 * torch.eye(3, 8)
    features = centres[torch.from_numpy(labels)] + torch.randn(60, 8, generator=generator) * 0.1
    noise = torch.randn(60, 8, generator=generator)
    for probe in (linear_probe, nearest_centroid):
        assert probe(features[:30], labels[:30], features[30:], labels[30:]) == 100
        assert probe(noise[:30], labels[:30], noise[30:], labels[30:]) < 70
