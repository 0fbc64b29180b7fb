"""Write a run's report: report.json for programs, report.html for people."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.io import write_json, write_text
from genkt.metrics.flips import confusion, histogram_entropy
from genkt.report.kit.entries import (
    difference_entry,
    mean_difference_entry,
    ratio_entry,
    share_entry,
)
from genkt.report.transfer.answers import all_flips
from genkt.report.transfer.headline import headline_text, scope, varied_text, verdict_word
from genkt.report.transfer.metrics_section import majority_entry, metrics_entry
from genkt.report.transfer.report_data import (
    ModelSummary,
    ReportData,
    SplitSummary,
    TransferSample,
)
from genkt.report.transfer.report_page import render
from genkt.report.transfer.sections import exported_interval
from genkt.report.transfer.summary import (
    MARGIN,
    ArmDifference,
    ArmMean,
    ArmSummary,
    TeacherSummary,
    against_others,
    against_teachers,
    planned,
    summarise,
)
from genkt.report.transfer.text_table import text_summary
from genkt.types import Cost, Prediction

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

SCHEMA_VERSION = 2
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
    Means and differences are entries of ``genkt.report.kit.entries``, their intervals those of
    ``genkt.metrics.intervals``. p-values are adjusted for all differences of the report, intervals
    are not. What the claims rest on:

    - ``headline``, ``verdict`` (of the method against the baseline; null without one),
      ``what_varied``, ``scope`` (sentences), ``design``, ``needed`` (what would show two points)
    - ``arms``: ``role`` "student": accuracy, before the last stage (``distilled``), difference to
      the baseline, ``metrics`` (beyond accuracy, means over students);
      then ``role`` "teacher": a head, and the students against it (``teacher``)
    - ``majority``: always the most common class of the test images
    - ``method_minus_arms``; ``flips`` over all pairs of students; ``exported``: that student alone
    - ``cells``: every student; ``predictions``: of the exported draw and seed
    """
    value = {
        "schema": "genkt.report",
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "headline": headline_text(data),
        "verdict": verdict_word(data),
        "what_varied": varied_text(data),
        "scope": [{"title": title.rstrip(":"), "text": text} for title, text in scope(data)],
        "design": _design(data),
        "method": data.method,
        "baseline": data.baseline if data.has_baseline else None,
        "arms": [
            *(
                _arm(summary) | _budget(data, summary.arm) | metrics_entry(data, summary.arm)
                for summary in summarise(data)
            ),
            *(_teacher(found) for found in against_teachers(data)),
        ],
        "method_minus_arms": {
            arm: _difference(found) for arm, found in against_others(data).items()
        },
        "needed": _needed(data),
        "majority": majority_entry(data),
        "cells": [dataclasses.asdict(cell) for cell in data.cells],
        "classes": list(data.classes),
        "exported": _exported(data),
        "predictions": _predictions(data),
        "flips": _flips(data),
        "artifacts": {name: _artifact(array) for name, array in data.artifacts.items()},
        "transfer_set": _transfer_set(data),
        "near_copies": _near_copies(data),
        "distance": None if data.distance is None else dataclasses.asdict(data.distance),
        "models": [dataclasses.asdict(model) for model in data.models],
        "stages": {name: dataclasses.asdict(cost) for name, cost in data.stages.items()},
        "accuracy_after": dict(data.after),
        "splits": [dataclasses.asdict(split) for split in data.splits],
        "labels": {"training": data.training_labels, "validation": data.validation_labels},
        "skipped": [{"path": path, "reason": reason} for path, reason in data.skipped],
        "command": data.command,
        "versions": dict(data.versions),
        "config": data.config,
        "snippet": data.snippet,
        "notes": list(data.notes),
    }
    return {key: strict(entry) for key, entry in value.items()}


def _transfer_set(data: ReportData) -> dict[str, Any]:
    return {
        "composition": dict(data.transfer_composition),
        "samples": [
            {"source": sample.source, "label": sample.label, "detail": sample.detail}
            for sample in data.transfer_samples
        ],
        "sheet": data.transfer_sheet or None,
    }


def _near_copies(data: ReportData) -> dict[str, Any] | None:
    """How many test images have one, in which parts, and all pairs."""
    rows = data.near_copies
    if rows is None:
        return None
    return {
        "num_test_images": len({row.test for row in rows}),
        "parts": dict(Counter(row.part for row in rows)),
        "pairs": [
            {"test": row.test, "part": row.part, "image": row.other,
             "likeness": round(row.likeness, 4)}
            for row in rows
        ],
    }  # fmt: skip


def _arm(summary: ArmSummary) -> dict[str, Any]:
    return {
        "arm": summary.arm,
        "name": summary.name,
        "role": "student",
        "draws": [cell.draw for cell in summary.cells],
        "seeds": [cell.seed for cell in summary.cells],
        "accuracy": _share(summary.accuracy),
        "distilled": None if summary.distilled is None else _share(summary.distilled),
        "difference": None if summary.difference is None else _difference(summary.difference),
        "teacher": None,
        "cost": dataclasses.asdict(summary.cost),
    }


def _budget(data: ReportData, arm: str) -> dict[str, Any]:
    budget = data.budgets.get(arm)
    return {"budget": None if budget is None else dataclasses.asdict(budget)}


def _teacher(found: TeacherSummary) -> dict[str, Any]:
    """A head of a teacher, with the same keys; ``teacher`` has the students against it."""
    draws = list(found.teacher.scores)
    ratio, difference = found.ratio, found.difference
    return {
        "arm": found.teacher.arm,
        "name": found.teacher.name,
        "role": "teacher",
        "draws": draws,
        "seeds": [0] * len(draws),
        "accuracy": _share(found.accuracy),
        "distilled": None,
        "difference": None,
        "teacher": {
            "taught": found.teacher.taught,
            "student_ratio": None if ratio is None else ratio_entry(ratio),
            "student_difference": None if difference is None else difference_entry(difference),
            "margin_points": 100 * MARGIN,
            "within_margin": found.within.word,
        },
        "cost": dataclasses.asdict(Cost()),
        "budget": None,
        "metrics": None,
    }


def _share(found: ArmMean) -> dict[str, Any]:
    return share_entry(found.mean, found.interval)


def _difference(found: ArmDifference) -> dict[str, Any]:
    """Its mean is always there; without an interval everything else is null."""
    if found.interval is not None:
        return difference_entry(found.interval, found.p)
    return mean_difference_entry(found.mean, found.verdict)


def _design(data: ReportData) -> dict[str, Any]:
    design = data.design
    return {
        "labels_vary": design.labels_vary,
        "pool_share": design.pool_share,
        "num_groups": None if design.groups is None else len(set(design.groups)),
    }


def _needed(data: ReportData) -> dict[str, Any] | None:
    """Sizes at which a difference would be established; null where the variances are not known."""
    plan = planned(data)
    if plan is None:
        return None
    return {
        "difference_points": 100 * plan.difference,
        "power": plan.power,
        "draws": plan.draws,
        "images": plan.images,
        "images_at_draws": {str(draws): images for draws, images in plan.images_at},
    }


def _exported(data: ReportData) -> dict[str, Any]:
    """Of the exported student alone, its interval over test images."""
    prediction, alone = data.predictions.get(data.method), exported_interval(data)
    return {
        "draw": data.exported_draw,
        "seed": data.exported_seed,
        "accuracy": None if prediction is None else prediction.accuracy,
        "interval_95": None if alone is None else [alone.low, alone.high],
    }


def _predictions(data: ReportData) -> dict[str, Any]:
    first = next(iter(data.predictions.values()), None)
    return {
        "ids": [] if first is None else list(first.ids),
        "groups": None if data.design.groups is None else list(data.design.groups),
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
    """Shares of all answers of all pairs of students; counts are sums over the pairs."""
    found = all_flips(data)
    if found is None:
        return None
    change, num_pairs = found
    return {
        "num_pairs": num_pairs,
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
