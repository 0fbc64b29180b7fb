"""Figures of this repository's studies that the package quotes: ``configs/evidence.json``.

``make figures`` writes that file from the studies' own results. No figure is typed in by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from genkt.io import resource
from genkt.report.transfer.summary import signed

EVIDENCE = "evidence.json"


@dataclass(frozen=True)
class Contrast:
    """An arm of a study minus another, in points of test accuracy after fine-tuning.

    Args:
        study, arm, against: names in ``configs/study``.
        mean, low, high: with its 95 % interval, not adjusted.
        established: as the study says it, whatever else it asked.
        data, labels_per_class: that it was measured on.
        date: of the measurement.
    """

    study: str
    arm: str
    against: str
    mean: float
    low: float
    high: float
    established: bool
    data: str
    labels_per_class: int
    date: str

    def __str__(self) -> str:
        """ "+8.0 points, 4.9 to 11.0" """
        return f"{signed(self.mean)} points, {low_to_high(self.low, self.high)}"


def low_to_high(low: float, high: float) -> str:
    """ "−4.9 to 11.0": the ends of a stored interval."""
    return f"{low:.1f} to {high:.1f}".replace("-", "\u2212")


@cache
def _stored() -> Any:
    return json.loads((resource("configs") / EVIDENCE).read_text(encoding="utf-8"))


def contrast(study: str, arm: str, against: str) -> Contrast:
    """A stored difference. Raises: StopIteration where ``tools/figures.py`` does not quote it."""
    names = {"study": study, "arm": arm, "against": against}
    found = next(each for each in _stored()["contrasts"] if names.items() <= each.items())
    return Contrast(
        **names, mean=found["mean_points"], low=found["low_points"], high=found["high_points"],
        established=found["established"], data=found["data"],
        labels_per_class=found["labels_per_class"], date=found["date"],
    )  # fmt: skip


def share_of_gains(method: str) -> str:
    """ "77 % of 30": pairs of models in which the student gains (``benchmarks/kl_dp_pairs.py``)."""
    found = next(each for each in _stored()["gains"] if each["method"] == method)
    return f"{100 * found['gains'] / found['pairs']:.0f} % of {found['pairs']}"
