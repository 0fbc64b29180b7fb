"""The device side of a run, under launchers that are there and launchers that only seem to be."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest
from lightning_utilities.core.imports import compare_version

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


def test_lightning_still_imports_what_it_only_asks_the_version_of() -> None:
    """The reason of ``genkt.training.lightning``: once it is gone, the file must go too."""
    home = importlib.util.find_spec("lightning_fabric")
    assert home is not None and home.submodule_search_locations
    text = Path(home.submodule_search_locations[0], "utilities", "imports.py").read_text("utf-8")
    calls = [
        [getattr(argument, "value", None) for argument in node.args]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "compare_version"
    ]
    assert [call[0] for call in calls if call[0] != "torch"] == ["torchmetrics"]
    assert "import_module(package)" in inspect.getsource(compare_version)  # slow for that alone
    assert list(inspect.signature(compare_version).parameters) == [
        "package", "op", "version", "use_base_version",
    ]  # fmt: skip
