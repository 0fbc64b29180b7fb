"""The Python API: the command line's words, and objects in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from refusals import refused
from test_cli import save_teacher
from tiny import CLASSES, picture, transfer_words, write_images
from torch import nn

import genkt
from genkt.inference.snippets import IMAGE
from genkt.metrics import paired_interval
from genkt.settings.assignments import assignments
from genkt.types import UserError

SIZES: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
MEAN = (0.5, 0.5, 0.5)


def tiny_model(num_classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    overlay = {"input_size": (3, 24, 24), "mean": MEAN, "std": MEAN, "crop_pct": 1.0}
    return timm.create_model(
        "resnet18", num_classes=num_classes, pretrained_cfg_overlay=overlay, **SIZES
    )


class Plain(nn.Module):
    """A hand-written classifier that timm knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(images).flatten(1))
        return logits


def settings(home: Path) -> dict[str, Any]:
    return {
        "out": home / "a run", "cache": home / "cache", "device": "cpu", "draws": 1,
        "train": {"steps": 3, "batch_size": 12, "labelled_per_batch": 4, "num_workers": 0},
        "finetune": {"steps": 1}, "adapt": {"steps": 1},
    }  # fmt: skip


def splits(home: Path) -> genkt.Splits:
    write_images(home / "images")
    return genkt.read_folder(home / "images", test_fraction=0.2)


def test_words_and_keywords_are_the_command_line(tmp_path: Path) -> None:
    result = genkt.transfer(*transfer_words(tmp_path)[1:], baseline=False)
    assert result.out == tmp_path / "run" and (result.out / "report.html").is_file()
    assert result.student.num_classes == 3 and not result.student.training
    assert result.accuracy == result.report.cells[0].accuracy
    assert [cell.arm for cell in result.report.cells] == ["logit_kd"]
    assert result.difference is None
    assert "baseline=False" in result.report.command


def test_settings_as_dicts(tmp_path: Path) -> None:
    write_images(tmp_path / "my, images")
    views = {"num_views": 1}
    result = genkt.transfer(
        data={"name": "folder", "root": tmp_path / "my, images", "labels_per_class": 2,
              "views": views},
        student={"model": "resnet18", "pretrained": False, "args": SIZES},
        teacher={"model": ["resnet18", "resnet34"], "pretrained": False, "args": SIZES,
                 "transform": {"input_size": [24, 24]}},
        method={"name": "aft", "beta": 1},
        **settings(tmp_path),
    )  # fmt: skip
    assert result.out == tmp_path / "a run"
    assert len(result.report.artifacts) == 2
    mine, theirs = (result.report.scores[arm][0, 0] for arm in ("aft", "stl"))
    assert repr(result.difference) == repr(paired_interval([mine], [theirs]))


def test_objects_stand_for_settings(tmp_path: Path) -> None:
    teacher, student = tiny_model(seed=1), tiny_model(seed=2)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    result = genkt.transfer(
        "data.labels_per_class=2", "data.views.num_views=2",
        data=splits(tmp_path), student=student, teacher=[teacher, tiny_model(7, seed=3)],
        method={"name": "feature_kd", "beta": 1}, **settings(tmp_path),
    )  # fmt: skip
    assert result.report.classes == CLASSES
    assert {model.role for model in result.report.models} == {"student", "teacher"}
    after = student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # yours is left alone
    trained = result.student.model.state_dict()
    assert any(not torch.equal(trained[name], after[name]) for name in trained)
    assert "student=<ResNet>" in result.report.command and "<Splits>" in result.report.command


def test_another_model_is_not_taken_for_the_same_run(tmp_path: Path) -> None:
    data = splits(tmp_path)
    words = ("data.labels_per_class=2", "method=stl")
    genkt.transfer(*words, data=data, student=tiny_model(seed=1), **settings(tmp_path))
    with refused("a"):
        genkt.transfer(*words, data=data, student=tiny_model(seed=2), **settings(tmp_path))


def test_a_module_that_is_not_timms(tmp_path: Path) -> None:
    transform = genkt.ImageTransform((24, 24), MEAN, MEAN, "bilinear", 1.0)
    student = genkt.Backbone(Plain(), transform, "plain")
    result = genkt.transfer(
        "data.labels_per_class=2", "method=stl", data=splits(tmp_path), student=student,
        **settings(tmp_path),
    )  # fmt: skip
    model = Plain()
    picture(1, 2).save(tmp_path / "one.png")
    code = result.report.snippet.replace(IMAGE, str(tmp_path / "one.png"))
    space: dict[str, Any] = {"model": model}
    exec(code, space)
    images = torch.rand(2, 3, 24, 24)
    assert torch.allclose(model(images), result.student(images).logits, atol=1e-6)
    assert space["answer"].label in result.report.classes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"student": Plain()}, "declares no input transform"),
        ({"student": tiny_model(5)}, "expected 3 classes, its head has 5"),
        ({"teacher": [tiny_model(), "resnet18"]}, "a list of names or a list of modules"),
        ({"draws": 0, "seed": "x"}, "draws: expected a number 1 .. 10000 or auto, got 0\n"),
        ({"dry_run": True}, "genkt.estimate"),
        ({"nope": 1}, "nope: unknown setting."),
        ({"student": "resnet1888"}, "not a timm model"),
    ],
)
def test_messages(arguments: dict[str, Any], expected: str, tmp_path: Path) -> None:
    given = {"student": tiny_model(), "teacher": tiny_model(), **settings(tmp_path), **arguments}
    with pytest.raises(UserError) as caught:
        genkt.transfer("data.labels_per_class=2", data=splits(tmp_path), **given)
    assert expected in f"{caught.value}\n"
    assert not (tmp_path / "a run").exists()


def test_estimate_and_evaluate(tmp_path: Path) -> None:
    data = splits(tmp_path)
    words = ("data.labels_per_class=2", "data.views.num_views=2")
    given = {"data": data, "student": tiny_model(), "teacher": tiny_model(), **settings(tmp_path)}
    assert "nothing was written" in genkt.estimate(*words, **given)
    assert not (tmp_path / "a run").exists()
    result = genkt.transfer(*words, **given)
    given = {"data": {"name": "folder", "root": tmp_path / "images"}, "split": "train"}
    found = genkt.evaluate(result.out, device="cpu", **given)
    assert len(found.prediction.ids) == found.as_dict()["num_images"] > 0
    twice = genkt.evaluate([result.out, str(result.out)], device="cpu", **given)
    assert [each.accuracy for each in twice] == [found.accuracy] * 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", 3, ["seed=3"]),
        ("out", Path("/a b"), ['out="/a b"']),
        ("out", "null", ['out="null"']),
        ("out", 'x"y', ['out="x\\"y"']),
        ("teacher", ["a", "b.c"], ['teacher=[a,"b.c"]']),
        ("method", {"name": "aft", "mu_lr": 0.5}, ["method=aft", "method.mu_lr=0.5"]),
        ("method", {"beta_grid": (1, 2.5)}, ["method.beta_grid=[1,2.5]"]),
        ("student", {"model": "x"}, ["student=timm", "student.model=x"]),
        ("baseline", False, ["baseline=false"]),
        ("train", {"ema": None}, ["train.ema=null"]),
    ],
)  # fmt: skip
def test_keywords_as_words(key: str, value: Any, expected: list[str]) -> None:
    assert [str(each) for each in assignments({key: value})] == expected


def test_the_public_names_are_there() -> None:
    for name in genkt.__all__:
        assert getattr(genkt, name) is not None
    assert set(genkt.__all__) <= set(dir(genkt))
    with refused("nope", kind=AttributeError):
        _ = genkt.nope


def test_a_teacher_from_a_file(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher.pth")
    spec = genkt.ModelSpec("resnet18", weights=str(tmp_path / "teacher.pth"), args=SIZES)
    assert genkt.load_model(spec, num_classes=3).num_classes == 3
