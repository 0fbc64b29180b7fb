"""Label draws in processes of their own: the same students, wherever they are trained."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import run, transfer_words
from tqdm import tqdm

from genkt.api import _read
from genkt.cli.app import read_config
from genkt.execution.pool import num_places
from genkt.execution.tasks import ExecutorSettings
from genkt.models.load import ModelSpec, load_model
from genkt.recipes import side_by_side
from genkt.recipes.config import TransferConfig
from genkt.recipes.run_folder import RunLog
from genkt.recipes.side_by_side import (
    DrawsTask,
    beside_others,
    num_processes,
    threads_each,
    train_others,
)
from genkt.training.stage import Record

FILES = ("student.safetensors", "probabilities.npy")


def config(home: Path, *words: str) -> TransferConfig:
    return read_config(TransferConfig, "transfer", transfer_words(home, "draws=5", *words)[1:])


def test_processes_give_the_students_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the test command sets it
    pool = ["executor=pool", "executor.num_workers=2", f"out={tmp_path / 'pool'}"]
    assert run(*transfer_words(tmp_path, "draws=3", *pool)).code == 0
    alone = ["executor=inline", f"out={tmp_path / 'inline'}"]
    assert run(*transfer_words(tmp_path, "draws=3", *alone)).code == 0
    for place in sorted((tmp_path / "inline" / "draws").glob("*/*/result.json")):
        for name in FILES:
            one, other = (
                place.parent / name,
                tmp_path / "pool" / place.relative_to(tmp_path / "inline").with_name(name),
            )
            assert one.read_bytes() == other.read_bytes(), one
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("pool", "inline")]
    assert len(lines[0].splitlines()) == len(lines[1].splitlines()) > 0
    said = (tmp_path / "pool" / "train.log").read_text(encoding="utf-8")
    for draw in range(3):
        assert said.count(f"draw {draw}, stl: ") == said.count(f"draw {draw}, logit_kd: ") == 1
    assert not (tmp_path / "pool" / ".metrics.lock").exists()


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["executor=pool", "executor.num_workers=3"], 3),
        (["executor=pool", "executor.num_workers=9"], 4),  # the first draw is trained by the run
        (["executor=pool", "executor.num_workers=3", "draws=2"], 1),
        (["executor=inline"], 1),
    ],
)
def test_how_many_processes(tmp_path: Path, words: list[str], number: int) -> None:
    assert num_processes(config(tmp_path, *words)) == number


def test_the_processes_of_a_launch_train_every_student_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert num_processes(config(tmp_path, "executor=pool", "executor.num_workers=3")) == 1


def test_students_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    two = config(tmp_path, "executor=pool", "executor.num_workers=2")
    assert threads_each(two) == max(1, num_places(on_gpu=False) // 2)
    assert threads_each(config(tmp_path, "executor=inline")) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the user has decided
    assert threads_each(two) is None
    auto = config(tmp_path, "executor=pool", "executor.num_workers=4", "train.num_workers=auto")
    monkeypatch.setattr(side_by_side, "num_places", lambda *, on_gpu: 10)
    assert beside_others(auto).train.num_workers == 1  # 10 cores, 4 processes of 2
    assert beside_others(two).train.num_workers == two.train.num_workers == 0
    before = torch.get_num_threads()
    with side_by_side.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("executor", "seconds", "finished", "expected"),
    [
        ("auto", 0.1, [], None),  # nothing to save
        ("auto", 60.0, [], [(1, 3), (2, 4)]),
        ("auto", 60.0, [1, 2, 3], None),  # one draw is left: nobody to share with
        ("pool", 0.0, [2], [(1, 4), (3,)]),
        ("inline", 60.0, [], None),
    ],
)
def test_who_trains_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, seconds: float,
    finished: list[int], expected: list[tuple[int, ...]] | None,
) -> None:  # fmt: skip
    started: list[tuple[list[DrawsTask], ExecutorSettings]] = []
    monkeypatch.setattr(
        side_by_side, "run_tasks", lambda tasks, executor, **_: started.append((tasks, executor))
    )
    monkeypatch.setattr(side_by_side, "num_places", lambda *, on_gpu: 2)
    given = config(tmp_path, f"executor={executor}", f"out={tmp_path / 'run'}")
    for draw in finished:
        for arm in given.arms:
            place = tmp_path / "run" / "draws" / str(draw) / arm
            place.mkdir(parents=True)
            (place / "result.json").touch()
    with tqdm(total=10, disable=True) as bar:
        train_others(given, {}, seconds, bar)
    if expected is None:
        assert not started
    else:
        assert [task.draws for task in started[0][0]] == expected
        assert started[0][1].name == "pool"


def test_objects_stay_in_their_process(tmp_path: Path) -> None:
    student = load_model(ModelSpec("genkt:digits_teacher"))
    named, given = _read(transfer_words(tmp_path)[1:], {})
    assert given.found_by_name(named) and named.executor.name == "inline"
    assert not replace(given, student=student).found_by_name(named)
    assert not replace(given, teachers=[student]).found_by_name(named)
    asked = _read([*transfer_words(tmp_path)[1:], "executor=pool"], {})[0]
    assert asked.executor.name == "pool"


def test_writers_of_one_log_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    count, arms = 40, ("a", "b", "c")

    def write(arm: str) -> None:
        log = RunLog(tmp_path).stage(0, arm)
        for step in range(count):
            if step % 5 == 0:
                log.begin("stage", step)
            record: Record = {"stage": "stage", "step": step, "loss": 1.0}
            log.record(record)
        log.begin("stage", count // 2)  # drops its own later half, and nobody else's
        log.close()

    writers = [threading.Thread(target=write, args=(arm,)) for arm in arms]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(arms) * (count // 2 + 1)
