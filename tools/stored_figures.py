"""Stored results, by the name of a figure.

    STUDY:ARM              accuracy after fine-tuning: mean, lowest, highest, in %
    STUDY:ARM@distilled    the same before it
    STUDY:A/B              the paired difference A - B: mean, lowest, highest, in points
    STUDY:better/REF       how many arms are better than the baseline or reference after
                           fine-tuning, with Holm's correction; "worse" likewise
    BENCHMARK#a.b          a number (or numbers) of benchmarks/results/BENCHMARK-cpu.json
    BENCHMARK#a.b*100      the same times 100

STUDY is a folder of ``docs/`` with a ``compare.json``. Where that is of schema 1, an accuracy is a
mean and the half-width of Student's t over the draws; such a study waits for a new run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from genkt.config.evidence import low_to_high
from genkt.metrics.verdicts import LEVEL, holm
from genkt.report.transfer.summary import signed

ROOT = Path(__file__).resolve().parents[1]

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@cache
def study(name: str) -> Any:
    """The stored results of a study. Raises: FileNotFoundError."""
    return json.loads((ROOT / source(name)).read_text(encoding="utf-8"))


def source(name: str) -> str:
    """Where the results of a study are stored, relative to the repository."""
    return f"docs/{name}/compare.json"


def studies() -> list[str]:
    """Every study with stored results."""
    return sorted(path.parent.name for path in (ROOT / "docs").glob("*/compare.json"))


def waits(name: str) -> bool:
    """Whether the intervals of a study are of before images were counted too."""
    return bool(study(name)["schema_version"] < 2)


def arm_of(name: str, arm: str) -> Any:
    """The stored results of an arm. Raises: KeyError."""
    found = [each for each in study(name)["arms"] if each["arm"] == arm]
    if not found:
        raise KeyError(f"study {name} has no arm {arm}")
    return found[0]


def difference_of(name: str, arm: str, against: str, *, of: str = "accuracy") -> Any:
    """The stored difference of two arms. Raises: KeyError."""
    results = study(name)
    rows = {each["arm"]: each.get("same_as") or each["arm"] for each in results["arms"]}
    a, b = rows.get(arm, arm), rows.get(against, against)
    if a == b:  # the same students
        return {"mean_points": 0.0, "low_points": 0.0, "high_points": 0.0, "established": False}
    for kind in ("minus_baseline", "minus_reference", "pairs"):
        for each in results[kind]:
            if (each["a"], each["b"]) == (a, b):
                return each[of]
    raise KeyError(f"study {name} stores no difference of {arm} and {against}")


def numbers(figure: str) -> list[float]:
    """The numbers that a figure holds. Raises: KeyError, FileNotFoundError."""
    if "#" in figure:
        return _of_benchmark(figure)
    name, _, arm = figure.partition(":")
    arm, _, of = arm.partition("@")
    if arm.partition("/")[0] in ("better", "worse"):
        return [_count(name, *arm.split("/"))]
    if "/" in arm:
        stored = difference_of(name, *arm.split("/"), of=of or "accuracy")
        return [stored[f"{end}_points"] for end in ("mean", "low", "high")]
    stored = arm_of(name, arm)[of or "accuracy"]
    ends = ["half_width_points"] if waits(name) else ["low_percent", "high_percent"]
    return [stored[key] for key in ["mean_percent", *ends]]


def _count(name: str, word: str, against: str) -> int:
    """Arms that are better or worse than another beyond chance. Raises: KeyError."""
    results = study(name)
    kind = {results["reference"]: "minus_reference", results["baseline"]: "minus_baseline"}[against]
    compared = [each["accuracy"] for each in results[kind]]
    if waits(name):
        p_values = [math.nan if each["p_value"] is None else each["p_value"] for each in compared]
        found = [p < LEVEL for p in holm(p_values)]
    else:
        found = [each["established"] for each in compared]
    return sum(
        is_sure and (each["mean_points"] > 0) == (word == "better")
        for is_sure, each in zip(found, compared, strict=True)
    )


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
    """What a cell says: "93.9 (91.2 to 95.8)", "**+11.5** (8.1 to 14.9)", "" for nothing."""
    if figure is None:
        return ""
    name, _, arm = figure.partition(":")
    arm, _, of = arm.partition("@")
    if "/" in arm:
        if len(set(arm.split("/"))) == 1:
            return ""
        difference = difference_of(name, *arm.split("/"), of=of or "accuracy")
        return "" if difference is None else difference_text(difference)
    stored = arm_of(name, arm)[of or "accuracy"]
    if stored is None:
        return ""
    if waits(name):
        return f"{stored['mean_percent']:.1f} ± {stored['half_width_points']:.1f}"
    ends = low_to_high(stored["low_percent"], stored["high_percent"])
    return f"{stored['mean_percent']:.1f} ({ends})"


def difference_text(stored: Mapping[str, Any]) -> str:
    """A stored difference; bold where it is established."""
    mean, low, high = (stored[f"{end}_points"] for end in ("mean", "low", "high"))
    text = f"**{signed(mean)}**" if stored["established"] else signed(mean)
    return text if low is None or low == high else f"{text} ({low_to_high(low, high)})"
