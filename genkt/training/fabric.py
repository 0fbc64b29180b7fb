"""The device side of a run: CPU, one GPU, or every process of a torchrun launch."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from typing import Any, Literal

import torch

from genkt.io import did_you_mean
from genkt.training.lightning import Fabric, LightningEnvironment, MixedPrecision
from genkt.training.train_settings import Precision
from genkt.types import UserError

_AMP: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bf16": "bf16-mixed", "fp16": "16-mixed"}
_DEVICES = ("auto", "cpu", "cuda")


def make_fabric(precision: Precision = "fp32", device: str = "auto") -> Fabric:
    """A launched Fabric: ``device`` is auto, cpu or cuda; torchrun's environment is honoured.

    Raises:
        UserError: there is no such device, or it cannot compute in this precision.
    """
    if device not in _DEVICES:
        hint = did_you_mean(device, _DEVICES)
        raise UserError.of("device", " | ".join(_DEVICES), f'"{device}".{hint}')
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a CUDA device for cuda, found none; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "fp16" and device == "cpu":
        raise UserError("train.precision: fp16 needs a CUDA device; on the CPU use bf16 or fp32")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    devices: int | list[int] = local
    if world_size == 1 and device == "cuda":  # a worker of a pool has a GPU of its own
        devices = [int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()]
    plugins: list[Any] = [_Autocast(_AMP[precision], device)] if precision in _AMP else []
    if world_size == 1:  # else Fabric would follow a batch script's SLURM_NTASKS without any srun
        plugins.append(LightningEnvironment())
    fabric = Fabric(
        accelerator=device,
        strategy="ddp" if world_size > 1 else "auto",
        devices=devices,
        num_nodes=max(1, world_size // local),
        plugins=plugins,
    )
    fabric.launch()
    atexit.register(_leave_processes)
    if device == "cpu":
        keep_freed_memory()
    return fabric


def _leave_processes() -> None:
    """Stop the threads that talk to the other processes, before Python takes them apart.

    Fabric does so for nccl alone. A thread of gloo that still runs when its process ends aborts
    it ("terminate called without an active exception"), after all its work is done, now and then.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let glibc reuse a step's buffers instead of giving them back to the kernel.

    By default every large buffer is mapped anew and its pages cleared: 8000 page faults, a
    quarter of the time, in each step of a small network. No-op on other C libraries.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(trim_threshold, 1 << 30)
            library.mallopt(mmap_threshold, 32 << 20)  # the largest value glibc takes


class _Autocast(MixedPrecision):
    """Autocast alone: cached teacher outputs are not narrowed to 16 bits on their way in."""

    def convert_input(self, data: Any) -> Any:
        """The data as they are."""
        return data


def peak_memory(device: torch.device) -> int:
    """Most bytes of the device (of the process, on the CPU) in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
