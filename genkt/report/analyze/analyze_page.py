"""The page of an analysis: models, what each knows that others do not, features, agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from genkt.metrics.complementary import TransferChange
from genkt.report.analyze.analyze_data import AnalyzeData, Pair
from genkt.report.analyze.analyze_text import (
    PAIR_HEAD,
    WEIGHTED_HEAD,
    by_flips,
    figure,
    headline,
    headline_text,
    model_cells,
    model_head,
    pair_cells,
    transfer_text,
    versus,
    weighted_cells,
)
from genkt.report.kit.charts import LOSS, MOST_CLASSES, flips_chart
from genkt.report.kit.matrix import matrix_chart
from genkt.report.kit.table_cells import Row, config_lines
from genkt.report.kit.templates import amount, page, sections
from genkt.report.transfer.summary import signed

_MOST_PAIRS = 30

Values = dict[str, Any]
"""Of a section's template in ``templates/analyze``."""


def render(data: AnalyzeData) -> str:
    """The whole analysis as one HTML document."""
    return page(
        "analyze.html",
        command="analyze",
        title=data.title,
        date=data.versions.get("date", ""),
        version=data.versions.get("genkt", ""),
        description=headline_text(data),
        pieces=[(text, "" if is_key else None) for text, is_key in headline(data)],
        notes=[
            *(("", note) for note in data.notes),
            *(("", f"left out: {path}: {reason}") for path, reason in data.skipped),
        ],
        sections=sections("analyze", [
            ("models", "Models", _models(data)),
            ("complementary", "Complementary knowledge", _complementary(data)),
            ("expertise", "Areas of expertise", _expertise(data)),
            ("transfer", "Transfer", _transfer(data)),
            ("weighted", "Weighted teacher features", _weighted(data)),
            ("agreement", "Agreement", _agreement(data)),
            ("repeat", "Settings", _settings(data)),
        ]),
    )  # fmt: skip


def _models(data: AnalyzeData) -> Values:
    """One row per model: its own head, a linear probe, LogME, distances."""
    return {
        "data": data,
        "among": _among(data),
        "head": ["model", *model_head(data.other), "parameters"],
        "rows": [
            [model.title, *model_cells(model, data.other), amount(model.num_parameters)]
            for model in data.models
        ],
        "ranked": [model.title for model in data.by_logme],
    }


def _among(data: AnalyzeData) -> str:
    """The classes that an answer is taken from."""
    alone = data.answers == "data"
    return "the classes of the data alone" if alone else "all classes that a head knows"


def _complementary(data: AnalyzeData) -> Values | None:
    """Positive flips and their entropy for every ordered pair."""
    if not data.pairs:
        return None
    names = [model.title for model in data.classifiers]
    entropy = np.full(data.flips.shape, np.nan)
    for pair in data.pairs:
        if data.flips[pair.student, pair.teacher] > 0:
            entropy[pair.student, pair.teacher] = pair.entropy
    corner = ("wrong", "right")
    flips = matrix_chart(
        100 * data.flips, names, title="Positive flips, % of all images", corner=corner,
        show=lambda value: f"{value:.1f}",
    )  # fmt: skip
    spread = matrix_chart(
        entropy, names, title="Entropy of the positive flips over classes, nats", corner=corner,
        show=lambda value: f"{value:.2f}", color="var(--c3)",
    )  # fmt: skip
    shown = by_flips(data)[:_MOST_PAIRS]
    return {
        "num_classes": len(data.classes),
        "charts": [
            ("Positive flips, % of all images", flips), ("Entropy over classes, nats", spread),
        ],
        "head": PAIR_HEAD,
        "rows": [pair_cells(data, pair) for pair in shown],
        "rest": len(data.pairs) - len(shown),
    }  # fmt: skip


def _expertise(data: AnalyzeData) -> Values | None:
    """Whether the classes that hold most of a pair's flips are like each other."""
    columns = [
        place
        for place in range(len(data.top_percent))
        if any(not math.isnan(data.relative(pair.top[place])) for pair in data.pairs)
    ]
    if not columns:
        return None
    shown = [pair for pair in by_flips(data)[:_MOST_PAIRS] if sum(pair.flips)]
    rows = [
        [
            versus(data, pair),
            *(_relative(data.relative(pair.top[place])) for place in columns),
            _named(data, pair),
        ]
        for pair in shown
    ]
    means = ["mean of all pairs"]
    for place in columns:
        values = np.array([data.relative(pair.top[place]) for pair in data.pairs])
        means.append(_relative(float(np.nanmean(values))))
    return {
        "similarity": figure(data.similarity),
        "embedded_by": data.embedded_by,
        "head": [
            "wrong → right", *(f"{data.top_percent[place]:g} %" for place in columns), "classes"
        ],
        "rows": [*rows, [*means, ""]],
        "main": [*(False for _ in rows), True],
    }  # fmt: skip


def _relative(value: float) -> str:
    return "–" if math.isnan(value) else f"{signed(100 * value)} %"


def _named(data: AnalyzeData, pair: Pair) -> str:
    """The first classes by share of flips."""
    shares = np.array(pair.flips) / np.maximum(data.class_sizes, 1)
    order = [int(index) for index in np.argsort(-shares, kind="stable")[:3] if shares[index]]
    return ", ".join(f"{data.classes[index]} ({100 * shares[index]:.0f} %)" for index in order)


def _transfer(data: AnalyzeData) -> Values | None:
    """What a student gained, lost and took over, by class."""
    if data.transfer is None:
        return None
    change = data.transfer.change
    rows = _by_class(change, data.classes)
    return {
        "text": transfer_text(data),
        "chart": flips_chart(change.change, data.classes),
        "rates": [
            [f"{value:g} %", _rate(change.top_rate(value))] for value in (*data.top_percent, 100.0)
        ],
        "rows": rows,
        "rest": len(data.classes) - len(rows),
    }


def _by_class(change: TransferChange, classes: Sequence[str]) -> list[Row]:
    """The classes with most of the teacher's flips."""
    gained, lost = change.change.gained_by_class, change.change.lost_by_class
    order = np.argsort(-change.offered, kind="stable")[:MOST_CLASSES]
    rows: list[Row] = []
    for index in map(int, order):
        size = max(int(change.class_sizes[index]), 1)
        shares = [100 * float(counts[index]) / size for counts in (gained, lost)]
        rows.append([
            classes[index],
            f"{change.class_sizes[index]:,}",
            *(f"{share:.1f}" for share in shares),
            signed(shares[0] - shares[1]),
            f"{change.offered[index]:,}",
            _rate(change.rate_of(np.array([index]))),
        ])  # fmt: skip
    return rows


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def _weighted(data: AnalyzeData) -> Values | None:
    """Linear probes of teacher features before and after AFT's weights."""
    if not data.weighted:
        return None
    rows = [
        [probe.run, " + ".join(probe.teachers), *weighted_cells(probe)] for probe in data.weighted
    ]
    return {"head": ["run", "teachers", *WEIGHTED_HEAD], "rows": rows}


def _agreement(data: AnalyzeData) -> Values | None:
    """CKA of all models; KL and top-1 agreement of the classifiers."""
    if len(data.models) < 2:
        return None
    names = [model.title for model in data.classifiers]
    charts = [("Linear CKA of features", matrix_chart(
        data.cka, [model.title for model in data.models], title="Linear CKA of features",
        show=lambda value: f"{value:.2f}",
    ))]  # fmt: skip
    if len(names) > 1:
        charts.append(("Same answer, % of all images", matrix_chart(
            100 * data.top1, names, title="Same answer, % of all images",
            show=lambda value: f"{value:.0f}", color="var(--c3)",
        )))  # fmt: skip
        charts.append(("KL(teacher || student), nats", matrix_chart(
            data.kl, names, title="Mean KL of the predictions, nats", color=LOSS,
            corner=("student", "teacher"), show=lambda value: f"{value:.2f}",
        )))  # fmt: skip
    return {"among": _among(data), "charts": charts}


def _settings(data: AnalyzeData) -> Values:
    models = [[model.title, model.name] for model in data.models]
    return {
        "command": data.command,
        "models": [*models, *([["other images", data.other]] if data.other is not None else [])],
        "versions": data.versions,
        "config": "\n".join(config_lines(data.config)),
    }
