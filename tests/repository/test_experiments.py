"""The papers' settings: every file composes as its header says, and every stage of it runs."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from timm.models import is_model, list_models
from tiny import run

from genkt.config.data_settings import FolderData
from genkt.config.read_config import read_config
from genkt.config.recipe_settings import StagedRecipe
from genkt.config.set_settings import DiggSet, LabelledSet, UnlabelledSet
from genkt.config.transfer_settings import TransferConfig
from genkt.io import resource
from genkt.readers.folders import read_folder
from genkt.settings.words import Words
from genkt.training.train_settings import TrainSettings
from genkt.transfers import smoke
from genkt.transfers.smoke import BATCH, SIZE, smoke_of
from genkt.types import UserError

LARGE = 4_000_000
"""Parameters of a model that keeps all its blocks here: hundreds of megabytes take long."""
NAMES = Words().choices("experiment")
PAPERS = [name for name in NAMES if name != "quick"]
KEYS = ("paper", "expected", "settings", "command", "others", "cost", "bring", "differs")


def text_of(name: str) -> str:
    return (resource("configs") / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")


def header(name: str) -> dict[str, str]:
    """The entries of a file's first comment, each on one line."""
    found: dict[str, str] = {}
    key = ""
    for line in text_of(name).splitlines()[1:]:
        if not line.startswith("#"):
            break
        if match := re.match(r"#   (\w+) +(.*)", line):
            key, rest = match.groups()
            found[key] = rest
        elif key:
            found[key] += " " + line.lstrip("# ")
    return found


def composed(name: str, *words: str) -> TransferConfig:
    """As ``smoke=true`` reads it, so that no data need be there."""
    return read_config(TransferConfig, "transfer", [f"experiment={name}", "smoke=true", *words])


@pytest.mark.parametrize("name", PAPERS)
def test_headers_say_everything(name: str) -> None:
    entries = header(name)
    assert tuple(entries) == KEYS
    words = shlex.split(re.split(r" genkt |\(", entries["command"].removeprefix("genkt "))[0])
    assert words[:2] == ["transfer", f"experiment={name}"]
    config = composed(name, *words[2:])
    assert config.out.startswith("runs/")
    others: dict[str, list[str]] = {}
    for word in re.findall(r"(?<!\S)[a-z_.]+=[^\s;]+", entries["others"]):
        if not word.startswith(("data=", "data.root=")):
            others.setdefault(word.split("=")[0], []).append(word.rstrip(",)"))
    for round_ in itertools.zip_longest(*others.values()):
        composed(name, *filter(None, round_))


@pytest.mark.parametrize("name", PAPERS)
def test_every_model_is_timm_s(name: str) -> None:
    config = composed(name)
    teachers = config.teacher.model
    named = [config.student.model, *([teachers] if isinstance(teachers, str) else teachers)]
    for tagged in re.findall(r"(?:student|teacher)=\[?([\w.,]+)", text_of(name)):
        named += [each for each in tagged.split(",") if each]
    named += [
        each for each in re.findall(r"\w+\.\w+", text_of(name)) if is_model(each.split(".")[0])
    ]
    assert len(named) > 2
    for each in named:
        assert each in list_models(each.split(".")[0] + ".*", pretrained=True), each


def stage_settings(config: TransferConfig, stage: str) -> tuple[float, int]:
    """(learning rate, batch size) that a stage of a run trains with."""
    assert isinstance(config.recipe, StagedRecipe)
    if stage == "adapt":
        return config.adapt.lr, config.adapt.batch_size
    base: TrainSettings = config.train
    if stage == "finetune":
        base = replace(base, lr=config.finetune.lr, steps=config.finetune.steps)
    settings = config.recipe.trained[stage].settings(base)
    return settings.lr, settings.batch_size


@pytest.mark.parametrize("name", PAPERS)
def test_settings_are_those_of_the_header(name: str) -> None:
    config, promised = composed(name), header(name)["settings"]
    parts = re.findall(
        r"(adapt|distil|finetune|transfer): (.*?)(?=(?:adapt|distil|finetune):|$)", promised
    )
    assert parts
    for stage, said in parts:
        lr, batch = re.search(r"lr ([\d.e-]+)", said), re.search(r"batch (\d+)", said)
        assert lr and batch
        assert stage_settings(config, stage) == (float(lr[1].rstrip(".")), int(batch[1])), stage


def test_what_the_papers_state() -> None:
    aft = composed("aft_cifar100")
    assert (aft.train.optimizer, aft.train.epochs, aft.train.steps) == ("adam", 13, None)
    assert 5000 <= aft.train.num_steps(50_000) < 5000 + 391
    assert aft.method.beta_grid == (3, 10, 30) and not aft.data.views.spec(0).is_random
    assert isinstance(aft.transfer_set, LabelledSet) and aft.finetune.steps == 0 and aft.draws == 3
    both = composed("aft_cifar100_teachers")
    assert replace(both, teacher=aft.teacher, out=aft.out) == aft
    ota = composed("ota_digg")
    assert isinstance(ota.transfer_set, DiggSet) and ota.transfer_set.num_images == 100_000
    assert (ota.train.optimizer, ota.train.momentum, ota.train.weight_decay) == ("sgd", 0.9, 1e-5)
    assert ota.adaptation == "irf" and ota.data.label_fraction == 0.1
    general = composed("general_kt_imagenet")
    assert (general.train.optimizer, general.train.weight_decay) == ("sgd", 1e-3)
    assert general.adaptation == "none" and general.train.epochs == 20
    for name, adaptation in (("eurosat", "better"), ("imagenet", "fine_tune")):
        found = composed(f"task_oriented_{name}")
        assert isinstance(found.transfer_set, UnlabelledSet) and found.adaptation == adaptation
        assert (
            found.train.optimizer == "adamw" and found.student.transform["input_size"] == [256] * 2
        )
        assert not found.student.pretrained


@pytest.mark.parametrize("name", NAMES)
def test_every_smoke_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(smoke, "_LARGE", LARGE)
    ran = run("transfer", f"experiment={name}", "smoke=true", f"out={tmp_path / 'run'}")
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run").exists()
    report = json.loads((tmp_path / "run-smoke" / "report.json").read_text())
    assert report["cells"]
    said = "\n".join(ran.lines)
    assert "the figures mean nothing" in said and f"out={tmp_path / 'run-smoke'}" in said
    if "vit_giant" in text_of(name):
        assert "depth=1, as all of it (1134 M parameters) is too large for a CPU" in said
    shutil.rmtree(tmp_path / "run-smoke")  # full-size students: gigabytes


def test_a_smoke_changes_sizes_alone(tmp_path: Path) -> None:
    config = composed("task_oriented_ham10k", f"out={tmp_path}/x/")
    with smoke_of(config) as made:
        small = made.config
        assert isinstance(small.data, FolderData)
        splits = read_folder(small.data.root)
        assert len(splits.classes) == 3 and splits.train.load(0).size == (SIZE, SIZE)
    assert not Path(small.data.root).exists()
    assert small.out == f"{tmp_path}/x-smoke" and small.overwrite and not small.smoke
    assert (small.student.model, small.method) == (config.student.model, config.method)
    assert isinstance(small.recipe, StagedRecipe) and isinstance(config.recipe, StagedRecipe)
    assert list(small.recipe.stages) == list(config.recipe.stages)
    assert small.adaptation == config.adaptation == "better"
    assert (small.train.steps, small.train.batch_size, small.train.lr) == (1, BATCH, 7e-4)
    assert stage_settings(small, "finetune") == (1e-4, BATCH)
    assert small.data.labels_per_class == 2 and small.train.labelled_per_batch == 2


def test_a_smoke_has_no_step_where_the_run_has_none() -> None:
    with smoke_of(composed("general_kt_imagenet")) as made:
        recipe = made.config.recipe
        assert isinstance(recipe, StagedRecipe)
        assert [stage.steps for stage in recipe.trained.values()] == [0, None]


def test_a_smoke_may_be_repeated(tmp_path: Path) -> None:
    words = ["transfer", "smoke=true", "method=stl"]
    for _ in range(2):
        ran = run(*words, f"out={tmp_path / 'run'}")
        assert ran.code == 0, ran.err
    assert "student resnet18: 32 pixels, random weights" in ran.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=aft_cifar10"], "Did you mean aft_cifar100"),
        (["experiment=aft_cifar100"], "data.root: required; give data.root=..."),
        (["experiment=task_oriented_ham10k", "data.root=."], "data.test: no such file: test.csv"),
        (["smoke=yes"], 'smoke: expected true or false, got "yes"'),
        (["smoke=true", "method=auto"], "method=auto: reads the data, which smoke=true does not"),
        (["teacher=[resnet18,resnet34]", "teacher.args=[{}]", "teacher.pretrained=false"],
         "teacher.args: expected 2 mappings, one per model, got 1"),
    ],
)  # fmt: skip
def test_messages(words: list[str], expected: str, tmp_path: Path) -> None:
    ran = run("transfer", *words, f"out={tmp_path / 'run'}")
    assert ran.code == 2 and expected in ran.err, ran.err


def test_a_smoke_in_python_is_refused(tmp_path: Path) -> None:
    import genkt

    with pytest.raises(
        UserError, match="smoke: expected false; only genkt transfer on the command"
    ):
        genkt.transfer(smoke=True, out=tmp_path / "run")


def test_other_data_keep_the_set_of_an_experiment() -> None:
    words = ["data=folder", "data.root=x", "~data.dataset"]
    assert isinstance(composed("ota_digg", *words).transfer_set, DiggSet)
    assert isinstance(composed("quick", *words[:2]).transfer_set, UnlabelledSet)
