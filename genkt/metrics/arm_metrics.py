"""Figures beyond accuracy of several students of one arm, with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.calibration import Reliability, reliability
from genkt.metrics.classification import ClassificationMetrics, classification_metrics
from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.metric_values import metric_values
from genkt.metrics.scored_arms import DrawDesign, Scored, of_arm, of_loss

NLL = "nll"
METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    NLL: "NLL",
    "ece": "ECE",
}
"""The single figures, and what the reader calls them."""


@dataclass(frozen=True)
class ArmMetrics:
    """Means over the students of an arm.

    Args:
        means: metric -> mean, 0..1 and nats; None where it is not defined.
        intervals: metric -> around the mean, for those that have one.
        precision, recall, f1: [C] mean over the students for whom it is defined, NaN without one.
        reliability: of the answers of all students together.
    """

    means: Mapping[str, float | None]
    intervals: Mapping[str, ScoreInterval]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    reliability: Reliability


def arm_metrics(
    labels: NDArray[np.int64], students: Mapping[tuple[int, int], NDArray[np.floating]],
    design: DrawDesign,
) -> ArmMetrics:  # fmt: skip
    """The figures of some students.

    Args:
        labels: [N].  students: (draw, seed) -> [N, C] probabilities.
    """
    each = [classification_metrics(labels, found) for found in students.values()]
    sure = np.concatenate([found.max(axis=1) for found in students.values()])
    right = np.concatenate([found.argmax(axis=1) == labels for found in students.values()])
    precision, recall, f1 = (
        _mean_over_students([getattr(one.by_class, kind) for one in each])
        for kind in ("precision", "recall", "f1")
    )
    return ArmMetrics(
        {name: _mean(each, name) for name in METRICS},
        metric_intervals(labels, students, design),
        precision, recall, f1, reliability(sure, right),
    )  # fmt: skip


def metric_intervals(
    labels: NDArray[np.int64], students: Mapping[tuple[int, int], NDArray[np.floating]],
    design: DrawDesign,
) -> dict[str, ScoreInterval]:  # fmt: skip
    """Metric -> its 95 % interval, where the images determine it; see ``metric_values``."""
    values: dict[str, dict[tuple[int, int], NDArray[np.float64]]] = {}
    for student, probabilities in students.items():
        for name, found in metric_values(labels, probabilities).items():
            values.setdefault(name, {})[student] = found
    intervals = {name: _interval(name, found, design) for name, found in values.items()}
    return {name: found for name, found in intervals.items() if found is not None}


def _interval(name: str, values: Scored, design: DrawDesign) -> ScoreInterval | None:
    if name == NLL:
        return of_loss(values, design)
    return of_arm(values, replace(design, pseudo=name != "accuracy"))


def _mean(students: Sequence[ClassificationMetrics], name: str) -> float | None:
    found = [value for each in students if (value := each.as_dict()[name]) is not None]
    return float(np.mean(found)) if found else None


def _mean_over_students(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a class that no student answers
        return np.asarray(np.nanmean(np.stack(rows), axis=0))
