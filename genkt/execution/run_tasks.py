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
"""How long a shared file system may take to show what another machine has written."""


def run_tasks(
    tasks: Sequence[ShardTask],
    settings: ExecutorSettings = HERE,
    *,
    description: str,
    processes: Processes | None = None,
    on_gpu: bool = False,
    progress: bool = True,
) -> None:
    """Run every task that is not done; returns once all are, those of other ranks as well.

    Args:
        tasks: the same list in every process of a launch, whatever is done of it.
        settings: who runs them.
        description: what the work is called.
        processes: that share the tasks, rank r taking r, r + world_size, ...; None: as
            ``processes_of`` finds them.
        on_gpu: tasks compute on a GPU where there is one: a pool has a worker a GPU by default,
            Ray gives each task one.
        progress: tell how far the work is.

    Raises:
        UserError: no Ray, or a task whose process died again and again.
        Exception: whatever a task raises, as it was.
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
    """Until the results are there: a barrier would give up after half an hour.

    Raises:
        UserError: one is not there after ``most_seconds``, though its task has run.
    """
    started = time.monotonic()
    told = False
    for task in tasks:
        while not task.is_done():
            if most_seconds is not None and time.monotonic() - started > most_seconds:
                raise UserError(
                    f"{task.name}: done, but its result is not to be seen here; expected a folder "
                    "that all machines share"
                )
            if most_seconds is None and not told:
                logger.info("waiting for shards of other processes, %s first", task.name)
                told = True
            time.sleep(_POLL_SECONDS)
