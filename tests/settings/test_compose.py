"""Words of a command line to one plain configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.cli.app import swept_words
from genkt.cli.positional import with_positionals
from genkt.config.command_settings import PredictConfig
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.settings.assignments import Assignment
from genkt.settings.compose import compose
from genkt.settings.faults import Fault
from genkt.settings.values import parse_override, quote
from genkt.settings.words import Words, sort_words, with_models
from genkt.settings.written import as_values


def composed(*words: str, command: str = "transfer") -> tuple[dict[str, Any], list[str]]:
    faults: list[Fault] = []
    kind = {"transfer": TransferConfig, "predict": PredictConfig}[command]
    plain = as_values(compose(command, sort_words(list(words), command), faults, kind))
    return plain, list(map(str, faults))


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1)


@settings(max_examples=80, deadline=None)
@given(TEXTS.filter(lambda text: "${" not in text))
def test_a_quoted_text_comes_back_as_it_was(text: str) -> None:
    override = parse_override(f"key={quote(text)}")
    assert override is not None and override.value() == text


@pytest.mark.parametrize(
    "path",
    [
        "/p/a=b",
        "/p/a b/c",
        "/p/a,b",
        "/p/it's",
        '/p/"x"',
        "/p/日本 é",
        "C:\\data\\x",
        "/p/a(1)/[b]/{c}",
        "[a]/b",
        "/p/#1&2;3!",
        "2024",
        "/p/100%",
        "-x",
        "/p/trailing ",
        "a:b",
        "/p/x\\",
    ],
)
def test_paths_arrive_as_typed(path: str) -> None:
    plain, faults = composed("data=folder", f"data.root={path}")
    assert not faults
    assert str(plain["data"]["root"]) == path


def test_numbers_lists_and_null_keep_their_types() -> None:
    plain, faults = composed("train.lr=1e-3", "train.ema=null", "data.views.scale=[0.5,2]")
    assert not faults
    assert plain["train"]["lr"] == 1e-3 and plain["train"]["ema"] is None
    assert plain["data"]["views"]["scale"] == [0.5, 2]


def test_a_home_folder_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    plain, _ = composed("out=~/runs")
    assert plain["out"] == "/home/x/runs"


def test_model_names_stand_where_hydra_wants_files() -> None:
    plain, faults = composed("student=resnet18.a1_in1k", "teacher=[resnet18,'hf-hub:a/b']")
    assert not faults
    assert plain["student"]["model"] == "resnet18.a1_in1k" and plain["student"]["pretrained"]
    assert plain["teacher"]["model"] == ["resnet18", "hf-hub:a/b"]
    plain, _ = composed("student=embedded")
    assert plain["student"]["args"]["channels"] == [16, 32, 64, 128]
    plain, _ = composed("student=local-dir:/p/a=b c")
    assert plain["student"]["model"] == "local-dir:/p/a=b c"


def test_open_mappings_take_new_keys() -> None:
    plain, faults = composed("student=resnet18", "student.args.img_size=32", "student.args.x=[1]")
    assert not faults
    assert plain["student"]["args"] == {"img_size": 32, "x": [1]}


def test_sweeps_over_models_are_spelled_out() -> None:
    words = Words(multirun=True)

    def spelled_out(names: str) -> list[str]:
        return [str(each) for each in with_models(Assignment("student", names), words)]

    assert spelled_out("a,b") == ["student=timm", 'student.model="a","b"']
    assert spelled_out("embedded,timm") == ["student=embedded,timm"]
    with refused("embedded", "resnet18", kind=ValueError):
        spelled_out("embedded,resnet18")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "x"], "--data x: settings are written without dashes: data=x"),
        (["--train.lr=3"], "--train.lr=3: settings are written without dashes: train.lr=3"),
        (["--overwrite", "seed=1"], "--overwrite: settings are written without dashes: overw"),
        (["foo"], '"foo": expected key=value; genkt transfer --help lists the keys'),
        (["out="], 'out=: expected a value after "="; null stands for none'),
        (["--config-dir"], "--config-dir: expected a value after it"),
        (["--config-dir", "/nope"], "--config-dir /nope: expected a folder of YAML files"),
        (["train.lrr=1"], "train.lrr: unknown setting. Did you mean train.lr?"),
        (["lr=1"], "lr: unknown setting. Did you mean train.lr, plain.lr, finetune.lr?"),
        (["train.learning_rate=1"], "train.learning_rate: unknown setting. Did you mean train.lr?"),
        (["learningrate=1"], "Did you mean train.lr, plain.lr, finetune.lr?"),
        (["train.wd=1"], "Did you mean train.weight_decay?"),
        (["train.num_epochs=1"], "Did you mean train.epochs?"),
        (["train.max_grad_norm=1"], "Did you mean train.clip_grad?"),
        (["output_dir=x"], "Did you mean out?"),
        (["zzz=1"], "zzz: unknown setting. Known here: data, student, teacher"),
        (["data=folder"], "data.root: required; give data.root=..."),
        (["data=/p/a=b"], "For images in a folder: data=folder data.root=/p/a=b"),
        (["method=afft"], "method=afft: expected one of aft, "),
        (["experiment=quikc"], "Did you mean quick?"),
        (["data.views.scale.0=1"], "give all of it: data.views.scale=[...]"),
        (["--config-name", "nope"], "--config-name nope: no nope.yaml in "),
    ],
)
def test_faults_say_what_to_type_instead(words: list[str], expected: str) -> None:
    _, faults = composed(*words)
    assert len(faults) == 1 and expected in faults[0], faults


def test_settings_of_a_mistyped_choice_are_not_blamed() -> None:
    _, faults = composed("data=foldr", "data.root=/p")
    assert len(faults) == 1 and "data=foldr: expected one of folder, " in faults[0]


def test_a_group_of_another_command_is_unknown() -> None:
    _, faults = composed("run=x", "data=digits", command="predict")
    assert faults == ["data: unknown setting of this command."]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_users_folder_adds_experiments_and_hides_files(tmp_path: Path) -> None:
    home = tmp_path / "my configs"
    write(
        home / "experiment" / "mine.yaml",
        "# @package _global_\ndefaults:\n  - override /method: aft\ntrain: {lr: 0.5}\n",
    )
    write(home / "method" / "stl.yaml", "name: stl\nextra: 1\n")
    write(home / "student" / "small.yaml", "model: resnet18\npretrained: false\n")
    plain, faults = composed("--config-dir", str(home), "experiment=mine", "train.ema=0.9")
    assert not faults
    assert plain["method"]["name"] == "aft" and plain["train"]["lr"] == 0.5
    assert plain["train"]["ema"] == 0.9 and "experiment" not in plain
    plain, faults = composed("--config-dir", str(home), "method=stl", "student=small")
    assert not faults
    assert plain["method"] == {"name": "stl", "extra": 1}
    assert plain["student"]["model"] == "resnet18"
    _, faults = composed("--config-dir", str(home), "experiment=mein")
    assert "Did you mean mine?" in faults[0]


def test_an_experiment_without_its_first_line_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "experiment" / "mine.yaml", "train: {lr: 0.5}\n")
    _, faults = composed("--config-dir", str(tmp_path), "experiment=mine")
    assert faults == ['experiment: its file must start with the line "# @package _global_"']


def test_a_plain_primary_file_takes_overrides_but_no_choices(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", "student: {model: a}\nseed: 1\n")
    flags = ["--config-dir", str(tmp_path), "--config-name", "config"]
    plain, faults = composed(*flags, "seed=2")
    assert not faults and plain == {"student": {"model": "a"}, "seed": 2}
    _, faults = composed(*flags, "student=resnet18")
    assert len(faults) == 1 and "set its keys by student.KEY=" in faults[0]


def test_outside_of_a_sweep_a_comma_is_part_of_the_text() -> None:
    words = Words([Assignment("out", "a,b")])
    assert words.settings[0].value((str,), []) == "a,b"
    assert swept_words(words, TransferConfig) == ["out=a,b"]
    one = Words([Assignment("train.lr", "0.1"), Assignment("student.args.x", "1,2")])
    assert swept_words(one, TransferConfig) == ["++student.args.x=1,2"]


def test_bare_words_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.png").touch()
    found = with_positionals(["run x", "a=b.png", "top=2", "it's.png"], "run", "images")
    assert found == ["top=2", 'run="run x"', 'images=["a=b.png","it\'s.png"]']
    assert with_positionals(["run=r", "x.png"], "run", "images") == ["run=r", 'images=["x.png"]']
    assert with_positionals(["r", "more"], "run") == ['run="r"', "more"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=digits"], "digg"),
        (["data=folder", "data.root=."], "unlabelled"),  # the shipped generator knows glyphs only
        (["data=folder", "data.root=.", "transfer_set=labelled"], "labelled"),
        (["data=folder", "data.root=.", "recipe=ota"], "digg"),  # the recipe is about them
        (["data=folder", "data.root=.", "recipe=ssl"], "unlabelled"),
        (["data=folder", "data.root=.", "recipe=ota", "transfer_set=unlabelled"], "unlabelled"),
    ],
)
def test_which_transfer_set_where_none_is_named(words: list[str], expected: str) -> None:
    assert read_config(TransferConfig, "transfer", words).transfer_set.name == expected
