"""One table of the comparisons of all worlds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from genkt.io import read_json
from genkt.types import UserError

MEASURED_IN = ("letters", "icons", "shapes", "shapes_vit", "greek", "digits_on_photos")
"""The worlds in which ``tools/defaults_calibration.py`` has measured the rules' constants."""


def read_studies(store: Path) -> dict[str, Any]:
    """World -> its ``compare.json``.

    Raises:
        UserError: there is none.
    """
    found = {path.parent.name: read_json(path) for path in sorted(store.glob("*/compare.json"))}
    if not found:
        raise UserError(f"{store}: no world has been compared yet")
    return found


def table(studies: Mapping[str, Any]) -> str:
    """A row a world: accuracy of each arm in percent, and each arm minus the tuned one in points.

    An interval of 95 % stands behind every difference; the last row has the means over worlds.
    """
    arms = [each["arm"] for each in next(iter(studies.values()))["arms"]]
    tuned = next(iter(studies.values()))["reference"]
    others = [arm for arm in arms if arm != tuned]
    rows = [["world", *arms, *(f"{arm} - {tuned}" for arm in others)]]
    rows.append(["---"] * len(rows[0]))
    for name, study in studies.items():
        own, minus = accuracies(study), differences(study)
        rows.append([name, *(f"{own[arm]:.1f}" for arm in arms),
                     *(_with_interval(minus[arm]) for arm in others)])  # fmt: skip
    means = [fmean(accuracies(study)[arm] for study in studies.values()) for arm in arms]
    gaps = [fmean(differences(study)[arm][0] for study in studies.values()) for arm in others]
    rows.append(["mean", *(f"{each:.1f}" for each in means), *(f"{each:+.1f}" for each in gaps)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def summary(studies: Mapping[str, Any]) -> dict[str, Any]:
    """What a page quotes: of each arm minus the tuned one the mean and the worst, in points.

    Of all worlds, and of those that no rule was measured in.
    """
    new = {name: study for name, study in studies.items() if name not in MEASURED_IN}
    return {"all": _summary(studies), "new": _summary(new)}


def _summary(studies: Mapping[str, Any]) -> dict[str, Any]:
    gaps = [differences(study) for study in studies.values()]
    means = [accuracies(study) for study in studies.values()]
    arms = gaps[0] if gaps else {}
    return {
        "worlds": len(studies),
        "accuracy": {arm: fmean(each[arm] for each in means) for arm in arms},
        "minus_tuned": {arm: fmean(each[arm][0] for each in gaps) for arm in arms},
        "worst": {arm: min(each[arm][0] for each in gaps) for arm in arms},
        "steps": {arm: _steps(studies, arm) for arm in arms},
    }


def _steps(studies: Mapping[str, Any], arm: str) -> list[int]:
    """The fewest and the most optimizer steps of an arm in a world, those of its trials too."""
    found = [
        int(each["budget"]["steps"])
        for study in studies.values()
        for each in study["arms"]
        if each["arm"] == arm and not each.get("same_as")
    ]
    return [min(found), max(found)]


def accuracies(study: Any) -> dict[str, float]:
    """Arm -> mean test accuracy in percent; an arm that is another's twin has the other's."""
    found = {each["arm"]: each for each in study["arms"]}
    return {
        name: float((found[each["same_as"]] if each.get("same_as") else each)["accuracy"][
            "mean_percent"
        ])
        for name, each in found.items()
    }  # fmt: skip


def differences(study: Any) -> dict[str, tuple[float, float, float]]:
    """Arm -> it minus the tuned arm, in points: mean, low, high."""
    twins = {each["arm"]: each.get("same_as") or each["arm"] for each in study["arms"]}
    stored = {each["a"]: _points(each["accuracy"]) for each in study["minus_reference"]}
    stored[twins[study["reference"]]] = (0.0, 0.0, 0.0)
    return {name: stored[twin] for name, twin in twins.items()}


def _points(of: Any) -> tuple[float, float, float]:
    return float(of["mean_points"]), float(of["low_points"]), float(of["high_points"])


def _with_interval(ends: tuple[float, float, float]) -> str:
    mean, low, high = ends
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
