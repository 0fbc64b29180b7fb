"""Signals: a training ends where its state is saved, everything else at once."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Command, until
from refusals import refused
from tiny import run, transfer_words
from torch.utils.data import DataLoader, Dataset
from training_cases import Case, assert_same, weights

from genkt.stopping import Stopped, deferring, part, stop_asked, until_stopped
from genkt.training.steps import run_steps
from genkt.types import UserError

ROOT = Path(__file__).resolve().parents[2]


class Signalled:
    """A log in which a step sends a signal to this process."""

    place = "draw 0"

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def begin(self, stage: str, step: int, known: Any = ()) -> None:
        pass

    def record(self, record: dict[str, float | int | str]) -> None:
        if record["step"] == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, num_workers: int) -> None:
    case = Case(tmp_path / "stopped").with_settings(
        steps=9, log_every=1, save_seconds=1000.0, num_workers=num_workers
    )
    with (
        pytest.raises(Stopped) as caught,
        until_stopped(),
        part("draw 1, kd"),
    ):
        dataclasses.replace(case, log=Signalled(4, signal.SIGTERM)).run()
    assert str(caught.value) == ("stopped by SIGTERM at step 4 of test of draw 1, kd, state saved")
    assert caught.value.exit_code == 143
    state = torch.load(tmp_path / "stopped" / "stage" / "state.pt", weights_only=True)
    assert state["progress"]["step"] == 4
    resumed, curve = case.run()
    whole, whole_curve = dataclasses.replace(case, directory=tmp_path / "whole").run()
    assert_same(weights(whole), weights(resumed))
    assert curve == whole_curve


class Counting:
    """A training of plain steps."""

    step, seconds = 0, 0.0

    def run_step(self) -> dict[str, float]:
        self.step += 1
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 0.0}

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: dict[str, int]) -> None:
        pass


def test_plain_steps_are_saved_too(tmp_path: Path) -> None:
    path = tmp_path / "vqgan" / "state.pt"
    with refused("SIGTERM", 3, kind=Stopped), until_stopped():
        run_steps(Counting(), 9, path, "me", save_seconds=1000.0)
    assert torch.load(path, weights_only=True)["step"] == 3


def test_elsewhere_a_signal_ends_the_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(Stopped) as caught, until_stopped():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(600)
    assert caught.value.exit_code == 128 + signal.SIGUSR1 and not stop_asked()
    assert signal.getsignal(signal.SIGUSR1) is before
    monkeypatch.delenv("SLURM_JOB_ID")
    with until_stopped():
        assert signal.getsignal(signal.SIGUSR1) is before


def test_a_block_that_did_not_look_is_ended_at_its_end() -> None:
    done = False
    with pytest.raises(Stopped), until_stopped(), deferring():
        os.kill(os.getpid(), signal.SIGTERM)
        done = stop_asked()
    assert done


def test_signals_are_left_alone_in_other_threads_and_where_they_are_ignored() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    seen = []

    def look() -> None:
        with until_stopped():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [handler]
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with until_stopped():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not handler
    finally:
        signal.signal(signal.SIGHUP, hangup)
    assert signal.getsignal(signal.SIGTERM) is handler


SECOND = """
import sys, time
from genkt import stopping
stopping._SAME_SECONDS = 0.0
with stopping.until_stopped(), stopping.deferring():
    print("ready", flush=True)
    while not stopping.stop_asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(600)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_a_second_signal_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SECOND], stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    for line in ("ready\n", "asked\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    assert process.wait(600) == -signal.SIGINT


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_command_saves_and_says_so(tmp_path: Path, name: str, code: int) -> None:
    words = transfer_words(tmp_path, "train.steps=100000", "train.save_seconds=1000")
    process = Command(words)
    until((tmp_path / "run" / "metrics.jsonl").is_file, process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == code, err
    (told,) = [line for line in err.splitlines() if line.startswith("genkt ")]
    found = re.search(rf"stopped by {name} at step (\d+) of distil of draw 0, logit_kd", told)
    assert found is not None and "state saved; the same command continues" in told
    (path,) = tmp_path.rglob("state.pt")
    state = torch.load(path, weights_only=True)
    assert state["progress"]["step"] == int(found[1])
    assert not [path for path in tmp_path.rglob(".*.*") if path.suffix in (".pt", ".json")]


class Deadly(Dataset[int]):
    """Its loader process is killed, as the system does where memory runs out."""

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index

    def __len__(self) -> int:
        return 1


def test_a_loader_process_that_was_killed_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(words: list[str]) -> None:
        next(iter(DataLoader(Deadly(), num_workers=1)))

    monkeypatch.setattr("genkt.cli.inspect.run", load)
    ran = run("inspect", "anything")
    assert ran.code == 1 and len(ran.err.splitlines()) == 1, ran.err
    assert "train.num_workers=0" in ran.err

    def fail(words: list[str]) -> None:
        raise RuntimeError("of another kind")

    monkeypatch.setattr("genkt.cli.inspect.run", fail)
    with pytest.raises(RuntimeError, match="of another kind"):
        run("inspect", "anything")


@pytest.mark.parametrize("told_of", [True, False], ids=["from it", "without it"])
def test_what_a_library_makes_of_a_signal_does_not_hide_it(
    told_of: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(words: list[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
        except KeyboardInterrupt:
            if told_of:
                raise AttributeError("in the middle of something")  # noqa: B904
        raise UserError("in the middle of something")

    monkeypatch.setattr("genkt.cli.inspect.run", work)
    ran = run("inspect", "anything")
    assert ran.code == 143 and "SIGTERM" in ran.err and "middle" not in ran.err
