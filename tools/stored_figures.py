"""Stored results, by the name of a figure.

    STUDY:ARM              accuracy after fine-tuning: mean and half-width, in %
    STUDY:ARM@distilled    the same before it
    STUDY:A/B              the paired difference A - B: mean, lowest, highest, in points
    BENCHMARK#a.b          a number (or numbers) of benchmarks/results/BENCHMARK-cpu.json
    BENCHMARK#a.b*100      the same times 100

STUDY is a folder of ``docs/`` with a ``compare.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from genkt.metrics.statistics import PairedDifference
from genkt.report.transfer.summary import signed, span
from genkt.types import Interval

ROOT = Path(__file__).resolve().parents[1]

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@cache
def study(name: str) -> Any:
    """The stored results of a study. Raises: FileNotFoundError."""
    return json.loads((ROOT / source(name)).read_text(encoding="utf-8"))


def source(name: str) -> str:
    """Where the results of a study are stored, relative to the repository."""
    return f"docs/{name}/compare.json"


def arm_of(name: str, arm: str) -> Any:
    """The stored results of an arm. Raises: KeyError."""
    found = [each for each in study(name)["arms"] if each["arm"] == arm]
    if not found:
        raise KeyError(f"study {name} has no arm {arm}")
    return found[0]


def difference_of(name: str, arm: str, against: str, *, of: str = "accuracy") -> Any:
    """The stored difference of two arms. Raises: KeyError."""
    results = study(name)
    for kind in ("minus_baseline", "minus_reference", "pairs"):
        for each in results[kind]:
            if (each["a"], each["b"]) == (arm, against):
                return each[of]
    raise KeyError(f"study {name} stores no difference of {arm} and {against}")


def numbers(figure: str) -> list[float]:
    """The numbers that a figure holds. Raises: KeyError, FileNotFoundError."""
    if "#" in figure:
        return _of_benchmark(figure)
    name, _, arm = figure.partition(":")
    arm, _, of = arm.partition("@")
    if "/" in arm:
        stored = difference_of(name, *arm.split("/"), of=of or "accuracy")
        return [stored[f"{end}_points"] for end in ("mean", "low", "high")]
    stored = arm_of(name, arm)[of or "accuracy"]
    return [stored["mean_percent"], stored["half_width_points"]]


def _of_benchmark(figure: str) -> list[float]:
    name, _, path = figure.partition("#")
    path, _, factor = path.partition("*")
    found = json.loads((ROOT / f"benchmarks/results/{name}-cpu.json").read_text(encoding="utf-8"))
    found = found["results"]
    for key in path.split("."):
        found = found[key]
    if isinstance(found, str):  # "92.0 ± 3.1"
        return [float(number) for number in _NUMBER.findall(found)]
    return [
        number * float(factor or 1) for number in (found if isinstance(found, list) else [found])
    ]


def text_of(figure: str | None) -> str:
    """What a cell says: "93.9 ± 2.0", "**+11.5** (8.1 to 14.9)", "" for nothing."""
    if figure is None:
        return ""
    name, _, arm = figure.partition(":")
    arm, _, of = arm.partition("@")
    if "/" in arm:
        if len(set(arm.split("/"))) == 1:
            return ""
        return difference_text(difference_of(name, *arm.split("/"), of=of or "accuracy"))
    stored = arm_of(name, arm)[of or "accuracy"]
    if stored is None:
        return ""
    return str(Interval(stored["mean_percent"], stored["half_width_points"], stored["num_draws"]))


def difference_text(stored: Mapping[str, Any], unit: str = "") -> str:
    """A stored difference; bold where it is established, but with a unit."""
    difference = PairedDifference(
        stored["mean_points"], stored["low_points"], stored["high_points"],
        stored["p_value"], stored["num_draws"],
    )  # fmt: skip
    mean = signed(difference.mean)
    if unit:
        return f"{mean} {unit} ({span(difference)})"
    if difference.low == difference.high:
        return mean
    return f"{f'**{mean}**' if difference.established else mean} ({span(difference)})"
