"""Training the shipped teacher: reproducible, resumable, loadable by timm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from pretrain import settings_of
from refusals import refused
from teacher.train_teacher import (
    TeacherSettings,
    Upstream,
    as_input,
    save_teacher,
    train_teacher,
)

from genkt.data.builtin.glyphs import CLASSES, draw_bank
from genkt.models.load import ModelSpec, load_model

TINY = TeacherSettings(
    layers=(1, 1, 1, 1), channels=(16, 16, 16, 16), input_size=32, steps=6, batch_size=8, lr=1e-2,
    weight_decay=0.0, warmup=0.2, label_smoothing=0.1, ema=0.5, on_photos=0.5, num_crops=8,
    num_written=0, precision="fp32", save_seconds=1e6, seed=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Upstream:
    photos = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return Upstream(draw_bank(("cmr10",), num_written=0), photos.to(torch.uint8))


@pytest.fixture(scope="module")
def whole(
    data: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[float]]:
    losses: list[float] = []
    out = tmp_path_factory.mktemp("whole")
    teacher, _ = train_teacher(TINY, out, data=data, report=lambda _, f: losses.append(f["loss"]))
    return teacher.state_dict(), losses


def test_an_interrupted_run_ends_with_the_same_weights(
    whole: tuple[dict[str, torch.Tensor], list[float]], data: Upstream, tmp_path: Path
) -> None:
    steps: list[int] = []
    train_teacher(TINY, tmp_path, data=data, stop_after=4)
    teacher, _ = train_teacher(TINY, tmp_path, data=data, report=lambda step, _: steps.append(step))
    assert steps == [5, 6]
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, whole[0][name]), name


def test_another_run_in_the_same_folder_is_refused(data: Upstream, tmp_path: Path) -> None:
    train_teacher(TINY, tmp_path, data=data, stop_after=1)
    with refused("state.pt"):
        train_teacher(replace(TINY, lr=1e-3), tmp_path, data=data)


def test_the_saved_folder_loads_in_timm(data: Upstream, tmp_path: Path) -> None:
    teacher, seconds = train_teacher(replace(TINY, steps=1), tmp_path, data=data)
    assert seconds > 0 and teacher.frozen
    save_teacher(teacher, tmp_path / "saved")
    model = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    images = torch.rand(4, 3, 32, 32)
    expected = teacher(as_input(images, 32)).logits
    assert torch.allclose(model(as_input(images, 32)), expected, atol=2e-2)
    loaded = load_model(ModelSpec(f"local-dir:{tmp_path / 'saved'}"))
    assert loaded.transform == teacher.transform
    assert tuple(model.pretrained_cfg["label_names"]) == CLASSES


def test_the_shipped_settings_are_valid() -> None:
    assert settings_of([]).training().steps >= 1000
    assert settings_of(["steps=7", "out=1e3"]).steps == 7
    with refused("stepz"):
        settings_of(["stepz=7"])
