"""Run by torchrun in test_distributed.py: train in every process, rank 0 keeps weights."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

import torch
from training_cases import METHODS, Case, weights

from genkt.training.fabric import make_fabric

DISTRIBUTED: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "steps": 5, "ema": 0.9}


def write_end(path: Path) -> None:
    path.write_text(str(torch.distributed.is_initialized()))


def main(home: Path) -> None:
    torch.set_num_threads(1)
    atexit.register(write_end, home / f"end{os.environ['RANK']}.txt")  # the first runs last
    fabric = make_fabric("fp32", "cpu")
    rank = fabric.global_rank
    assert fabric.world_size == 2
    for method in METHODS:
        case = Case(home / f"{method}{rank}", method, fabric=fabric).with_settings(**DISTRIBUTED)
        stage, curve = case.run()
        rows = [stage.batches.step_rows(step).tolist() for step in range(DISTRIBUTED["steps"])]
        torch.save((weights(stage), curve, rows), home / f"{method}{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
