"""The device side of a run: CPU, one GPU, or every process of a torchrun / SLURM launch."""

from __future__ import annotations

import os

from lightning_fabric import Fabric

from genkt.training.settings import Precision

_FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(precision: Precision = "fp32", device: str = "auto") -> Fabric:
    """A launched Fabric: ``device`` is auto, cpu or cuda; torchrun's environment is honoured."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    fabric = Fabric(
        accelerator={"cuda": "cuda", "cpu": "cpu"}.get(device, "auto"),
        strategy="ddp" if world_size > 1 else "auto",
        devices=local,
        num_nodes=max(1, world_size // local),
        precision=_FABRIC_PRECISION[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric
