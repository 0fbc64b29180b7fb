"""Write a comparison: compare.json for programs, compare.html for people, a Markdown table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from genkt.io import write_json, write_text
from genkt.report.compare.compare_data import (
    AFTER,
    BEFORE,
    ComparedArm,
    CompareData,
    Comparison,
    Tried,
    against,
    asked,
)
from genkt.report.compare.compare_page import render
from genkt.report.compare.compare_text import headline, markdown, sentences
from genkt.report.transfer.write_report import difference_dict, interval_dict, strict

SCHEMA_VERSION = 1
"""Raised when a key of compare.json changes its meaning or goes away."""


def build_comparison(data: CompareData, out: str | Path) -> tuple[Path, Path, Path]:
    """Write ``compare.json``, ``compare.html``, ``compare.md`` into ``out``; return the paths."""
    out = Path(out)
    return (
        write_json(out / "compare.json", comparison_dict(data)),
        write_text(out / "compare.html", render(data)),
        write_text(out / "compare.md", strict(markdown(data))),
    )


def comparison_dict(data: CompareData) -> dict[str, Any]:
    """The content of compare.json: every key is always there, what is unknown is null or empty.

    Keys that end in ``_percent`` or ``_points`` are in percent; other accuracies are shares 0..1.
    """
    value = {
        "schema": "genkt.compare",
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "study": data.study,
        "headline": "".join(text for text, _ in headline(data)),
        "sentences": sentences(data),
        "baseline": data.baseline,
        "reference": data.reference,
        "seed": data.seed,
        "num_draws": data.num_draws,
        "arms": [_arm(arm) for arm in data.arms],
        "cells": [_cell(arm, index) for arm in data.arms for index in range(len(arm.cells))],
        "minus_baseline": [_comparison(c) for c in against(data, data.arm(data.baseline))],
        "minus_reference": [_comparison(c) for c in against(data, data.arm(data.reference))],
        "pairs": [_comparison(c) for c in asked(data)],
        "sweeps": [dataclasses.asdict(sweep) for sweep in data.sweeps],
        "tuning": [_tried(tried) for tried in data.tuning],
        "work": None if data.work is None else dataclasses.asdict(data.work),
        "failed": [{"arm": arm, "reason": reason} for arm, reason in data.failed],
        "notes": list(data.notes),
        "words": list(data.words),
        "command": data.command,
        "versions": dict(data.versions),
    }
    return {key: strict(entry) for key, entry in value.items()}


def _arm(arm: ComparedArm) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "title": arm.title,
        "listed": arm.listed,
        "words": list(arm.words),
        "distilled": interval_dict(arm.interval(BEFORE)) if arm.is_distilled else None,
        "accuracy": interval_dict(arm.interval(AFTER)),
        "seconds_a_student": arm.seconds,
        "cost": dataclasses.asdict(arm.cost),
        "budget": None if arm.budget is None else dataclasses.asdict(arm.budget),
        "versions": dict(arm.versions),
        "config": arm.config,
    }


def _cell(arm: ComparedArm, index: int) -> dict[str, Any]:
    cell = arm.cells[index]
    extras = dict(cell.result.extras)
    return {
        "arm": arm.name,
        "draw": cell.result.draw,
        "accuracy_distilled": cell.result.accuracy_distilled,
        "accuracy": cell.result.accuracy,
        "validation_accuracy": extras.pop("validation_accuracy", None),
        "extras": extras,
        "cost": dataclasses.asdict(cell.result.cost),
        "stages": {name: dataclasses.asdict(cost) for name, cost in cell.stages.items()},
    }


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "arm": tried.arm,
        "words": list(tried.words),
        "validation_accuracy": tried.validation,
        "seconds": tried.seconds,
        "chosen": tried.chosen,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    both = comparison.a.is_distilled or comparison.b.is_distilled
    return {
        "a": comparison.a.name,
        "b": comparison.b.name,
        "distilled": difference_dict(comparison.before) if both else None,
        "accuracy": difference_dict(comparison.after),
    }
