"""The device side of a run, under launchers that are there and launchers that only seem to be."""

from __future__ import annotations

import pytest

from genkt.training.fabric import make_fabric

BATCH_SCRIPT = {
    "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
}  # fmt: skip


def test_a_plain_command_in_a_batch_script_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sbatch --ntasks=2`` sets these for the script itself, where nothing was launched."""
    for name, value in BATCH_SCRIPT.items():
        monkeypatch.setenv(name, value)
    for precision in ("fp32", "bf16"):
        fabric = make_fabric(precision, "cpu")  # type: ignore[arg-type]
        assert (fabric.world_size, fabric.global_rank) == (1, 0)
