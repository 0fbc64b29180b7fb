"""Label draws side by side: other processes train their students, the run's own reads them back.

A draw's students are small and hardly use a second core, so on a CPU several draws are trained at
once, each on its share of the cores; on a machine with several GPUs, each on one of them. The
first draw is always trained by the run itself: it fills the caches that all draws read, and tells
whether the others are worth starting processes for. Whether they are then trained here or there,
one student has the same number of threads, so the figures are the same. Another executor, number
of processes or of draws may share the cores otherwise, which rounds sums otherwise, unless
OMP_NUM_THREADS is set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from genkt.execution.pool import num_places
from genkt.execution.ranks import launched
from genkt.execution.run import run_tasks
from genkt.execution.tasks import ExecutorSettings, Progress
from genkt.generative.precision import threads
from genkt.recipes.config import TransferConfig
from genkt.recipes.run_folder import cell_folder, log_to_file
from genkt.types import UserError

WORTH_SECONDS = 20.0
"""Time that other processes must save; each takes about five seconds to start."""

_POLL_SECONDS = 0.5

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class DrawsTask:
    """Some draws of a run, for a process of its own.

    Args:
        config, plain: as ``run_transfer`` was given them.
        draws: by their place in the run, 0 the first.
    """

    config: TransferConfig
    plain: dict[str, Any]
    draws: tuple[int, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"draws {', '.join(map(str, self.draws))}"

    @property
    def size(self) -> int:
        """Students."""
        return len(self.draws) * len(self.config.arms)

    def is_done(self) -> bool:
        """Whether all students are there."""
        return num_finished(self.config, self.draws) == self.size

    def run(self, progress: Progress) -> None:
        """Train what is missing; what libraries print goes to the run's log.

        Args:
            progress: told of each student; raises where the run that started this is gone.
        """
        from genkt.recipes.transfer import reopened, train_draw

        log = Path(self.config.out) / "train.log"
        with (
            open(log, "a", encoding="utf-8") as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            threads(threads_each(self.config)),
        ):
            session = reopened(beside_others(self.config), self.plain)
            handler = log_to_file(log)
            try:
                for index in self.draws:
                    train_draw(session, index, lambda: progress(1))
            finally:
                logger.removeHandler(handler)
                handler.close()


def num_finished(config: TransferConfig, draws: Iterable[int]) -> int:
    """Students of these draws that are there."""
    places = [cell_folder(config.out, draw, arm) for draw in draws for arm in config.arms]
    return sum((place / "result.json").is_file() for place in places)


def show_finished(config: TransferConfig, bar: tqdm[Any]) -> None:
    """Bring a bar up to the students that are there, whoever trained them."""
    bar.update(num_finished(config, range(config.draws)) - bar.n)


def num_processes(config: TransferConfig) -> int:
    """Processes that may train draws at once; 1: this one alone.

    Args:
        config: its executor says whether: inline never, pool always, auto where it saves time.
    """
    executor = config.executor
    if executor.name == "inline" or launched().world_size > 1 or config.draws < 3:
        return 1
    wanted = executor.num_workers or num_places(on_gpu=_on_gpu(config))
    return max(1, min(wanted, config.draws - 1))


def _on_gpu(config: TransferConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def threads_each(config: TransferConfig) -> int | None:
    """CPU threads of one student; None: as many as there are.

    They follow from the machine and the settings alone: sums are rounded as threads share them.
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
    """Processes to start for some draws; 1: none, the run trains them itself.

    Args:
        missing: draws that are to be trained.
        seconds: that one of them takes, without what all draws have in common.
    """
    processes = max(1, min(num_processes(config), missing))
    saved = seconds * (missing - missing / processes)
    return 1 if config.executor.name == "auto" and saved < WORTH_SECONDS else processes


def train_others(
    config: TransferConfig, plain: dict[str, Any], seconds: float, bar: tqdm[Any]
) -> None:
    """Train all draws but the first in other processes, where that is asked for or saves time.

    Args:
        seconds: see ``num_worth``.  bar: of students.

    Raises:
        UserError: as a task says; with executor=auto the run goes on by itself.
    """
    missing = [
        draw for draw in range(1, config.draws)
        if num_finished(config, [draw]) < len(config.arms)
    ]  # fmt: skip
    processes = num_worth(config, len(missing), seconds)
    if processes == 1:
        return
    there = replace(config, overwrite=False)
    tasks = [DrawsTask(there, plain, tuple(missing[i::processes])) for i in range(processes)]
    logger.info("the other draws in %d processes", processes)
    try:
        with _watched(config, bar):
            run_tasks(
                tasks, ExecutorSettings("pool", processes, None), description="students",
                on_gpu=_on_gpu(config), progress=False,
            )  # fmt: skip
    except UserError as error:
        if config.executor.name != "auto":
            raise
        logger.warning("%s; this process goes on alone (executor=inline never starts any)", error)


@contextlib.contextmanager
def _watched(config: TransferConfig, bar: tqdm[Any]) -> Iterator[None]:
    """The bar follows what other processes do."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_POLL_SECONDS):
            show_finished(config, bar)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
