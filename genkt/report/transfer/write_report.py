"""Write a run's report: report.json for programs, report.html for people."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.io import write_json, write_text
from genkt.metrics.flips import confusion, flips, histogram_entropy
from genkt.metrics.statistics import PairedDifference, wilson_interval
from genkt.report.transfer.report_data import (
    ModelSummary,
    ReportData,
    SplitSummary,
    TransferSample,
)
from genkt.report.transfer.report_page import render
from genkt.report.transfer.summary import (
    ArmSummary,
    against_others,
    headline_text,
    summarise,
    text_summary,
    verdict,
)
from genkt.types import Interval, Prediction

__all__ = [
    "SCHEMA_VERSION",
    "ModelSummary",
    "ReportData",
    "SplitSummary",
    "TransferSample",
    "build_report",
    "report_dict",
    "text_summary",
]

SCHEMA_VERSION = 1
"""Raised when a key of report.json changes its meaning or goes away."""


def build_report(data: ReportData, out: str | Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into the folder ``out``; return their paths.

    The latter comes last: where it is, a run has ended.
    """
    out = Path(out)
    html_path = write_text(out / "report.html", render(data))
    json_path = write_json(out / "report.json", report_dict(data))
    return json_path, html_path


def report_dict(data: ReportData) -> dict[str, Any]:
    """The content of report.json: every key is always there, what is unknown is null or empty.

    Keys that end in ``_percent`` or ``_points`` are in percent; other accuracies are shares 0..1.
    """
    value = {
        "schema": "genkt.report",
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "headline": headline_text(data),
        "verdict": verdict(data),
        "method": data.method,
        "baseline": data.baseline if data.has_baseline else None,
        "arms": [_arm(summary) | _budget(data, summary.arm) for summary in summarise(data)],
        "method_minus_arms": {arm: difference_dict(found) for arm, found in against_others(data)},
        "cells": [dataclasses.asdict(cell) for cell in data.cells],
        "classes": list(data.classes),
        "exported": _exported(data),
        "predictions": _predictions(data),
        "flips": _flips(data),
        "artifacts": {name: _artifact(array) for name, array in data.artifacts.items()},
        "transfer_set": {
            "composition": dict(data.transfer_composition),
            "samples": [
                {"source": sample.source, "label": sample.label, "detail": sample.detail}
                for sample in data.transfer_samples
            ],
            "sheet": data.transfer_sheet or None,
        },
        "distance": None if data.distance is None else dataclasses.asdict(data.distance),
        "models": [dataclasses.asdict(model) for model in data.models],
        "stages": {name: dataclasses.asdict(cost) for name, cost in data.stages.items()},
        "accuracy_after": dict(data.after),
        "splits": [dataclasses.asdict(split) for split in data.splits],
        "skipped": [{"path": path, "reason": reason} for path, reason in data.skipped],
        "command": data.command,
        "versions": dict(data.versions),
        "config": data.config,
        "snippet": data.snippet,
        "notes": list(data.notes),
        "design": {
            "labels_vary": data.design.labels_vary, "pool_share": data.design.pool_share,
        },
    }  # fmt: skip
    return {key: strict(entry) for key, entry in value.items()}


def _arm(summary: ArmSummary) -> dict[str, Any]:
    return {
        "arm": summary.arm,
        "name": summary.name,
        "draws": [cell.draw for cell in summary.cells],
        "accuracy": interval_dict(summary.accuracy),
        "distilled": None if summary.distilled is None else interval_dict(summary.distilled),
        "difference": None if summary.difference is None else difference_dict(summary.difference),
        "cost": dataclasses.asdict(summary.cost),
    }


def _budget(data: ReportData, arm: str) -> dict[str, Any]:
    budget = data.budgets.get(arm)
    return {"budget": None if budget is None else dataclasses.asdict(budget)}


def difference_dict(difference: PairedDifference) -> dict[str, Any]:
    """A paired difference as it stands in a JSON file."""
    return {
        "mean_points": difference.mean,
        "low_points": difference.low,
        "high_points": difference.high,
        "p_value": difference.p_value,
        "num_draws": difference.n,
        "established": difference.established,
    }


def interval_dict(interval: Interval) -> dict[str, Any]:
    """A mean with its interval as it stands in a JSON file."""
    return {
        "mean_percent": interval.mean,
        "half_width_points": interval.half_width,
        "num_draws": interval.n,
    }


def _exported(data: ReportData) -> dict[str, Any]:
    prediction = data.predictions.get(data.method)
    found: dict[str, Any] = {
        "draw": data.exported_draw, "seed": data.exported_seed, "accuracy": None, "wilson": None,
    }  # fmt: skip
    if prediction is not None:
        num_right = int((prediction.predicted == prediction.labels).sum())
        found["accuracy"] = prediction.accuracy
        found["wilson"] = list(wilson_interval(num_right, len(prediction.ids)))
    return found


def _predictions(data: ReportData) -> dict[str, Any]:
    first = next(iter(data.predictions.values()), None)
    return {
        "ids": [] if first is None else list(first.ids),
        "labels": [] if first is None else first.labels.cpu().tolist(),
        "arms": {arm: _answers(prediction) for arm, prediction in data.predictions.items()},
    }


def _answers(prediction: Prediction) -> dict[str, Any]:
    """Predicted class and probability of every sample; the confusion matrix without its zeros."""
    matrix = confusion(prediction)
    rows, columns = np.nonzero(matrix)
    probabilities = prediction.probabilities.max(dim=1).values.cpu().tolist()
    return {
        "predicted": prediction.predicted.cpu().tolist(),
        "probability": [round(value, 5) for value in probabilities],
        "confusion_true": rows.tolist(),
        "confusion_predicted": columns.tolist(),
        "confusion_count": matrix[rows, columns].tolist(),
    }


def _artifact(array: NDArray[Any]) -> dict[str, Any]:
    """Shape and values; matrices stay in the run's own files: as text they would be huge."""
    array = np.asarray(array)
    values = array.tolist() if array.ndim <= 1 else None
    return {"shape": list(array.shape), "values": values}


def _flips(data: ReportData) -> dict[str, Any] | None:
    student, baseline = (data.predictions.get(arm) for arm in (data.method, data.baseline))
    if not data.has_baseline or student is None or baseline is None:
        return None
    change = flips(baseline, student)
    return {
        "positive": change.positive,
        "negative": change.negative,
        "gained_by_class": change.gained_by_class.tolist(),
        "lost_by_class": change.lost_by_class.tolist(),
        "gained_entropy_nats": histogram_entropy(change.gained_by_class),
        "lost_entropy_nats": histogram_entropy(change.lost_by_class),
    }


def strict(value: Any) -> Any:
    """What every JSON reader accepts: no NaN or infinity, no broken unicode, text keys."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {strict(str(key)): strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(entry) for entry in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
