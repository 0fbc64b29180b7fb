"""The processes of one launch (torchrun, srun), read from the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from genkt.types import UserError


@dataclass(frozen=True)
class Processes:
    """The processes that share the work of one command.

    Args:
        rank: 0 reports and finishes the work.  world_size: how many there are.
        barrier: returns once every process has called it; None if they can only see each other's
        files.
    """

    rank: int = 0
    world_size: int = 1
    barrier: Callable[[], None] | None = None

    @property
    def by_files(self) -> bool:
        """Whether there are several that can only wait for each other by files."""
        return self.world_size > 1 and self.barrier is None

    def meet(self) -> None:
        """Wait until every process has called this if there is a barrier; else return at once."""
        if self.barrier is not None:
            self.barrier()


ALONE = Processes()
"""One process."""

_LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
"""torchrun's variables (or your own), and srun's. ``SLURM_NTASKS`` is also set in a batch script,
where no processes were launched; the step's count is not."""


_NUMBERS = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "JSM_NAMESPACE_RANK")
"""Other variables that torch and Lightning read as numbers, some of them on import."""


def require_numbers() -> None:
    """Refuse an environment whose ranks and process counts are not numbers.

    Raises:
        UserError: naming the variable.
    """
    for name in (*(name for names in _LAUNCHERS for name in names), *_NUMBERS):
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise UserError.of(
                name,
                "a whole number in the environment",
                repr(value),
                "; unset it, or start with torchrun or srun",
            )


def launched() -> Processes:
    """The processes of the launch that this one is part of, or this one alone.

    Raises:
        UserError: a rank outside of its world.
    """
    for names in _LAUNCHERS:
        rank, world_size = (os.environ.get(name) for name in names)
        if rank is None or world_size is None:
            continue
        if not (rank.isdigit() and world_size.isdigit() and int(rank) < int(world_size)):
            raise UserError(
                f"expected {names[0]} from 0 to {names[1]} - 1 in the environment, "
                f"got {rank} of {world_size}"
            )
        return Processes(int(rank), int(world_size), _barrier())
    return ALONE


def _barrier() -> Callable[[], None] | None:
    """The barrier of torch's process group, if this process has joined one."""
    group = sys.modules.get("torch.distributed")  # not loaded: no group, and no need to load it
    if group is None or not (group.is_available() and group.is_initialized()):
        return None
    barrier: Callable[[], None] = group.barrier
    return barrier


def device_here(device: str) -> str:
    """The device of this process; processes of one machine share its GPUs evenly.

    Args:
        device: auto, cpu or cuda.

    Returns:
        "cpu", or "cuda:N" by this process's number on its machine.

    Raises:
        UserError: cuda without a GPU.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a CUDA device for cuda, found none; use auto or cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return f"cuda:{int(local) % torch.cuda.device_count()}"
