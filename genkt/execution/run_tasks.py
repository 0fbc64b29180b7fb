"""``run_tasks``: any executor, the same results."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from genkt.execution.process_pool import run_in_pool
from genkt.execution.ranks import Processes
from genkt.execution.ray_cluster import run_on_ray
from genkt.execution.tasks import (
    HERE,
    ExecutorSettings,
    ShardTask,
    processes_of,
    run_task,
)
from genkt.progress import Reporter
from genkt.types import UserError

logger = logging.getLogger("genkt")

_POLL_SECONDS = 0.5
_SEEN_SECONDS = 60.0
"""Seconds that a shared file system may take to show files of another machine."""


def run_tasks(
    tasks: Sequence[ShardTask],
    settings: ExecutorSettings = HERE,
    *,
    description: str,
    processes: Processes | None = None,
    on_gpu: bool = False,
    progress: bool = True,
) -> None:
    """Run every unfinished task; returns when all are done, including those of other ranks.

    Args:
        tasks: the same list in every process of a launch, finished or not.
        settings: who runs them.
        description: name of the work.
        processes: those that share the tasks; rank r runs r, r + world_size, ...; None: from
        ``processes_of``.
        on_gpu: tasks compute on a GPU if there is one: by default a pool has one worker per GPU;
        Ray gives each task one.
        progress: show progress.

    Raises:
        UserError: no Ray, or a task whose process died repeatedly.
        Exception: whatever a task raises, unchanged.
    """
    processes = processes or processes_of(settings)
    mine = [task for task in tasks[processes.rank :: processes.world_size] if not task.is_done()]
    with Reporter(
        sum(task.size for task in mine), description, announced=True,
        shown=progress and processes.rank == 0,
    ) as reporter:  # fmt: skip
        if settings.name == "pool":
            run_in_pool(mine, settings.num_workers, reporter.advance, on_gpu=on_gpu)
        elif settings.name == "ray":
            run_on_ray(mine, settings, reporter.advance, on_gpu=on_gpu)
        else:
            for task in mine:
                run_task(task, reporter.advance)
    _wait(mine, _SEEN_SECONDS)
    _wait(tasks, None)


def _wait(tasks: Sequence[ShardTask], most_seconds: float | None) -> None:
    """Wait for the results by files: a barrier would give up after half an hour.

    Raises:
        UserError: a result is missing ``most_seconds`` after its task has run.
    """
    started = time.monotonic()
    told = False
    for task in tasks:
        while not task.is_done():
            if most_seconds is not None and time.monotonic() - started > most_seconds:
                raise UserError(
                    f"{task.name}: done, but its result is not visible here; expected a "
                    "folder that all machines share"
                )
            if most_seconds is None and not told:
                logger.info("waiting for shards of other processes, %s first", task.name)
                told = True
            time.sleep(_POLL_SECONDS)
