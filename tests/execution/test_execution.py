"""Any executor gives the same results, whatever dies, fails or is interrupted."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from execution_cases import (
    AUTO,
    INLINE,
    POOL,
    SIZE,
    LineTask,
    processes_of_tasks,
    results,
    tasks,
)
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

import genkt
from genkt.cli.app import read_config
from genkt.cli.main import main
from genkt.config.cache_settings import CacheConfig
from genkt.execution.process_pool import MOST_DEATHS, run_in_pool
from genkt.execution.ranks import ALONE, Processes, device_here, launched
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings, Progress, processes_of, run_task
from genkt.types import UserError

run_module = importlib.import_module("genkt.execution.run_tasks")  # its name is the function's too
CASES = Path(__file__).parents[1] / "execution_cases.py"
TORCHRUN = ("RANK", "WORLD_SIZE")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")


def start(
    home: Path, settings: ExecutorSettings, fault: str = "", **environment: str
) -> subprocess.Popen[str]:
    """The tasks in a process of its own, which leads a process group."""
    given = [settings.name, settings.num_workers, settings.address]
    root = str(Path(genkt.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, str(CASES), str(home), fault, json.dumps(given)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=os.environ | {"PYTHONPATH": root} | environment,
    )  # fmt: skip


def until(condition: object, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waits for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What one process makes of the tasks."""
    run_tasks(tasks(tmp_path / "expected"), INLINE, description="")
    return results(tmp_path / "expected")


def test_a_pool_gives_what_one_process_gives(tmp_path: Path, expected: dict[str, bytes]) -> None:
    run_tasks(tasks(tmp_path), POOL, description="")
    assert results(tmp_path) == expected and len(expected) == 7
    ran = processes_of_tasks(tmp_path)
    assert len(set.union(*ran.values())) == 2 and all(len(by) == 1 for by in ran.values())
    assert os.getpid() not in set.union(*ran.values())
    run_tasks(tasks(tmp_path, "die"), POOL, description="")  # done: not run again


@pytest.mark.parametrize("names", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_ranks_share_the_tasks_and_wait_for_each_other(
    tmp_path: Path, expected: dict[str, bytes], names: tuple[str, str]
) -> None:
    ranks = [start(tmp_path, AUTO, **{names[0]: str(r), names[1]: "2"}) for r in (0, 1)]
    for rank in ranks:
        assert rank.wait(600) == 0, rank.communicate()
    assert results(tmp_path) == expected
    by_rank = [{n for n, by in processes_of_tasks(tmp_path).items() if r.pid in by} for r in ranks]
    assert by_rank == [{0, 2, 4, 6}, {1, 3, 5}]


def test_a_rank_returns_when_the_others_are_done(tmp_path: Path) -> None:
    own, others = tasks(tmp_path)[::2], tasks(tmp_path)[1::2]
    timer = threading.Timer(0.3, lambda: [run_task(each, lambda _: None) for each in others])
    timer.start()
    run_tasks(tasks(tmp_path), AUTO, description="", processes=Processes(0, 2))
    assert len(results(tmp_path)) == len(own) + len(others)


def test_a_killed_worker_is_replaced_and_its_task_run_again(
    tmp_path: Path, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told: list[int] = []
    pool = importlib.import_module("genkt.execution.process_pool")
    monkeypatch.setattr(pool, "_QUIET_SECONDS", 0.001)
    run_in_pool(tasks(tmp_path, "die once"), 2, told.append, on_gpu=False)
    assert results(tmp_path) == expected  # what the first had begun beside its place is gone
    assert len(processes_of_tasks(tmp_path)[3]) == 2
    assert "line 3: its process died (SIGKILL); it is run again" in caplog.text
    assert sum(told) == 7 * SIZE and -2 in told
    assert 0 in told  # while the processes start, there is nothing to hear of them


@pytest.mark.skipif(sys.platform != "linux", reason="semaphores lie in /dev/shm")
def test_locks_of_a_pools_processes_have_no_name_to_leave(tmp_path: Path) -> None:
    run_tasks(tasks(tmp_path, "locks"), POOL, description="")
    assert len(results(tmp_path)) == 7


def test_a_task_that_kills_every_process_is_named(tmp_path: Path) -> None:
    with refused(3, "SIGKILL"):
        run_tasks(tasks(tmp_path, "die"), POOL, description="")
    assert len(processes_of_tasks(tmp_path)[3]) == MOST_DEATHS
    assert "3" not in results(tmp_path)


@pytest.mark.parametrize("settings", [INLINE, POOL], ids=lambda s: s.name)
@pytest.mark.parametrize("fault", ["user error", "two parts"])
def test_what_a_task_tells_the_user_stays_one_line(
    tmp_path: Path, fault: str, settings: ExecutorSettings
) -> None:
    with pytest.raises(UserError) as caught:
        run_tasks(tasks(tmp_path, fault), settings, description="")
    assert str(caught.value) == "images: expected some, found none"
    assert "3" not in results(tmp_path) and not list((tmp_path / "results").glob(".*"))
    if settings is POOL:
        assert "in line 3, process " in caught.value.__notes__[0]
        assert "execution_cases.py" in caught.value.__notes__[0]  # the traceback


def test_a_bug_keeps_its_type_and_traceback(tmp_path: Path) -> None:
    with refused("OwnError", kind=RuntimeError) as caught:
        run_tasks(tasks(tmp_path, "bug"), POOL, description="")
    assert "raise OwnError" in caught.value.__notes__[0]


def test_ctrl_c_ends_a_pool_at_once_and_nothing_is_half_written(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    process = start(tmp_path, POOL, "hang")
    until(
        lambda: {n for n in range(7) if LineTask(str(tmp_path), n).is_done()} == {*range(7)} - {3}
    )
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    assert process.wait(600) == 130
    assert sorted(results(tmp_path)) == ["0", "1", "2", "4", "5", "6"]  # no temporary file either
    assert not any(alive(by) for all_by in processes_of_tasks(tmp_path).values() for by in all_by)
    run_tasks(tasks(tmp_path, "hang"), POOL, description="")
    assert results(tmp_path) == expected


@pytest.mark.parametrize("fault", ["", "hang"])  # hang: it has nothing to tell for minutes
def test_workers_of_a_killed_pool_end(
    fault: str, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    process = start(tmp_path, POOL, fault)
    ran = f"{3 if fault else ''}*"
    until(lambda: (tmp_path / "ran").is_dir() and list((tmp_path / "ran").glob(ran)))
    process.kill()
    process.wait(60)
    workers = set.union(*processes_of_tasks(tmp_path).values())
    until(lambda: not any(alive(worker) for worker in workers))
    run_tasks(tasks(tmp_path), POOL, description="")
    assert {name: results(tmp_path)[name] for name in expected} == expected


def test_two_commands_at_once_lose_nothing(tmp_path: Path, expected: dict[str, bytes]) -> None:
    both = [start(tmp_path, POOL), start(tmp_path, INLINE)]
    for process in both:
        assert process.wait(600) == 0, process.communicate()
    assert results(tmp_path) == expected


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(CASES.parent)!r})\n"
        "from execution_cases import main\n"
        f"main({str(tmp_path)!r}, '', '[\"pool\", 1, null]')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(genkt.__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert 'under if __name__ == "__main__"' in ran.stdout.splitlines()[-1], ran


@given(told=st.lists(st.integers(1, 9), max_size=5), rest=st.integers(0, 9))
def test_in_the_end_every_image_was_told(told: list[int], rest: int) -> None:
    @dataclass(frozen=True)
    class Told:
        name: str = "told"
        size: int = sum(told) + rest

        def is_done(self) -> bool:
            return False

        def run(self, progress: Progress) -> None:
            for count in told:
                progress(count)

    heard: list[int] = []
    run_task(Told(), heard.append)
    assert sum(heard) == sum(told) + rest


def test_a_result_that_only_another_machine_sees_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_SEEN_SECONDS", 0.1)
    monkeypatch.setattr(LineTask, "is_done", lambda self: False)
    with refused("line 0"):
        run_tasks(tasks(tmp_path), INLINE, description="")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ALONE),
        ({"RANK": "1", "WORLD_SIZE": "3"}, Processes(1, 3)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}, Processes(1, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, ALONE),  # in a batch script, not below srun
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"},
         Processes(0, 2)),  # torchrun started by srun
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_environment_tells_the_launch(
    environment: dict[str, str], found: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN, "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == found == processes_of(AUTO)
    assert processes_of(INLINE) == ALONE
    assert found.by_files == (found.world_size > 1)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_ranks_that_are_no_numbers_are_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "first")
    assert main(["cache"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"genkt cache: {name}: ") and "'first'" in line


def test_a_launch_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("RANK", 0, "WORLD_SIZE", 1):
        launched()
    monkeypatch.setenv("RANK", "1")
    with refused("executor=ray", 2):
        processes_of(ExecutorSettings("ray", None, None))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["executor=auto"], None),
        (["executor=inline"], None),
        (["executor=pool", "executor.num_workers=3"], None),
        (["executor=ray", "executor.address=10.0.0.1:6379"], None),
        (["executor=rey"], "executor=rey: expected one of ray"),
        (["executor=pool", "executor.num_workers=0"], "executor.num_workers: expected a number"),
        (["executor.num_workers=2"], "executor.num_workers: expected null with executor=auto"),
        (["executor=pool", "executor.address=a:1"], "executor.address: expected null with execut"),
        (["executor=pool", "executor.workers=2"], "Did you mean executor.num_workers"),
    ],
    ids=str,
)
def test_the_words_of_the_command_line(words: list[str], fault: str | None) -> None:
    if fault is None:
        chosen = read_config(CacheConfig, "cache", words).executor
        assert f"executor={chosen.name}" == words[0]
        assert (chosen.num_workers, chosen.address) == {
            "pool": (3, None), "ray": (None, "10.0.0.1:6379"),
        }.get(chosen.name, (None, None))  # fmt: skip
        return
    with pytest.raises(UserError) as caught:
        read_config(CacheConfig, "cache", words)
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_without_ray_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused("genkt[ray]"):
        run_tasks(tasks(tmp_path), ExecutorSettings("ray", None, None), description="")
    assert not list(tmp_path.iterdir())


def test_tasks_are_small(tmp_path: Path) -> None:
    assert len(pickle.dumps(tasks(tmp_path)[0])) < 300


def test_a_worker_computes_where_it_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert device_here("auto") == device_here("cuda") == "cuda:2"
    assert device_here("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_here("auto") == "cpu"
    with refused("CUDA"):
        device_here("cuda")


def test_the_progress_has_every_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[tuple[str, int, int]] = []

    class Told(run_module.Reporter):  # type: ignore[name-defined,misc]
        def __exit__(self, *error: object) -> None:
            shown.append((self.name, self.done, self.total))
            super().__exit__(*error)

    monkeypatch.setattr(run_module, "Reporter", Told)
    run_task(tasks(tmp_path)[0], lambda _: None)
    caplog.set_level(logging.ERROR)
    run_tasks(tasks(tmp_path, "die once"), POOL, description="lines")
    assert shown[0] == ("lines", 6 * SIZE, 6 * SIZE)
