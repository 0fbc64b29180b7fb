"""A killed training, started again, ends with the same bits; a foreign state is refused."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import CONTEXT
from refusals import refused
from training_cases import KD, METHODS, Case, assert_same, tiny_net, tiny_resnet, weights

from genkt.data.views import ViewSpec
from genkt.methods.base import WeightRule
from genkt.training.checkpoint import load_state, save_state
from genkt.training.identity import stage_identity


class Tell:
    """A log that tells the parent process every step; a few behind ``last`` it waits to be killed.

    A busy machine may keep the parent from killing it for as long as all of its steps take.
    """

    place = "draw 0"

    def __init__(self, pipe: Connection, last: int) -> None:
        self.pipe, self.last = pipe, last

    def begin(self, stage: str, step: int, known: Any = ()) -> None:
        self.pipe.send(("begin", step))

    def record(self, record: dict[str, float | int | str]) -> None:
        self.pipe.send(("record", record["step"]))
        while int(record["step"]) > self.last + 3:
            time.sleep(600)


def _child(case: Case, pipe: Connection, last: int) -> None:
    # Loader processes of a fork server would outlive this one: they look whether that one is there.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    dataclasses.replace(case, log=Tell(pipe, last)).run()
    pipe.send(("end", 0))


def run_and_kill(case: Case, step: int) -> int:
    """Start the training in a process of its own, SIGKILL it at ``step``; where it had started."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_child, args=(case, there, step))
    process.start()
    there.close()
    started = -1
    while True:
        event, value = here.recv()
        started = value if event == "begin" else started
        assert event != "end", "it ended before it could be killed"
        if event == "record" and value >= step:
            break
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return started


def dropout_net() -> Any:
    return tiny_net(dropout=0.3)


def half(_: Any) -> float:
    return 0.5


CASES: dict[str, tuple[str, dict[str, Any], Callable[[], Any]]] = {
    "adamw": ("kd", {}, dropout_net),
    "sgd and batch norm": ("stl", {"optimizer": "sgd"}, tiny_resnet),
    "averaged weights": ("stl", {"ema": 0.9, "ema_every": 3}, tiny_resnet),
    "aft": ("aft", {"accumulate": 2}, dropout_net),
    "bilevel": ("bilevel", {}, tiny_net),
    "memory banks": ("crd", {"accumulate": 2}, dropout_net),
    "saved seldom": ("aft", {"save_seconds": 0.05, "num_workers": 1, "steps": 200}, dropout_net),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_twice_it_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    method, changes, student = CASES[name]
    views = ViewSpec(num_views=2, hflip=True)
    case = Case(tmp_path / "killed", method, student=student, views=views, evaluate=half)
    case = case.with_settings(**{"steps": 40, "log_every": 1, "eval_every": 7, **changes})
    draws = random.Random(name)
    first, second = draws.randint(3, 10), draws.randint(11, 16)
    assert run_and_kill(case, first) == 0
    (tmp_path / "killed" / "stage" / ".state.pt.half.pt").write_bytes(b"half written")
    started = run_and_kill(case, second)
    if case.settings.save_seconds == 0:
        assert started > 0  # it went on from what it had saved
    state = torch.load(tmp_path / "killed" / "stage" / "state.pt", weights_only=True)
    assert 0 < state["progress"]["step"] < case.settings.steps
    torch.set_num_threads(1)
    case = case.with_settings(save_seconds=9.0)  # each save waits for the disk
    whole, curve = dataclasses.replace(case, directory=tmp_path / "whole").run()
    resumed, resumed_curve = case.run()
    assert_same(weights(whole), weights(resumed))
    assert curve == resumed_curve
    assert not list((tmp_path / "killed" / "stage").glob(".*"))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    case = Case(tmp_path, "aft", evaluate=half).with_settings(ema=0.9, select="best")
    first, curve = case.run()
    written = (tmp_path / "stage" / "state.pt").stat().st_mtime_ns
    again, same_curve = case.run()
    assert_same(weights(first), weights(again))
    assert curve == same_curve
    assert (tmp_path / "stage" / "state.pt").stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["gone", "a link to nothing", "altered"])
@pytest.mark.parametrize("select", ["best", "last"])
def test_a_stage_without_its_best_weights_is_trained_again(
    select: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(tmp_path, "aft", evaluate=half).with_settings(select=select)
    first, curve = case.run()
    best = tmp_path / "stage" / "best.safetensors"
    data = best.read_bytes()
    best.unlink()
    if damage == "a link to nothing":
        best.symlink_to(tmp_path / "nothing")
    if damage == "altered":
        best.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again, same_curve = case.run()
    assert "best.safetensors" in caplog.text and "trained again" in caplog.text
    assert_same(weights(first), weights(again))
    assert curve == same_curve
    assert best.read_bytes() == data


OTHERS: dict[str, Callable[[Case], Case]] = {
    "rate": lambda case: case.with_settings(lr=0.5),
    "length": lambda case: case.with_settings(steps=7),
    "seed": lambda case: dataclasses.replace(case, seed=4),
    "student": lambda case: dataclasses.replace(case, student=lambda: tiny_net(1)),
    "teacher": lambda case: dataclasses.replace(case, teacher=lambda: tiny_net(8, 6)),
    "online": lambda case: dataclasses.replace(case, online=True),
    "views": lambda case: dataclasses.replace(case, views=ViewSpec(num_views=2, hflip=True)),
    "rows": lambda case: dataclasses.replace(case, labelled_only=True),
    "head": lambda case: dataclasses.replace(case, head_only=True),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_training_is_refused(tmp_path: Path, other: str) -> None:
    case = Case(tmp_path, "kd")
    case.run()
    with refused("state.pt"):
        OTHERS[other](case).run()


def test_another_option_of_the_method_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Case(tmp_path, "kd").run()
    monkeypatch.setitem(METHODS, "kd", dataclasses.replace(KD, temperature=3.0))
    with refused("state.pt"):
        Case(tmp_path, "kd").run()


def test_the_state_of_another_average_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, averaged = Case(tmp_path / "plain"), Case(tmp_path / "ema").with_settings(ema=0.9)
    plain.run()
    averaged.run()
    monkeypatch.setattr("genkt.training.identity.AVERAGE_RULE", "as it was before")
    plain.run()  # has none
    with refused("state.pt"):
        averaged.run()


def test_momentum_is_another_training(tmp_path: Path) -> None:
    stages = [Case(tmp_path).stage() for _ in range(3)]
    stages[1].momentum, stages[2].momentum = WeightRule(0.9, 1), WeightRule(0.9, 2)
    assert len({stage_identity(stage, 6) for stage in stages}) == 3


def test_what_does_not_change_the_result_may_change(tmp_path: Path) -> None:
    stage, _ = Case(tmp_path).run()
    again, _ = Case(tmp_path).with_settings(save_seconds=9.0, num_workers=1, log_every=1).run()
    assert_same(weights(stage), weights(again))


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_a_damaged_state_is_named(tmp_path: Path, keep: int) -> None:
    Case(tmp_path).run()
    path = tmp_path / "stage" / "state.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with refused("state.pt") as caught:
        Case(tmp_path).run()
    assert "\n" not in str(caught.value)


def test_states_are_plain_values_and_tensors(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert load_state(path, "me") is None
    save_state(path, {"identity": "me", "value": torch.ones(2)})
    state = load_state(path, "me")
    assert state is not None and state["value"].tolist() == [1.0, 1.0]
    torch.save([1, 2], path)
    with refused("state.pt"):
        load_state(path, "me")
    torch.save({"identity": "me", "run": functools.partial(print, "executed")}, path)
    with refused("state.pt"):
        load_state(path, "me")
