"""Shard tasks, and the executors that run them.

A task has folder names and plain values, never arrays. It makes one result, which exists completely
or not at all. So it may run again, anywhere, twice at once or after a kill: the bytes are the same.
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
"""Called with the number of images made since the last call."""


class ShardTask(Protocol):
    """One shard's work. It must pickle, and be small: paths and plain values."""

    @property
    def name(self) -> str:
        """Its name in messages, unique in the run."""

    @property
    def size(self) -> int:
        """Number of images it makes, for the progress bar."""

    def is_done(self) -> bool:
        """Whether its result exists; must be cheap, as it is called often."""

    def run(self, progress: Progress) -> None:
        """Make the result and move it to its place in one rename, unless it exists.

        Args:
            progress: may be called while images are made; the rest counts as made when the task
            ends.
        """


@dataclass(frozen=True)
class ExecutorSettings:
    """How the tasks are run; see ``configs/executor/``.

    Args:
        name: auto (a launch's processes share the tasks, a single process runs all), inline
            (this process, even under a launcher), pool (processes of this machine), ray.
        num_workers: of a pool or on Ray; None: the number of cores, GPUs or free places.
        address: of a Ray cluster; None: a cluster on this machine, started for the run.

    Raises:
        UserError: the executor does not have this setting.
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
    """Run one task; exactly ``size`` images are reported by its end."""
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        told += count
        progress(count)

    task.run(tell)
    progress(task.size - told)
