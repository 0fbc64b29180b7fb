"""Paired timing: two ways of doing the same thing, in turn, in one process."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from genkt.io import read_json, write_json
from genkt.runs.versions import versions


def synchronize() -> None:
    """Wait for the device, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call, device included."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time of one call, of all threads of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def forget_peak_memory() -> None:
    """Let ``peak_memory_mb`` count from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Peak resident memory of this process, not of its parent as getrusage has it (Linux)."""
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 1024


def paired(
    a: Callable[[], Any], b: Callable[[], Any], *, pairs: int, warmup: int = 1
) -> dict[str, Any]:
    """Time ``a`` and ``b`` in turn (A B, B A, ...); the ratios a/b pair by pair.

    Returns:
        Median seconds of both, the median ratio and the smallest and largest one.
    """
    for _ in range(warmup):
        a()
        b()
    times: list[tuple[float, float]] = []
    for index in range(pairs):
        if index % 2:
            second = seconds(b)
            times.append((seconds(a), second))
        else:
            first = seconds(a)
            times.append((first, seconds(b)))
    ratios = [x / y for x, y in times]
    return {
        "a_seconds": statistics.median(x for x, _ in times),
        "b_seconds": statistics.median(y for _, y in times),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "pairs": pairs,
    }


def known(name: str) -> dict[str, Any]:
    """The figures that an earlier run of a benchmark left; none where there was none."""
    path = results_path(name)
    found: dict[str, Any] = read_json(path)["results"] if path.is_file() else {}
    return found


def results_path(name: str) -> Path:
    """Where the figures of a benchmark are stored."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Path(__file__).parent / "results" / f"{name}-{device}.json"


def report(name: str, results: dict[str, Any], goals: dict[str, str]) -> None:
    """Print the figures and write ``benchmarks/results/NAME-DEVICE.json``."""
    value = {"benchmark": name, "goals": goals, "results": results, "versions": versions(),
             "threads": torch.get_num_threads()}  # fmt: skip
    path = results_path(name)
    write_json(path, value)
    print(json.dumps(results, indent=2))
    print(f"goals: {goals}\nwritten: {path}")
