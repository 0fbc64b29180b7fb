"""Every YAML file that ships: composed, checked, and every choice run for a step."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli import save_teacher
from tiny import TRANSFORM, model_words, run, transfer_words, write_images

from genkt.cli.main import COMMANDS
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.config.cache_settings import CacheConfig
from genkt.config.command_settings import (
    ConvertConfig,
    EvaluateConfig,
    ExportConfig,
    InspectConfig,
    PredictConfig,
)
from genkt.config.compare_settings import CompareConfig
from genkt.config.prime_settings import PrimeConfig
from genkt.config.read_config import read_config
from genkt.config.set_command_settings import RetrieveConfig, SynthesizeConfig
from genkt.config.transfer_settings import TransferConfig
from genkt.io import resource
from genkt.settings.words import Words

CONFIGS = resource("configs")
# see the tests of these
ELSEWHERE = {
    "hydra",
    "shared",
    "experiment",
    "synthesis",
    "executor",
    "study",
    "encoder",
    "retrieval",
}
GROUPS = sorted({path.name for path in CONFIGS.iterdir() if path.is_dir()} - ELSEWHERE)
CHOICES = [(group, name) for group in GROUPS for name in Words().choices(group)]
KINDS = [
    AnalyzeConfig, CacheConfig, CompareConfig, ConvertConfig, EvaluateConfig, ExportConfig,
    InspectConfig, PredictConfig, PrimeConfig, RetrieveConfig, SynthesizeConfig,
    TransferConfig,
]  # fmt: skip
"""The settings of every command."""
REQUIRED = {
    ("data", "fashion_mnist"): ["smoke=true"],  # without its package
    ("data", "stamps"): ["smoke=true"],
    ("data", "folder"): ["data.root=."],
    ("data", "split_list"): ["data.root=.", f"data.train={CONFIGS / 'transfer.yaml'}"],
    ("data", "torchvision"): ["data.dataset=fake", "data.root=."],
    ("student", "timm"): ["student.model=resnet18"],
    ("teacher", "timm"): ["teacher.model=resnet18"],
    ("transfer_set", "folder"): ["transfer_set.root=."],
    ("transfer_set", "saved"): ["transfer_set.root=."],
    ("transfer_set", "mix"): ["transfer_set.parts=[labelled,unlabelled]"],
}


def test_every_command_has_its_file() -> None:
    assert len(KINDS) == len(COMMANDS)
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(COMMANDS)


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=str)
def test_every_choice_is_valid(group: str, name: str) -> None:
    teacher = [] if group == "teacher" else model_words("teacher")
    words = [f"{group}={name}", *REQUIRED.get((group, name), []), *teacher]
    if (group, name) == ("teacher", "embedded") and not shipped():
        pytest.skip("the shipped teacher has not been trained yet")
    config = read_config(TransferConfig, "transfer", words)
    chosen = getattr(config, group, None)
    assert getattr(chosen, "name", name) == name


def shipped() -> bool:
    return (resource("checkpoints") / "digits_teacher" / "config.json").is_file()


@pytest.mark.parametrize(
    ("kind", "command", "words"),
    [
        (AnalyzeConfig, "analyze", ["models=[x,y]"]),
        (CacheConfig, "cache", model_words("teacher")),
        (ConvertConfig, "convert", ["checkpoint=x", "out=y"]),
        (PrimeConfig, "prime", []),
        (EvaluateConfig, "evaluate", ["model=x"]),
        (ExportConfig, "export", ["run=x"]),
        (InspectConfig, "inspect", ["set=x"]),
        (PredictConfig, "predict", ["run=x"]),
        (RetrieveConfig, "retrieve", []),
        (TransferConfig, "transfer", model_words("teacher")),
    ],
)
def test_every_primary_file_is_valid(kind: type, command: str, words: list[str]) -> None:
    assert isinstance(read_config(kind, command, words), kind)


@pytest.mark.parametrize("name", Words().choices("method"))
def test_every_method_runs(name: str, tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, f"method={name}", "train.steps=1", "finetune.steps=1"))
    assert ran.code == 0, ran.err
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("name", ["digits", "digits_on_photos", "torchvision"])
def test_every_data_set_runs(name: str, tmp_path: Path) -> None:
    words = [word for word in transfer_words(tmp_path) if not word.startswith("data")]
    words += [f"data={name}", "data.labels_per_class=2", "data.views.num_views=1", "method=stl"]
    words += ["data.dataset=fake", "data.root=x"] if name == "torchvision" else []
    ran = run(*words, "train.steps=1", "finetune.steps=0")
    assert ran.code == 0, ran.err


MADE = {"digg", "saved", "retrieved"}
"""Transfer sets that need a generator or a gallery: tests of their own run them."""


@pytest.mark.parametrize("name", sorted(set(Words().choices("transfer_set")) - MADE))
def test_every_transfer_set_runs(name: str, tmp_path: Path) -> None:
    more = [f"transfer_set={name}", "train.steps=1", "finetune.steps=0", "baseline=false"]
    more += REQUIRED["transfer_set", "mix"] if name == "mix" else []
    if name == "folder":
        write_images(tmp_path / "pool, one", ("x",), 6)
        (tmp_path / "pool, one" / "bad.png").write_bytes(b"no")
        more += [f"transfer_set.root=['{tmp_path / 'pool, one'}']", "transfer_set.max_images=4"]
    ran = run(*transfer_words(tmp_path, *more))
    assert ran.code == 0, ran.err
    report = (tmp_path / "run" / "report.json").read_text()
    assert ("bad.png" in report) == (name == "folder")


@pytest.mark.parametrize(
    "words",
    [
        ["teacher.adapt=fine_tune"],
        ["teacher.adapt=linear_probe", "teacher.outputs=online"],
        ["teacher.adapt=none", "method=feature_kd", "method.beta=1"],
        ["teacher.outputs=online", "data.views.num_views=0", "method=aft", "method.beta=1"],
        ["method=aft", "method.beta=search", "method.beta_grid=[1,2]"],
        ["train.optimizer=sgd", "train.ema=0.9", "train.select=best", "train.accumulate=2"],
        ["train.steps=null", "train.epochs=1", "train.precision=bf16", "cache_dtype=float32"],
        ["baseline=false", "draws=2", "finetune.steps=0", "train.optimizer=adam"],
        ["data.labels_per_class=null", "data.label_fraction=0.5", "train.labelled_per_batch=0"],
    ],
    ids=" ".join,
)
def test_settings_that_change_the_course(words: list[str], tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, "train.steps=2", *words))
    assert ran.code == 0, ran.err


def test_several_teachers(tmp_path: Path) -> None:
    save_teacher(tmp_path / "a.pth")
    words = [
        word
        for word in transfer_words(tmp_path, "method=aft", "method.beta=1", "train.steps=2")
        if not word.startswith("teacher")
    ]
    words += ["teacher=[resnet18,resnet34]", "teacher.pretrained=false"]
    words += [
        "teacher.args={layers: [1,1,1,1], channels: [8,8,16,16]}",
        f"teacher.transform={TRANSFORM}",
        f"teacher.weights=['{tmp_path / 'a.pth'}',null]",
    ]
    ran = run(*words)
    assert ran.code == 0, ran.err
    report = (tmp_path / "run" / "report.json").read_text()
    assert '"resnet34"' in report
    ran = run(*words[:-1], f"teacher.weights=['{tmp_path / 'a.pth'}']", "overwrite=true")
    assert ran.code == 2 and "teacher.weights: expected 2 files, one per model, got 1" in ran.err
