"""Intervals as they stand in JSON files, the same in every report."""

from __future__ import annotations

from typing import Any

from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.verdicts import Verdict, is_shown, verdict


def share_entry(mean: float, interval: ScoreInterval | None) -> dict[str, Any]:
    """The mean of an arm, in percent.

    Args:
        mean: 0..1.  interval: around it; None where there is none. Its ends are null then, and
            of two draws.
    """
    low, high = _ends(interval)
    return {"mean_percent": 100 * mean, "low_percent": low, "high_percent": high} | _design(
        interval
    )


def loss_entry(mean: float, interval: ScoreInterval | None) -> dict[str, Any]:
    """The mean of what is no share, in its own unit; else as ``share_entry``."""
    shown = interval is not None and is_shown(interval)
    low, high = (interval.low, interval.high) if interval is not None and shown else (None, None)
    return {"mean": mean, "low": low, "high": high} | _design(interval)


def difference_entry(interval: ScoreInterval, p_adjusted: float | None = None) -> dict[str, Any]:
    """A paired difference, in points, and what may be said of it.

    Args:
        p_adjusted: for being one of several questions; it decides the verdict where it is given.
    """
    said = verdict(interval, p_adjusted)
    low, high = _ends(interval)
    found = {
        "mean_points": 100 * interval.mean,
        "low_points": low,
        "high_points": high,
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
    low, high = _ends(interval)
    return {
        "ratio_percent": 100 * interval.mean,
        "low_percent": low,
        "high_percent": high,
    } | _design(interval)


def _ends(interval: ScoreInterval | None) -> tuple[float | None, float | None]:
    """In percent; None where they are told nowhere, as of two draws."""
    if interval is None or not is_shown(interval):
        return None, None
    return 100 * interval.low, 100 * interval.high


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
