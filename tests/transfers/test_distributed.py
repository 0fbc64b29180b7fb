"""Two processes under torchrun give what one process gives on the same global batch.

For networks without batch norm, whose statistics are those of a process's own rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_worker import DISTRIBUTED
from training_cases import METHODS, Case, assert_same, weights

from genkt.training.loop import train

WORKER = Path(__file__).parents[1] / "distributed_worker.py"


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(WORKER), str(home)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = str(WORKER.parent.parent)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return home


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(two_processes: Path, tmp_path: Path, method: str) -> None:
    alone, curve = Case(tmp_path, method).with_settings(**DISTRIBUTED).run()
    steps, halves = range(DISTRIBUTED["steps"]), []
    for rank in (0, 1):
        shared, shared_curve, rows = torch.load(
            two_processes / f"{method}{rank}.pt", weights_only=True
        )
        halves.append(rows)
        assert_same(weights(alone), shared, atol=1e-6)
        for record, other in zip(curve, shared_curve, strict=True):
            assert record["total"] == pytest.approx(other["total"], abs=1e-5)
    together = [first + second for first, second in zip(*halves, strict=True)]
    assert together == [alone.batches.step_rows(step).tolist() for step in steps]
    assert all(len(rows) == 6 for half in halves for rows in half)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_leaves_the_others_before_python_ends(two_processes: Path, rank: int) -> None:
    """Else a thread of gloo may abort a process whose work is done."""
    assert (two_processes / f"end{rank}.txt").read_text() == "False"


@pytest.mark.parametrize("method", METHODS)
def test_half_of_the_batch_alone_gives_something_else(tmp_path: Path, method: str) -> None:
    """So the equality above is the doing of what the processes tell each other."""
    trained = []
    for world_size in (1, 2):
        case = Case(tmp_path / str(world_size), method).with_settings(**DISTRIBUTED)
        stage = case.stage()
        stage.batches.world_size = world_size
        assert case.fabric is not None
        train(case.fabric, stage)
        trained.append(weights(stage))
    whole, half = trained
    assert max(float((whole[name] - half[name]).abs().max()) for name in whole) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_only_rank_zero_writes(two_processes: Path, method: str) -> None:
    written = {path.name for path in (two_processes / f"{method}0" / "stage").iterdir()}
    assert written == {"state.pt", "last.safetensors"}
    assert not (two_processes / f"{method}1" / "stage").exists()
