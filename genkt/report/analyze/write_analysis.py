"""Write an analysis: analyze.html for people, analyze.json for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genkt.io import write_json, write_text
from genkt.report.analyze.analyze_data import AnalyzeData, AnalyzedModel, Pair, Share, WeightedProbe
from genkt.report.analyze.analyze_page import render
from genkt.report.analyze.analyze_text import headline_text
from genkt.report.kit.entries import difference_entry
from genkt.report.transfer.write_report import strict

FILES = ("analyze.html", "analyze.json")
SCHEMA_VERSION = 1
"""Raised when a key of analyze.json changes its meaning or goes away."""


def build_analysis(data: AnalyzeData, out: Path) -> tuple[Path, Path]:
    """Write ``analyze.html`` and then ``analyze.json`` into ``out``; return the paths."""
    html, json = (out / name for name in FILES)
    return write_text(html, render(data)), write_json(json, analysis_dict(data))


def analysis_dict(data: AnalyzeData) -> dict[str, Any]:
    """The content of analyze.json: every key is always there, what is unknown is null or empty.

    Shares, accuracies and rates are 0..1, keys that end in ``_points`` are in percent, entropies
    and KL in nats. The rows and columns of the matrices are ``classifiers``, of cka ``models``.
    """
    value = {
        "schema": "genkt.analyze",
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "headline": headline_text(data),
        "split": data.split,
        "num_images": data.num_samples,
        "answers": data.answers,
        "num_train": data.num_train,
        "probe_on": data.probe_on,
        "classes": list(data.classes),
        "class_sizes": list(data.class_sizes),
        "models": [_model(model) for model in data.models],
        "classifiers": [model.name for model in data.classifiers],
        "logme_ranking": [model.name for model in data.by_logme],
        "any_right": _share(data.any_right),
        "flips": data.flips.tolist(),
        "pairs": [_pair(data, pair) for pair in data.pairs],
        "class_similarity": {"by": data.embedded_by, "all_classes": data.similarity},
        "transfer": _transfer(data),
        "weighted_features": [_weighted(probe) for probe in data.weighted],
        "frechet": {"num_images": data.num_distance, "other": data.other},
        "kl": data.kl.tolist(),
        "top1_agreement": data.top1.tolist(),
        "cka": data.cka.tolist(),
        "notes": list(data.notes),
        "skipped": [{"path": path, "reason": reason} for path, reason in data.skipped],
        "command": data.command,
        "versions": dict(data.versions),
        "config": data.config,
    }
    return {key: strict(entry) for key, entry in value.items()}


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    found = share.interval
    return {
        "value": share.value,
        "interval_95": None if found is None else [found.low, found.high],
        "num_right": share.num_right,
        "num_samples": share.num_samples,
    }


def _model(model: AnalyzedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "title": model.title,
        "num_parameters": model.num_parameters,
        "feature_width": model.width,
        "accuracy": _share(model.accuracy),
        "right_by_class": list(model.by_class),
        "linear_probe": _share(model.probe),
        "logme": model.logme,
        "frechet_train": model.distance,
        "frechet_other": model.distance_other,
    }


def _pair(data: AnalyzeData, pair: Pair) -> dict[str, Any]:
    return {
        "student": data.classifiers[pair.student].name,
        "teacher": data.classifiers[pair.teacher].name,
        "difference": None if pair.difference is None else difference_entry(pair.difference),
        "positive_flips": float(data.flips[pair.student, pair.teacher]),
        "by_class": list(pair.flips),
        "entropy": pair.entropy,
        "top_classes": [
            {
                "percent": top.percent,
                "classes": [data.classes[index] for index in top.classes],
                "similarity": top.similarity,
                "relative_to_all": data.relative(top),
            }
            for top in pair.top
        ],
    }


def _transfer(data: AnalyzeData) -> dict[str, Any] | None:
    if data.transfer is None:
        return None
    found, change = data.transfer, data.transfer.change
    gained, lost = change.change.gained_by_class, change.change.lost_by_class
    by_class = {
        name: {
            "images": int(change.class_sizes[index]),
            "gained": int(gained[index]),
            "lost": int(lost[index]),
            "offered": int(change.offered[index]),
            "taken": int(change.taken[index]),
            "transfer_rate": change.rate_of(np.array([index])),
        }
        for index, name in enumerate(data.classes)
    }
    return {
        "before": found.before,
        "after": found.after,
        "teacher": found.teacher,
        "gain_points": 100 * change.change.positive,
        "loss_points": 100 * change.change.negative,
        "transfer_delta_points": 100 * change.change.net,
        "transfer_rate": change.rate,
        "top_classes": [
            {"percent": percent, "transfer_rate": change.top_rate(percent)}
            for percent in data.top_percent
        ],
        "by_class": by_class,
    }


def _weighted(probe: WeightedProbe) -> dict[str, Any]:
    return {
        "run": probe.run,
        "teachers": list(probe.teachers),
        "feature_width": probe.width,
        "linear_probe": _share(probe.plain),
        "weighted_linear_probe": [_share(share) for share in probe.weighted],
    }
