"""Sets and students made by several processes: the same, wherever they are made."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from forked import Command, until
from refusals import refused
from test_generated import NUM_MADE, digg_words
from tiny import run, transfer_words, tree

from genkt import precision
from genkt.api.transfer import _read
from genkt.cli.app import read_config
from genkt.config.irf_settings import IRF_SETTINGS, same_training
from genkt.config.transfer_settings import TransferConfig
from genkt.execution.process_pool import num_places
from genkt.execution.tasks import ExecutorSettings
from genkt.models.load import ModelSpec, load_model
from genkt.runs import run_folder
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog
from genkt.training.stage import Record
from genkt.transfers import side_by_side
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun
from genkt.transfers.run_transfer import _shared
from genkt.transfers.side_by_side import (
    StudentTask,
    beside_others,
    num_processes,
    student_tasks,
    threads_each,
    work_ahead,
)
from genkt.transfers.train_student import train_student
from genkt.types import DamagedError, UserError

STEPS = ["train.steps=30"]
FILES = ("student.safetensors", "probabilities.npy")


def config(home: Path, *words: str) -> TransferConfig:
    return read_config(TransferConfig, "transfer", transfer_words(home, "draws=5", *words)[1:])


def assert_same_students(home: Path, other: Path, number: int) -> None:
    """Equal bits, and one record a step of each."""
    places = sorted(path.parent for path in (home / "draws").glob("*/*/result.json"))
    assert len(places) == number
    for place in places:
        for name in FILES:
            found = (other / place.relative_to(home) / name).read_bytes()
            assert (place / name).read_bytes() == found, place / name
    one, two = (sorted(records(folder)) for folder in (home, other))
    assert one == two and one


def records(home: Path) -> list[tuple[Any, ...]]:
    lines = (home / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [(line["draw"], line["arm"], line["stage"], line["step"]) for line in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two draws, each with a set of its own, in this process; others share its images."""
    home = tmp_path_factory.mktemp("alone")
    with precision.threads(1):
        assert run(*digg_words(home, "executor=inline", *STEPS)).code == 0
    return home


def pool_words(alone: Path, out: Path) -> list[str]:
    pool = ["executor=pool", "executor.num_workers=2", f"cache={out.with_name('cache')}"]
    return [*digg_words(alone, *pool, *STEPS), f"out={out}"]


def assert_same_sets(home: Path, other: Path) -> None:
    """Equal pictures, tokens and records; texts name the folder or hold times."""
    one, two = (tree(folder / "transfer_sets") for folder in (home, other))
    texts = {name for name in one if one[name] != two.get(name)}
    assert one.keys() == two.keys() and len(one) - len(texts) > 2 * NUM_MADE
    assert {Path(name).suffix for name in texts} <= {".json", ".log", ".yaml", ".html", ".md"}


def test_processes_give_the_sets_and_students_of_one(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the test command sets it
    ran = run(*pool_words(alone, tmp_path / "pool"))
    assert ran.code == 0, ran.err
    assert_same_students(alone / "run", tmp_path / "pool", 4)
    assert_same_sets(alone / "run", tmp_path / "pool")
    stores, others = (list((home / "cache").glob("*")) for home in (alone, tmp_path))
    assert {path.name for path in stores} == {path.name for path in others}
    said = (tmp_path / "pool" / "train.log").read_text(encoding="utf-8")
    assert said.count(f"{NUM_MADE} images in ") == 2
    for draw in range(2):
        assert said.count(f"draw {draw}, stl: ") == said.count(f"draw {draw}, logit_kd: ") == 1
    assert not [path for path in (tmp_path / "pool").rglob("*.lock")]


def test_killed_with_its_processes_at_work_it_ends_with_the_same_bits(
    alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    words = pool_words(alone, out)
    process = Command(words, env={"OMP_NUM_THREADS": "1"})
    until(lambda: list(out.glob("transfer_sets/*/run.json")), process)  # a set has begun
    process.kill()
    assert not (out / "report.json").exists()
    with precision.threads(1):  # alone: this process sees what the others have left
        again = run(*words, "executor=inline")
    assert again.code == 0, again.err
    assert_same_students(alone / "run", out, 4)
    assert_same_sets(alone / "run", out)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["executor=pool", "executor.num_workers=3"], 3),
        (["executor=pool", "executor.num_workers=9"], 5),  # one per draw
        (["executor=pool", "executor.num_workers=3", "draws=1"], 1),
        (["executor=inline"], 1),
    ],
)
def test_how_many_processes(tmp_path: Path, words: list[str], number: int) -> None:
    assert num_processes(config(tmp_path, *words)) == number


def test_no_student_waits_for_another(tmp_path: Path) -> None:
    tasks = student_tasks(config(tmp_path, "draws=2"), {})
    names = [task.name for task in tasks]  # the first fills the caches
    assert names == ["draw 0, logit_kd", "draw 0, stl", "draw 1, stl", "draw 1, logit_kd"]
    tasks = student_tasks(config(tmp_path, "draws=2", "recipe=irf"), {})
    kinds = [same_training(task.arm) == task.arm for task in tasks if task.arm in IRF_SETTINGS]
    assert kinds == sorted(kinds, reverse=True) and not all(kinds)


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
    with precision.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("executor", "seconds", "left", "processes"),
    [
        ("auto", 0.1, 10, None),  # nothing to save
        ("auto", 30.0, 10, 2),
        ("auto", 30.0, 1, None),  # nobody to share with
        ("pool", 0.0, 3, 2),
        ("inline", 60.0, 10, None),
    ],
)
def test_who_trains_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, seconds: float, left: int,
    processes: int | None,
) -> None:  # fmt: skip
    started: list[tuple[list[StudentTask], ExecutorSettings]] = []
    monkeypatch.setattr(
        side_by_side, "run_tasks", lambda tasks, executor, **_: started.append((tasks, executor))
    )
    run = planned(tmp_path, executor, seconds, monkeypatch)
    tasks = student_tasks(run.config, {})
    for task in tasks[left:]:
        place = tmp_path / "run" / "draws" / str(task.draw) / task.arm
        place.mkdir(parents=True)
        (place / "result.json").touch()
    work_ahead(run, {})
    if processes is None:
        assert not started
    else:
        assert [task for task in started[0][0] if not task.is_done()] == tasks[:left]
        assert started[0][1] == ExecutorSettings("pool", processes, None)


def planned(
    home: Path, executor: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> OpenedRun:
    """A run of five draws on two cores, whose students take so long."""
    monkeypatch.setattr(side_by_side, "num_places", lambda *, on_gpu: 2)
    monkeypatch.setattr(side_by_side, "_seconds_a_student", lambda run: seconds)
    given = config(home, f"executor={executor}", f"out={home / 'run'}")
    return open_run(given, RunFolder(given.out, {}, overwrite=False))


def opened(home: Path, *words: str) -> OpenedRun:
    given = config(home, *words)
    return open_run(given, RunFolder(given.out, {}, overwrite=False))


def test_the_time_of_a_student_is_that_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path, "train.steps=50", "finetune.steps=14", "train.batch_size=12")
    before = torch.random.get_rng_state()
    ticks = itertools.count()  # a second from one look at the clock to the next
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: float(next(ticks)))
    assert side_by_side._seconds_a_student(run) == (50 + 14) * 12 / 8  # 8 images a second
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_launch_goes_the_way_of_its_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_sets(opened(tmp_path, "draws=1"))
    monkeypatch.setattr(run.opened.fabric, "broadcast", lambda there: True)  # it sees the student
    with refused("result.json", kind=DamagedError):
        train_student(run, run.pool.draws[0], "stl")  # so this one reads it, trains nothing


def test_waiting_for_a_cache_is_no_work_on_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_folder, "_QUIET_SECONDS", 0.05)
    run = with_sets(opened(tmp_path, "draws=1"))
    student = run.opened.fresh_student()
    training = run.training(run.pool.draws[0], "logit_kd", tmp_path, student)
    taken, waited = threading.Event(), []

    def other() -> None:
        with run.folder.lock("teacher outputs"):
            taken.set()
            while "teacher outputs: " not in caplog.text:  # that it is waited for
                time.sleep(0.01)
            seen = time.perf_counter()
            time.sleep(0.5)
            waited.append(time.perf_counter() - seen)

    holder = threading.Thread(target=other)
    holder.start()
    taken.wait()
    started = time.perf_counter()
    training.teachers()
    elapsed = time.perf_counter() - started
    holder.join()
    assert 0 < training.costs["teachers"].seconds <= elapsed - waited[0]


@pytest.mark.parametrize("executor", ["auto", "pool"])
def test_auto_goes_on_alone_where_processes_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    executor: str,
) -> None:  # fmt: skip
    def dead(*_: Any, **__: Any) -> None:
        raise UserError("draw 1, stl: 3 processes died in it")

    monkeypatch.setattr(side_by_side, "run_tasks", dead)
    run = planned(tmp_path, executor, 60.0, monkeypatch)
    if executor == "pool":
        with refused("draw 1, stl", 3):
            work_ahead(run, {})
    else:
        work_ahead(run, {})
        assert "3 processes died in it; this process continues alone" in caplog.text


def test_ray_does_not_train_draws(tmp_path: Path) -> None:
    with refused("executor", "ray"):
        config(tmp_path, "executor=ray")


def test_a_part_that_another_process_is_at_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_folder, "_QUIET_SECONDS", 0.1)
    folder = RunFolder(tmp_path / "run", {}, overwrite=False)
    order: list[str] = []

    def second() -> None:
        with folder.lock("draw 1, stl"):
            order.append("second")

    waiter = threading.Thread(target=second)
    with folder.lock("draw 1, stl"):
        waiter.start()
        while "draw 1, stl: another process is making it" not in caplog.text:
            time.sleep(0.01)
        order.append("first")
    waiter.join()
    assert order == ["first", "second"]
    with folder.lock("draw 2, stl"):  # others are free
        pass
    folder.end()
    assert not list((tmp_path / "run").iterdir())


def test_objects_are_trained_here_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import genkt

    model = timm.create_model("resnet18", layers=[1] * 4, channels=[8, 8, 16, 16], num_classes=3)
    words = [word for word in transfer_words(tmp_path)[1:] if not word.startswith("student")]
    result = genkt.transfer(*words, "executor=pool", "draws=3", "method=stl", student=model)
    assert len(result.report.cells) == 3
    assert "executor=pool: other processes cannot load objects given in Python" in caplog.text


def test_objects_stay_in_their_process(tmp_path: Path) -> None:
    student = load_model(ModelSpec("genkt:digits_teacher"))
    words = transfer_words(tmp_path)[1:]
    named, _ = _read(words, {})
    assert _shared(named) and named.executor.name == "inline"
    plain = [word for word in words if not word.startswith(("student", "teacher"))]
    for key, value in (("student", student), ("teacher", [student])):
        given, _ = _read(plain, {key: value})
        assert not _shared(given)
    asked, _ = _read([*words, "executor=pool"], {})
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
