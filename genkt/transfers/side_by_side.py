"""Parts of a run in parallel: other processes make its sets and train its students.

Students are small and hardly use a second core. So on a CPU several are trained at once, each on
its share of the cores. With several GPUs, each is trained on one of them. The main process does
what is left. A student has the same number of threads in every process, so the figures are the
same. Another executor, number of processes or number of draws may change the number of threads and
so the rounding of sums, unless OMP_NUM_THREADS is set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genkt.config.irf_settings import BASELINE
from genkt.config.transfer_settings import TransferConfig
from genkt.execution.process_pool import num_places
from genkt.execution.ranks import launched
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings, Progress
from genkt.precision import threads
from genkt.progress import Reporter, log_alone
from genkt.runs.run_folder import RESULT
from genkt.runs.run_log import log_to_file
from genkt.runs.student_places import student_folder
from genkt.transfers.export_student import first_text, is_handed_over
from genkt.transfers.make_sets import own_set, set_is_made, with_sets
from genkt.transfers.open_run import reopened
from genkt.transfers.phases import OpenedRun, RunWithSets
from genkt.transfers.train_student import train_student
from genkt.types import UserError

WORTH_SECONDS = 20.0
"""Seconds that other processes must save; each takes about five seconds to start."""

_POLL_SECONDS = 0.5
_TIMED_IMAGES = 8

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class RunTask(ABC):
    """A part of a run for another process; the output of libraries goes to the run's log.

    Args:
        config, plain: the arguments of ``run_transfer``.
        draw: its place in the run, from 0.
    """

    config: TransferConfig
    plain: dict[str, Any]
    draw: int

    @property
    def size(self) -> int:
        """Sets or students that it makes."""
        return 1

    @abstractmethod
    def num_done(self) -> int:
        """How many of them are there."""

    def is_done(self) -> bool:
        """Whether all of them are there."""
        return self.num_done() == self.size

    def run(self, progress: Progress) -> None:
        """Make the part, unless it exists."""
        log = Path(self.config.out) / "train.log"
        with (
            open(log, "a", encoding="utf-8", errors="backslashreplace") as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            log_alone(),
            threads(threads_each(self.config)),
        ):
            opened = _opened(self.config, self.plain)
            handler = log_to_file(log)
            try:
                self.make(opened)
            finally:
                logger.removeHandler(handler)
                handler.close()

    @abstractmethod
    def make(self, opened: OpenedRun) -> None:
        """Do the work in an open run."""


@dataclass(frozen=True)
class SetTask(RunTask):
    """Make a draw's transfer set."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"transfer set of draw {self.draw}"

    def num_done(self) -> int:
        return int(set_is_made(self.config, self.draw))

    def make(self, opened: OpenedRun) -> None:
        """Make it from its draw's own images and labels."""
        own_set(opened, opened.pool.draws[self.draw])


@dataclass(frozen=True)
class StudentTask(RunTask):
    """Train one arm on one draw: all its students, as they share its teachers and choices."""

    arm: str

    @property
    def size(self) -> int:
        return self.config.seeds_per_draw

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"draw {self.draw}, {self.arm}"

    def num_done(self) -> int:
        out, seeds = self.config.out, range(self.size)
        folders = (student_folder(out, self.draw, self.arm, seed) for seed in seeds)
        return sum((folder / RESULT).is_file() for folder in folders)

    def make(self, opened: OpenedRun) -> None:
        """Wait for sets that other processes are making, then train."""
        run = _with_sets(opened)
        opened.generators.release()
        for draw in opened.students_of(run.pool.draws[self.draw]):
            train_student(run, draw, self.arm)


_runs: dict[str, OpenedRun] = {}
"""The run of this process, by its folder; opened once for all its parts."""
_runs_with_sets: dict[str, RunWithSets] = {}
"""The same with its sets."""


def _opened(config: TransferConfig, plain: dict[str, Any]) -> OpenedRun:
    if config.out not in _runs:
        _runs[config.out] = reopened(beside_others(config), plain)
    return _runs[config.out]


def _with_sets(opened: OpenedRun) -> RunWithSets:
    out = opened.config.out
    if out not in _runs_with_sets:
        _runs_with_sets[out] = with_sets(opened)
    return _runs_with_sets[out]


def num_finished(config: TransferConfig) -> int:
    """The number of finished students."""
    return sum(task.num_done() for task in student_tasks(config, {}))


def set_tasks(opened: OpenedRun, plain: dict[str, Any]) -> list[SetTask]:
    """The sets that other processes may make."""
    if not sets_are_tasks(opened):
        return []
    config = replace(opened.config, overwrite=False)
    return [SetTask(config, plain, draw) for draw in range(config.num_draws)]


def sets_are_tasks(opened: OpenedRun) -> bool:
    """Whether other processes may make the draws' own sets, one draw each."""
    return opened.maker is not None and opened.maker.by_draw


def student_tasks(config: TransferConfig, plain: dict[str, Any]) -> list[StudentTask]:
    """All students, ordered so that few of them wait for another's results.

    The first fills the caches that the others read. Baselines need no teacher and run meanwhile.
    Students that only copy another's weights come last.
    """

    def order(task: StudentTask) -> tuple[bool, ...]:
        return (
            (task.draw, task.arm) != (0, config.main_arm),
            config.recipe.trained_as(task.arm) != task.arm,
            task.arm != BASELINE,
        )

    every = [
        StudentTask(config, plain, draw, arm)
        for draw in range(config.num_draws)
        for arm in config.arms
    ]
    return sorted(every, key=order)


def num_processes(config: TransferConfig) -> int:
    """Processes that may work for the run at once; 1: this one alone.

    Args:
        config: its executor decides: inline never, pool always, auto if it saves time.
    """
    executor = config.executor
    if executor.name == "inline" or launched().world_size > 1:
        return 1
    wanted = executor.num_workers or num_places(on_gpu=_on_gpu(config))
    return min(wanted, config.num_draws)


def _on_gpu(config: TransferConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def threads_each(config: TransferConfig) -> int | None:
    """CPU threads of one student; None: as many as there are.

    The number depends only on the machine and the settings, because it changes the rounding of
    sums.
    """
    processes = num_processes(config)
    if processes == 1 or _on_gpu(config) or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, num_places(on_gpu=False) // processes)


def beside_others(config: TransferConfig) -> TransferConfig:
    """The settings in one of several processes: its own share of the cores loads its images."""
    if config.train.num_workers != "auto":
        return config
    spare = max(0, num_places(on_gpu=False) // num_processes(config) - 1)
    return replace(config, train=replace(config.train, num_workers=spare))


def num_worth(config: TransferConfig, missing: int, seconds: float) -> int:
    """Processes to start for some tasks; 1: none, the run trains the students itself.

    Args:
        missing: number of tasks, each an arm on one draw.
        seconds: time for one of them.
    """
    processes = max(1, min(num_processes(config), missing))
    saved = seconds * (missing - missing / processes)
    return 1 if config.executor.name == "auto" and saved < WORTH_SECONDS else processes


def _seconds_a_student(opened: OpenedRun) -> float:
    """An estimate from two steps of a few blank images, of which the second counts."""
    num_images = opened.plan.num_images(opened.planned_draw)
    device = opened.fabric.device
    cuda = [device] if device.type == "cuda" else []
    student = opened.fresh_student().to(device)
    student.train()
    number = (
        opened.config.train.batch_size if cuda else _TIMED_IMAGES
    )  # a GPU needs as long for a few images
    blank = torch.zeros(number, 3, *student.transform.input_size, device=device)
    seconds = 0.0
    with torch.random.fork_rng(devices=cuda), threads(threads_each(opened.config)):
        for _ in range(2):
            started = time.perf_counter()
            student(blank).features.sum().backward()
            next(student.parameters()).sum().item()  # waits for the GPU
            seconds = time.perf_counter() - started
    return num_images / number * seconds


def work_ahead(opened: OpenedRun, plain: dict[str, Any]) -> None:
    """Let other processes do what is missing, if the settings say so or it saves time.

    Sets that are not tasks (``sets_are_tasks``) must exist.

    Raises:
        UserError: an error of a task; with executor=auto this process continues alone.
    """
    config = opened.config
    if num_processes(config) == 1:
        return
    there = replace(config, overwrite=False)
    students = student_tasks(there, plain)
    missing = [task for task in students if not task.is_done()]
    measured = _seconds_a_student(opened) if config.executor.name == "auto" and missing else 0.0
    processes = num_worth(config, len(missing), measured * config.seeds_per_draw)
    if processes == 1:
        return
    sets = set_tasks(opened, plain)
    opened.generators.release()
    logger.info("%d processes do the work", processes)
    try:
        with _followed(opened, ("transfer sets", sets), ("students", students)):
            run_tasks(
                [*sets, *students], ExecutorSettings("pool", processes, None),
                description="parts", on_gpu=_on_gpu(config), progress=False,
            )  # fmt: skip
    except UserError as error:
        if config.executor.name != "auto":
            raise
        logger.warning(
            "%s; this process continues alone (executor=inline never starts others)", error
        )


@contextlib.contextmanager
def _followed(
    opened: OpenedRun, *parts: tuple[str, Sequence[SetTask | StudentTask]]
) -> Iterator[None]:
    """Show the progress of other processes, one kind of task after the other.

    They speak into the log alone, so this one tells of the first student.
    """
    stop, folder = threading.Event(), opened.folder.path
    told = threading.Event()
    if is_handed_over(folder):
        told.set()

    def follow(title: str, tasks: Sequence[SetTask | StudentTask]) -> None:
        total, done = sum(task.size for task in tasks), sum(task.num_done() for task in tasks)
        if done == total or stop.is_set():
            return
        with Reporter(total, title, done=done, unit=title, announced=True) as reporter:
            while reporter.done < total and not stop.is_set():
                stop.wait(_POLL_SECONDS)
                if not told.is_set() and is_handed_over(folder):
                    told.set()
                    logger.info(first_text(opened))
                reporter.reach(sum(task.num_done() for task in tasks))

    def watch() -> None:
        for title, tasks in parts:
            follow(title, tasks)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
