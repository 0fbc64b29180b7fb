"""Ray gives what one process gives, on one node and on two of which one is killed.

Ray listens on all interfaces, so every cluster here lives in a network of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from execution_cases import INLINE, results, tasks
from refusals import refused

import genkt
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import ExecutorSettings

pytest.importorskip("ray")

ROOT = Path(genkt.__file__).parents[1]
ALONE = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def unshared(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python without a network."""
    try:
        subprocess.run([*ALONE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a network namespace of its own is not permitted here: {error}")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parents[1]}"}
    return subprocess.run(
        [*ALONE, sys.executable, *command], capture_output=True, text=True, timeout=600,
        env=environment | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip


def test_a_cluster_of_its_own_passes_on_what_tasks_raise(tmp_path: Path) -> None:
    run_tasks(tasks(tmp_path / "one"), INLINE, description="")
    own = '["ray", 2, null]'
    script = tmp_path / "script.py"
    script.write_text(
        "from execution_cases import main\n"
        f"main({str(tmp_path / 'failed')!r}, 'two parts', {own!r})\n"
        f"main({str(tmp_path / 'two')!r}, 'die once', {own!r})\n"
    )
    ran = unshared(str(script))
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = [line for line in ran.stdout.splitlines() if "(raylet)" not in line]
    assert said[0] == "images: expected some, found none"
    assert results(tmp_path / "two").keys() == results(tmp_path / "one").keys()
    for name, line in results(tmp_path / "one").items():
        assert results(tmp_path / "two")[name] == line
    assert "3" not in results(tmp_path / "failed")


def test_where_no_cluster_is_one_line_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with refused(address):
            run_tasks(tasks(tmp_path), ExecutorSettings("ray", None, address), description="")


def test_a_node_is_killed_and_the_set_is_the_same() -> None:
    ran = unshared(
        str(ROOT / "benchmarks" / "ray_two_nodes.py"), "--images", "40", "--shard-size", "5"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    assert "killed a busy node at" in ran.stdout and "files, identical" in ran.stdout
