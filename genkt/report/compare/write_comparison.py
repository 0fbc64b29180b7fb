"""Write a comparison: compare.json for programs, compare.html for people, a Markdown table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genkt.io import write_json, write_text
from genkt.metrics.choice_values import validation_key
from genkt.report.compare.compare_data import AFTER, BEFORE, ComparedArm, Tried
from genkt.report.compare.compare_figures import what_varied
from genkt.report.compare.compare_page import render
from genkt.report.compare.compare_text import headline, markdown, sentences
from genkt.report.compare.contrasts import Comparison, Difference
from genkt.report.compare.findings import Findings
from genkt.report.compare.study_scores import SCORES, has_scores, write_study_scores
from genkt.report.kit.entries import difference_entry, mean_difference_entry, share_entry
from genkt.report.transfer.write_report import strict

SCHEMA_VERSION = 2
"""Raised when a key of compare.json changes its meaning or goes away."""


def build_comparison(found: Findings, out: str | Path) -> tuple[Path, Path, Path]:
    """Write ``compare.json``, ``compare.html``, ``compare.md`` into ``out``; return the paths.

    The scores that were kept are written beside them: ``scores_of_study`` reads them back.
    """
    out = Path(out)
    write_study_scores(found.study, out)
    return (
        write_json(out / "compare.json", comparison_dict(found)),
        write_text(out / "compare.html", render(found)),
        write_text(out / "compare.md", strict(markdown(found))),
    )


def comparison_dict(found: Findings) -> dict[str, Any]:
    """The content of compare.json: every key is always there, what is unknown is null or empty.

    Keys that end in ``_percent`` or ``_points`` are in percent; other accuracies are shares 0..1.
    Intervals and differences are as in ``genkt/report/kit/entries.py``: the intervals are not
    adjusted, the verdicts go by ``p_adjusted``.
    """
    data, asked = found.data, found.contrasts
    value = {
        "schema": "genkt.compare",
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "study": data.study,
        "headline": "".join(text for text, _ in headline(found)),
        "sentences": sentences(found),
        "baseline": data.baseline,
        "reference": data.reference,
        "seed": data.seed,
        "num_draws": data.num_draws,
        "what_varied": what_varied(data),
        "num_contrasts": asked.num,
        "leading": _leading(found),
        "scores": SCORES if has_scores(found.study) else None,
        "arms": [_arm(found, arm) for arm in found.study.arms],
        "cells": [_cell(arm, index) for arm in found.study.arms for index in range(len(arm.cells))],
        "minus_baseline": _comparisons(asked.minus_baseline),
        "minus_reference": _comparisons(asked.minus_reference),
        "pairs": _comparisons(asked.pairs),
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


def _leading(found: Findings) -> dict[str, Any]:
    """The leading arm and the others minus it, adjusted for all pairs of rows."""
    leading = found.leading
    return {
        "arm": leading.arm.name,
        "chosen_by": "validation" if leading.validated else "highest test mean",
        **_validated(leading.arm.validated_by, leading.arm.validation),
        "alike": [arm.name for arm in leading.alike],
        "worse": [arm.name for arm in leading.worse],
        "better": [arm.name for arm in leading.better],
        "num_pairs": leading.num_pairs,
        "minus_leading": _comparisons(leading.compared),
    }


def _arm(found: Findings, arm: ComparedArm) -> dict[str, Any]:
    data = found.data
    row = data.arm(arm.name) or arm
    entries = {
        column: share_entry(arm.mean(column) / 100, data.interval(arm, column))
        for column in (BEFORE, AFTER)
        if arm.answers(column)
    }
    return {
        "arm": arm.name,
        "title": arm.title,
        "listed": arm.listed,
        "same_as": row.name if arm.name != row.name else None,
        "head_taught": arm.head_taught,
        "words": list(arm.words),
        "distilled": entries.get(BEFORE),
        "accuracy": entries[AFTER],
        **_validated(arm.validated_by, arm.validation),
        "seconds_a_student": arm.seconds,
        "cost": dataclasses.asdict(arm.cost),
        "budget": None if arm.budget is None else dataclasses.asdict(arm.budget),
        "versions": dict(arm.versions),
        "config": arm.config,
    }


def _validated(by: str | None, value: float | None) -> dict[str, Any]:
    """The accuracy on validation images; with another ``task.metric`` that, and its name."""
    if by is None or by == validation_key("accuracy"):
        return {"validation_accuracy": value}
    return {"validation_accuracy": None, by: value}


def _cell(arm: ComparedArm, index: int) -> dict[str, Any]:
    cell = arm.cells[index]
    extras = dict(cell.result.extras)
    return {
        "arm": arm.name,
        "draw": cell.result.draw,
        "seed": cell.result.seed,
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
        **_validated(tried.validated_by, tried.validation),
        "seconds": tried.seconds,
        "chosen": tried.chosen,
    }


def _comparisons(compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    return [
        {
            "a": each.a.name,
            "b": each.b.name,
            "distilled": None if each.before is None else _difference(each.before),
            "accuracy": _difference(each.after),
        }
        for each in compared
    ]


def _difference(difference: Difference) -> dict[str, Any]:
    """As ``difference_entry``; what has no interval has the same keys."""
    if difference.interval is not None:
        return difference_entry(difference.interval, difference.p_adjusted)
    return mean_difference_entry(difference.points / 100, difference.verdict)
