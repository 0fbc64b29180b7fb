"""``genkt analyze``: collect every model's outputs, compare them, write the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from genkt.analysis.classifier_pairs import (
    agreement,
    answers_right,
    any_right,
    mean_features,
    pairs_of,
    similarity_of,
    text_embeddings,
    transfer_of,
)
from genkt.analysis.collect_outputs import (
    Collected,
    Collector,
    Parts,
    check_models,
    read_parts,
)
from genkt.analysis.probes import distances, evidence, num_compared, probed
from genkt.analysis.weighted_features import read_aft, weighted_probe
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.io import contents, home_path
from genkt.locks import LOCKS, at_work
from genkt.metrics.agreement import linear_cka
from genkt.report.analyze.analyze_data import AnalyzeData, AnalyzedModel, Share, WeightedProbe
from genkt.report.analyze.analyze_text import text_table
from genkt.report.analyze.write_analysis import FILES, build_analysis
from genkt.runs.versions import versions
from genkt.types import UserError


@dataclass(frozen=True)
class Analysis:
    """Every number of an analysis, and the folder that holds its report, if it was written."""

    data: AnalyzeData
    out: Path | None

    def text(self) -> str:
        """What is printed."""
        lines = [text_table(self.data)]
        lines += [f"report: {self.out / FILES[0]}"] if self.out else []
        return "\n".join(lines)


def run_analysis(config: AnalyzeConfig, command: str) -> Analysis:
    """Analyse the models that the settings name.

    Args:
        command: how to repeat it, for the report.

    Raises:
        UserError: models, data or an ``out`` that cannot be used, before anything is written.
    """
    out = _claimed(config)
    check_models(config.names)
    parts = read_parts(config)
    texts = text_embeddings(config, parts.classes)  # may fail, so it comes before the long part
    collector = Collector(parts, config.answers, config.batch_size, config.device)
    data = _analysed(config, collector, _collected(config, collector), texts, command)
    if out is not None:
        with at_work(out, lambda: _require_free(out, config), alone=True):
            build_analysis(data, out)
    return Analysis(data, out)


def _claimed(config: AnalyzeConfig) -> Path | None:
    """The folder to write, if it is new, empty, or may be replaced."""
    if config.out is None:
        return None
    out = home_path(config.out)
    _require_free(out, config)
    return out


def _require_free(out: Path, config: AnalyzeConfig) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out}: expected a folder, got a file")
    there = contents(out) - {LOCKS}
    if not there <= set(FILES):
        raise UserError(f"out={out}: the folder is not empty and holds no analysis of genkt")
    # Without the last file, the folder is of a killed command, which is continued.
    if FILES[-1] in there and not config.overwrite:
        raise UserError(
            f"out={out}: holds an analysis; give another out= or overwrite=true to replace it"
        )


def _collected(config: AnalyzeConfig, collector: Collector) -> list[Collected]:
    found = []
    for name in config.names:
        model = collector.collect(name)
        if model.answers is None and name in (config.triple or ()):
            raise UserError(f"transfer: expected classifiers of these classes; {model.note}")
        found.append(model)
    return found


def _analysed(
    config: AnalyzeConfig, collector: Collector, found: list[Collected],
    texts: tuple[str, np.ndarray] | None, command: str,
) -> AnalyzeData:  # fmt: skip
    parts, titles = collector.parts, config.titles
    models = _models(config, parts, found)
    classifiers = [model for model in found if model.answers is not None]
    right = answers_right(classifiers, parts)
    best = max(models, key=lambda model: model.probe.value)
    embedded_by, embeddings = texts or mean_features(config, parts, found, best)
    flips, pairs = pairs_of(right, parts, config.top_percent, embeddings)
    kl, top1 = agreement(classifiers)
    weighted, weighted_notes = _weighted(config, collector)
    return AnalyzeData(
        title=config.data.title,
        split=config.split,
        classes=parts.classes,
        class_sizes=np.bincount(parts.labels, minlength=len(parts.classes)).tolist(),
        answers=config.answers,
        num_train=len(parts.train),
        probe_on=config.probe_on,
        models=models,
        any_right=any_right(right, parts),
        flips=flips,
        kl=kl,
        top1=top1,
        cka=_cka(found),
        pairs=pairs,
        top_percent=config.top_percent,
        embedded_by=embedded_by,
        similarity=similarity_of(embeddings),
        transfer=transfer_of(config.triple, titles, classifiers, right, parts),
        weighted=weighted,
        num_distance=num_compared(parts),
        other=config.other,
        notes=[*parts.notes, *(model.note for model in found if model.note), *weighted_notes],
        skipped=[(entry.path, entry.reason) for entry in parts.skipped],
        command=command,
        versions=versions(),
        config=asdict(config),
    )


def _models(config: AnalyzeConfig, parts: Parts, found: list[Collected]) -> list[AnalyzedModel]:
    logme, models = evidence(found, parts), []
    for model in found:
        near, other = distances(model, parts, config.seed)
        by_class: list[int] = []
        accuracy = None
        if model.answers is not None:
            right = model.answers.predicted == parts.labels
            by_class = np.bincount(parts.labels[right], minlength=len(parts.classes)).tolist()
            accuracy = Share.of(right, parts.groups)
        models.append(
            AnalyzedModel(
                name=model.name,
                title=config.titles[model.name],
                num_parameters=model.num_parameters,
                width=model.features.train.shape[1],
                accuracy=accuracy,
                by_class=by_class,
                probe=probed(model.features, parts),
                logme=logme[model.name],
                distance=near,
                distance_other=other,
            )
        )
    return models


def _cka(found: list[Collected]) -> np.ndarray:
    """[M, M] of the analysed part's features; 1 on the diagonal."""
    matrix = np.eye(len(found))
    for row, a in enumerate(found):
        for column, b in enumerate(found[:row]):
            cka = linear_cka(a.features.analysed, b.features.analysed)
            matrix[row, column] = matrix[column, row] = cka
    return matrix


def _weighted(config: AnalyzeConfig, collector: Collector) -> tuple[list[WeightedProbe], list[str]]:
    """Probes of every run of AFT among the models, and why some could not be made."""
    found, notes = [], []
    for name in config.names:
        try:
            run = read_aft(name)
            if run is not None:
                found.append(weighted_probe(config.titles[name], run, collector))
        except UserError as error:
            notes.append(f"{name}: no probe of weighted features: {error}")
    return found, notes
