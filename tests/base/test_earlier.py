"""Settings that earlier versions called otherwise, or did not have yet."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tiny import run
from training_cases import Case

import genkt
from genkt import earlier
from genkt.config.read_config import read_config, with_settings
from genkt.config.transfer_settings import TransferConfig
from genkt.earlier import as_now, new_key
from genkt.runs.run_folder import RunFolder
from genkt.training.identity import stage_identity
from genkt.types import UserError


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``train.lr`` was called ``train.pace`` once, and the group ``finetune`` ``last_stage``."""
    monkeypatch.setitem(earlier.RENAMED, "train.pace", "train.lr")
    monkeypatch.setitem(earlier.RENAMED, "last_stage", "finetune")


def answer(words: list[str], **settings: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        genkt.transfer(*words, **settings) if settings else read_config(
            TransferConfig, "transfer", words
        )
    return str(caught.value).splitlines()


NEW = "train.pace: is now train.lr"


@pytest.mark.usefixtures("renamed")
def test_a_renamed_setting_is_answered_on_the_command_line() -> None:
    assert answer(["train.pace=1"]) == answer(["++train.pace=1"]) == [NEW]
    assert answer(["last_stage.lr=1"]) == ["last_stage.lr: is now finetune.lr"]
    ran = run("transfer", "train.pace=1")
    assert ran.code == 2 and ran.lines == [f"genkt transfer: {NEW}"]


@pytest.mark.usefixtures("renamed")
def test_a_renamed_setting_is_answered_in_python() -> None:
    assert answer([], train={"pace": 1}) == [NEW]
    assert answer([], last_stage={"steps": 1}) == ["last_stage.steps: is now finetune.steps"]
    with pytest.raises(UserError) as caught:
        with_settings(read_config(TransferConfig, "transfer", []), {"train.pace": 1.0})
    assert str(caught.value) == NEW


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize("text", ["defaults: [transfer, _self_]\n", ""])
def test_a_renamed_setting_is_answered_in_yaml(text: str, tmp_path: Path, finished: Path) -> None:
    name = "again" if text else "old"
    own = text + "train: {pace: 1}\n"
    if not text:  # all settings of a run that was recorded under the old name
        own = (finished / "run" / "config.yaml").read_text(encoding="utf-8")
        own = own.replace("\n  lr: 0.002\n", "\n  pace: 0.002\n", 1)
        assert "pace" in own
    (tmp_path / f"{name}.yaml").write_text(own, encoding="utf-8")
    assert answer([f"--config-dir={tmp_path}", f"--config-name={name}"]) == [NEW]


@pytest.mark.usefixtures("renamed")
def test_a_renamed_setting_is_answered_in_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ntrain: {pace: 1}\n", encoding="utf-8")
    assert answer([f"--config-dir={tmp_path}", "experiment=mine"]) == [NEW]


@pytest.mark.usefixtures("renamed")
def test_other_unknown_settings_are_answered_as_ever() -> None:
    assert new_key("train.pacer") is new_key("pace") is None
    (line,) = answer(["train.learning_rate=1"])
    assert line.endswith("Did you mean train.lr?")


@pytest.mark.usefixtures("renamed")
def test_a_run_recorded_with_the_old_name_is_the_same_run(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"train": {"pace": 1, "steps": 2}}, overwrite=False).claim("genkt")
    now = {"train": {"lr": 1, "steps": 2}}
    RunFolder(tmp_path, now, overwrite=False)
    now["train"]["lr"] = 3
    with pytest.raises(UserError) as caught:
        RunFolder(tmp_path, now, overwrite=False)
    assert str(caught.value).splitlines()[1:] == ["train.lr: was 1, now 3"]


def test_every_new_name_exists() -> None:
    """Of ``genkt transfer``, which has every group; and no old one does."""
    plain = asdict(read_config(TransferConfig, "transfer", []))
    for old, new in earlier.RENAMED.items():
        assert lookup(plain, new) is not None and lookup(plain, old) is None, old


def lookup(plain: Any, key: str) -> Any:
    for name in key.split("."):
        plain = plain.get(name, {}) if isinstance(plain, dict) else {}
    return plain if plain != {} else None


def test_a_setting_that_came_later_changes_no_run_where_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"train": {"steps": 2}, "stages": {"a": {"lr": 1}, "b": {}}}
    RunFolder(tmp_path, before, overwrite=False).claim("genkt")
    now = copy.deepcopy(before)
    now["train"]["jolt"] = 0
    now["stages"]["b"]["jolt"] = 5
    with pytest.raises(UserError) as caught:
        RunFolder(tmp_path, now, overwrite=False)
    assert str(caught.value).splitlines()[1:] == [
        "train.jolt: was null, now 0", "stages.b.jolt: was null, now 5",
    ]  # fmt: skip
    monkeypatch.setitem(earlier.ADDED, "train.jolt", 0)
    monkeypatch.setitem(earlier.ADDED, "stages.*.jolt", 5)
    RunFolder(tmp_path, now, overwrite=False)
    RunFolder(tmp_path, before, overwrite=False)  # of settings that do not have it
    now["train"]["jolt"] = 1
    with pytest.raises(UserError) as caught:
        RunFolder(tmp_path, now, overwrite=False)
    assert str(caught.value).splitlines()[1:] == ["train.jolt: was 0, now 1"]


def test_what_is_filled_where_no_settings_of_now_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(earlier.ADDED, "teacher.dense", False)
    monkeypatch.setitem(earlier.ADDED, "budget", None)
    recorded = {"teacher": {"model": "a"}, "seed": 0}
    filled = {"model": "a", "size": None, "dense": False}
    assert as_now(recorded) == {"teacher": filled, "seed": 0}
    assert recorded == {"teacher": {"model": "a"}, "seed": 0}  # left as it was
    assert as_now({"seed": 0}) == {"seed": 0}


def test_a_saved_state_does_not_know_settings_that_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if ``train.ema_every`` had come later, and 1 were what was done before."""
    stage = Case(tmp_path, "kd").stage()
    whole = stage_identity(stage, 4)
    monkeypatch.setitem(earlier.ADDED, "train.ema_every", stage.settings.ema_every + 1)
    assert stage_identity(stage, 4) == whole
    monkeypatch.setitem(earlier.ADDED, "train.ema_every", stage.settings.ema_every)
    assert stage_identity(stage, 4) != whole
