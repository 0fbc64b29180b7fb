"""Commands that want the same folder at the same time."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from teacher.pretrain_teacher import pretrain

from genkt.locks import LOCKS, at_work, claiming, refuse_at_work, who_is_at_work
from genkt.runs.run_folder import RunFolder
from genkt.types import UserError

CONTEXT = multiprocessing.get_context("fork")


def folder(path: Path, overwrite: bool = False, **changes: Any) -> RunFolder:
    return RunFolder(path, {"seed": 0, **changes}, overwrite=overwrite)


def _holder(path: Path, pipe: Connection) -> None:
    run = folder(path)
    run.claim("first")
    with run.at_work():
        pipe.send("at work")
        pipe.recv()


class Other:
    """A process that is at work in a folder until it is told to end, or killed."""

    def __init__(self, path: Path) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_holder, args=(path, theirs))
        self.process.start()
        assert self.pipe.recv() == "at work"

    def end(self, *, kill: bool = False) -> None:
        self.process.kill() if kill else self.pipe.send("end")
        self.process.join()


def test_of_two_commands_with_other_settings_one_gets_the_folder(tmp_path: Path) -> None:
    """Both have looked at the empty folder before either claims it."""
    first, second = folder(tmp_path / "run"), folder(tmp_path / "run", seed=1)
    first.claim("first")
    with refused(0, 1):
        second.claim("second")
    with first.at_work():
        pass
    assert "first" in (tmp_path / "run" / "config.yaml").read_text()


def test_many_at_once_leave_one_run(tmp_path: Path) -> None:
    runs = [folder(tmp_path / "run", seed=number % 3) for number in range(9)]

    def claim(run: RunFolder) -> int | None:
        try:
            run.claim("x")
        except UserError:
            return None
        with run.at_work():
            return int(run.config["seed"])

    with ThreadPoolExecutor(9) as pool:
        claimed = [seed for seed in pool.map(claim, runs) if seed is not None]
    assert len(set(claimed)) == 1 and len(claimed) == 3
    assert not (tmp_path / "run" / LOCKS).exists()


def test_a_run_at_work_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run"
    other = Other(path)
    (path / "state").touch()
    with refused(f"process {other.process.pid}"):
        folder(path, overwrite=True, seed=1).claim("second")
    same = folder(path, overwrite=True)  # the same settings share it
    same.claim("first")
    assert (path / "state").exists()
    other.end()
    folder(path, overwrite=True, seed=1).claim("second")
    assert not (path / "state").exists()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    other = Other(path)
    other.end(kill=True)
    assert list((path / LOCKS).glob("running-*"))
    folder(path, overwrite=True, seed=1).claim("second")
    assert who_is_at_work(path) is None and not (path / LOCKS).exists()


def test_a_folder_that_was_replaced_before_the_work_began_is_left_alone(tmp_path: Path) -> None:
    first = folder(tmp_path / "run")
    first.claim("first")
    folder(tmp_path / "run", overwrite=True, seed=1).claim("second")
    with refused("run"), first.at_work():
        raise AssertionError


def test_a_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    with at_work(tmp_path / "out", lambda: None, alone=True):
        waiting = folder(tmp_path / "out")
        with refused(f"process {os.getpid()}"):
            waiting.claim("x")
        with (
            refused("out"),
            at_work(tmp_path / "out", lambda: None, alone=True),
        ):
            raise AssertionError
    refuse_at_work(tmp_path / "out")
    waiting.claim("x")
    settings = dataclasses.make_dataclass("Settings", [])()
    with refused("out"):
        pretrain(settings, tmp_path / "out")


def test_a_lock_that_its_holder_removes_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, seen = [0], [0]

    def enter(_: int) -> None:
        for _ in range(5):
            with claiming(tmp_path / "new"):
                inside[0] += 1
                seen[0] = max(seen[0], inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(8)))
    assert seen == [1] and not (tmp_path / "new" / LOCKS).exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "far")
    (tmp_path / "file").touch()
    for place in (tmp_path / "link", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot be created"), claiming(place):
            raise AssertionError
