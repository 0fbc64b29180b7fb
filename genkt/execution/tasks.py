"""Shard tasks, and who runs them.

A task names folders and holds plain values, never arrays; it makes one result, which is there as a
whole or not at all. So a task may be run again, anywhere, by two processes at once or after a
kill: the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from genkt.execution.ranks import ALONE, Processes, launched
from genkt.settings.bounds import NumProcesses
from genkt.settings.faults import Fault, SettingsError
from genkt.types import UserError

Progress = Callable[[int], None]
"""Told how many images were made since it was called last."""


class ShardTask(Protocol):
    """One shard's work. It must pickle, and be small: paths and plain values."""

    @property
    def name(self) -> str:
        """What messages call it; no other task of the run has the name."""

    @property
    def size(self) -> int:
        """Images it makes, for the bar."""

    def is_done(self) -> bool:
        """Whether its result is there; cheap, for it is asked again and again."""

    def run(self, progress: Progress) -> None:
        """Make the result and put it in its place by one rename, unless it is there.

        Args:
            progress: may be told of images while they are made; what it was not told of counts
                as made when the task ends.
        """


@dataclass(frozen=True)
class ExecutorSettings:
    """Who runs the tasks; see ``configs/executor/``.

    Args:
        name: auto (a launch's processes share the tasks, a single process runs all), inline
            (this process, whatever launched it), pool (processes of this machine), ray.
        num_workers: of a pool or on Ray; None: as many as there are cores, GPUs or places.
        address: of a Ray cluster; None: a cluster on this machine, started for the run.

    Raises:
        UserError: a setting that the executor does not have.
    """

    name: Literal["auto", "inline", "pool", "ray"]
    num_workers: NumProcesses | None
    address: str | None

    def __post_init__(self) -> None:
        if self.address is not None and self.name != "ray":
            text = f"expected null with executor={self.name}, only ray has one"
            raise SettingsError([Fault("address", text, "together")])
        if self.num_workers is not None and self.name not in ("pool", "ray"):
            text = (
                f"expected null with executor={self.name}, which is one process; executor=pool "
                "has several"
            )
            raise SettingsError([Fault("num_workers", text, "together")])


IN_PROCESS = ("auto", "inline")
"""Executors that run a task in the process that made it."""

HERE = ExecutorSettings("auto", None, None)
"""This process, or the processes of its launch."""

INLINE = ExecutorSettings("inline", None, None)
"""This process."""


def processes_of(settings: ExecutorSettings) -> Processes:
    """The processes that share the work under these settings.

    Raises:
        UserError: Ray from several launched processes.
    """
    if settings.name == "inline":
        return ALONE
    processes = launched()
    if settings.name == "ray" and processes.world_size > 1:
        raise UserError(
            f"executor=ray: expected one process, this is one of {processes.world_size}; Ray "
            "spreads the work itself, start the command once"
        )
    return processes


def run_task(task: ShardTask, progress: Progress) -> None:
    """Run one task; in the end exactly its ``size`` images have been told."""
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        told += count
        progress(count)

    task.run(tell)
    progress(task.size - told)
