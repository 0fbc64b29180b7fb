"""Intervals as they stand in JSON files, the same in every report."""

from __future__ import annotations

from typing import Any

from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.verdicts import Verdict, verdict


def share_entry(mean: float, interval: ScoreInterval | None) -> dict[str, Any]:
    """The mean of an arm, in percent.

    Args:
        mean: 0..1.  interval: around it; None where there is none: its keys are null.
    """
    low, high = (None, None) if interval is None else (100 * interval.low, 100 * interval.high)
    return {"mean_percent": 100 * mean, "low_percent": low, "high_percent": high} | _design(
        interval
    )


def difference_entry(interval: ScoreInterval, p_adjusted: float | None = None) -> dict[str, Any]:
    """A paired difference, in points, and what may be said of it.

    Args:
        p_adjusted: for being one of several questions; it decides the verdict where it is given.
    """
    said = verdict(interval, p_adjusted)
    found = {
        "mean_points": 100 * interval.mean,
        "low_points": 100 * interval.low,
        "high_points": 100 * interval.high,
        "p_value": interval.p,
    }
    if p_adjusted is not None:
        found["p_adjusted"] = p_adjusted
    return (
        found
        | {
            "verdict": said.word,
            "established": said.established,
            "reason": said.reason,
        }
        | _design(interval)
    )


def mean_difference_entry(mean: float, said: Verdict) -> dict[str, Any]:
    """A difference without an interval: the keys of ``difference_entry``, most of them null.

    Args:
        mean: -1..1.
    """
    empty = ("low_points", "high_points", "p_value", "p_adjusted")
    return {
        "mean_points": 100 * mean,
        **dict.fromkeys(empty),
        "verdict": said.word,
        "established": said.established,
        "reason": said.reason,
    } | _design(None)


def ratio_entry(interval: ScoreInterval) -> dict[str, Any]:
    """A ratio of two means, in percent of the second."""
    return {
        "ratio_percent": 100 * interval.mean,
        "low_percent": 100 * interval.low,
        "high_percent": 100 * interval.high,
    } | _design(interval)


def _design(interval: ScoreInterval | None) -> dict[str, Any]:
    """What varied; ``num_images`` counts groups where images come in groups."""
    if interval is None:
        return {"num_draws": None, "num_seeds": None, "num_images": None, "varied": []}
    design = interval.design
    return {
        "num_draws": design.draws,
        "num_seeds": design.seeds,
        "num_images": design.images,
        "varied": list(design.varied),
    }
