"""The page of an analysis: models, what each knows that others do not, features, agreement."""

from __future__ import annotations

import math

import numpy as np

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
from genkt.report.kit.html_tables import amount, table
from genkt.report.kit.matrix import matrix_chart
from genkt.report.kit.svg import esc
from genkt.report.transfer.report_page import body_of, document
from genkt.report.transfer.sections import flat_config
from genkt.report.transfer.summary import signed

_MOST_PAIRS = 30


def render(data: AnalyzeData) -> str:
    """The whole analysis as one HTML document."""
    links, bodies = body_of([
        ("models", "Models", _models(data)),
        ("complementary", "Complementary knowledge", _complementary(data)),
        ("expertise", "Areas of expertise", _expertise(data)),
        ("transfer", "Transfer", _transfer(data)),
        ("weighted", "Weighted teacher features", _weighted(data)),
        ("agreement", "Agreement", _agreement(data)),
        ("repeat", "Settings", _settings(data)),
    ])  # fmt: skip
    footer = (
        f"<footer>Written by genkt {esc(data.versions.get('genkt', ''))}. The same numbers, "
        "machine-readable and complete: analyze.json.</footer>"
    )
    body = f"{_header(data, links)}<main>{bodies}</main>{footer}"
    return document(f"{data.title} · genkt analyze", headline_text(data), body)


def _header(data: AnalyzeData, links: str) -> str:
    pieces = []
    for words, is_key in headline(data):
        tied = esc(words).replace(" %", "&nbsp;%")
        pieces.append(f"<b>{tied}</b>" if is_key else tied)
    notes = [*data.notes, *(f"left out: {path}: {reason}" for path, reason in data.skipped)]
    items = "".join(f"<li>{esc(note)}</li>" for note in notes)
    listed = f'<ul class="notes">{items}</ul>' if notes else ""
    date = data.versions.get("date", "")
    when = f" · {esc(date)}" if date else ""
    return (
        f'<header><p class="eyebrow"><b>{esc(data.title)}</b> · genkt analyze{when}</p>'
        f"<h1>{''.join(pieces)}</h1>{listed}<nav>{links}</nav></header>"
    )


def _models(data: AnalyzeData) -> str:
    """One row per model: its own head, a linear probe, LogME, distances."""
    rows = [
        [esc(model.title), *map(esc, model_cells(model, data.other)), amount(model.num_parameters)]
        for model in data.models
    ]
    which = "training images" if data.probe_on == "train" else "labelled training images"
    same = " The analysed images are the training images." if data.split == "train" else ""
    words = (
        f"Accuracy of each model's own head on {data.num_samples:,} {esc(data.split)} images, with "
        f"its 95 % Wilson interval, among {_among(data)}. Linear probe: logistic regression on "
        f"frozen features of {data.num_train:,} {which}. LogME: log evidence a label of the same "
        "images, in nats; higher is better, and no training is needed: it ranks candidate "
        "teachers. A model that was trained on these labels looks better there than it is. FD: "
        f"Frechet distance of {data.num_distance:,} images a side; comparable within a row, not "
        f"between models.{same}"
    )
    ranked = ""
    if len(data.models) > 1:
        order = ", ".join(f"<b>{esc(model.title)}</b>" for model in data.by_logme)
        ranked = f"<p>As teachers, before any training, by LogME: {order}.</p>"
    head = ["model", *model_head(data.other), "parameters"]
    return f'{table(head, rows)}{ranked}<p class="dim">{words}</p>'


def _among(data: AnalyzeData) -> str:
    """The classes that an answer is taken from."""
    alone = data.answers == "data"
    return "the classes of the data alone" if alone else "all classes that a head knows"


def _complementary(data: AnalyzeData) -> str:
    """Positive flips and their entropy for every ordered pair."""
    if not data.pairs:
        return ""
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
    rows = [[esc(cell) for cell in pair_cells(data, pair)] for pair in shown]
    words = (
        "Positive flips: images that the model of the row has wrong and that of the column right. "
        "An entry minus its mirror image is the difference in accuracy. "
        "Low entropy: these images are of few classes; its exponential is the number of classes "
        f"that they would fill evenly, of {len(data.classes):,}."
    )
    rest = len(data.pairs) - len(shown)
    more = f'<p class="dim">And {rest:,} pairs more, in analyze.json.</p>' if rest else ""
    return (
        f'<p class="dim">{words}</p><div class="cols">'
        f"<div><h3>Positive flips, % of all images</h3>{flips}</div>"
        f"<div><h3>Entropy over classes, nats</h3>{spread}</div></div>"
        f"{table(PAIR_HEAD, rows)}{more}"
    )


def _expertise(data: AnalyzeData) -> str:
    """Whether the classes that hold most of a pair's flips are like each other."""
    columns = [
        place
        for place in range(len(data.top_percent))
        if any(not math.isnan(data.relative(pair.top[place])) for pair in data.pairs)
    ]
    if not columns:
        return ""
    shown = [pair for pair in by_flips(data)[:_MOST_PAIRS] if sum(pair.flips)]
    rows = [
        [
            esc(versus(data, pair)),
            *(_relative(data.relative(pair.top[place])) for place in columns),
            _named(data, pair),
        ]
        for pair in shown
    ]
    means = ["mean of all pairs"]
    for place in columns:
        values = np.array([data.relative(pair.top[place]) for pair in data.pairs])
        means.append(_relative(float(np.nanmean(values))))
    words = (
        "Mean cosine similarity between the classes that hold the first X % of a pair's positive "
        f"flips, relative to that of all classes ({figure(data.similarity)}); classes are compared "
        f"by {esc(data.embedded_by)}. Above 0: what the other model knows lies in related classes. "
        "A dash: one class alone, which has no pair. Last column: where most of the class flips."
    )
    head = ["wrong → right", *(f"{data.top_percent[place]:g} %" for place in columns), "classes"]
    body = table(head, [*rows, [*means, ""]], [*(False for _ in rows), True])
    return f'<p class="dim">{words}</p>{body}'


def _relative(value: float) -> str:
    return "–" if math.isnan(value) else f"{signed(100 * value)} %"


def _named(data: AnalyzeData, pair: Pair) -> str:
    """The first classes by share of flips."""
    shares = np.array(pair.flips) / np.maximum(data.class_sizes, 1)
    order = [int(index) for index in np.argsort(-shares, kind="stable")[:3] if shares[index]]
    return ", ".join(f"{esc(data.classes[index])} ({100 * shares[index]:.0f} %)" for index in order)


def _transfer(data: AnalyzeData) -> str:
    """What a student gained, lost and took over, by class."""
    if data.transfer is None:
        return ""
    change = data.transfer.change
    rates = [
        [f"{value:g} %", _rate(change.top_rate(value))] for value in (*data.top_percent, 100.0)
    ]
    words = (
        "Gained and lost: images newly right and newly wrong. Transfer rate: of the teacher's "
        "positive flips over the student as it was, those that the student has right afterwards."
    )
    top = table(["classes with the first ... of the teacher's flips", "transfer rate"], rates)
    return (
        f'<p>{esc(transfer_text(data))}</p><p class="dim">{words}</p><div class="cols">'
        f"<div>{flips_chart(change.change, data.classes)}</div><div>{top}</div></div>"
        + _by_class(data)
    )


def _by_class(data: AnalyzeData) -> str:
    assert data.transfer is not None
    change = data.transfer.change
    gained, lost = change.change.gained_by_class, change.change.lost_by_class
    order = np.argsort(-change.offered, kind="stable")[:MOST_CLASSES]
    rows = []
    for index in map(int, order):
        size = max(int(change.class_sizes[index]), 1)
        shares = [100 * float(counts[index]) / size for counts in (gained, lost)]
        rows.append([
            esc(data.classes[index]),
            f"{change.class_sizes[index]:,}",
            *(f"{share:.1f}" for share in shares),
            signed(shares[0] - shares[1]),
            f"{change.offered[index]:,}",
            _rate(change.rate_of(np.array([index]))),
        ])  # fmt: skip
    head = ["class", "images", "gained, %", "lost, %", "transfer delta", "teacher's flips",
            "transfer rate"]  # fmt: skip
    rest = len(data.classes) - len(rows)
    more = f'<p class="dim">And {rest:,} classes more, in analyze.json.</p>' if rest else ""
    return table(head, rows) + more


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def _weighted(data: AnalyzeData) -> str:
    """Linear probes of teacher features before and after AFT's weights."""
    if not data.weighted:
        return ""
    rows = [
        [esc(probe.run), esc(" + ".join(probe.teachers)), *map(esc, weighted_cells(probe))]
        for probe in data.weighted
    ]
    words = (
        "AFT gives every teacher feature a weight between 0 and 1 while it teaches. Linear probes "
        "of the teachers' features as they are, and multiplied by the weights of each label draw."
    )
    return f'<p class="dim">{words}</p>{table(["run", "teachers", *WEIGHTED_HEAD], rows)}'


def _agreement(data: AnalyzeData) -> str:
    """CKA of all models; KL and top-1 agreement of the classifiers."""
    if len(data.models) < 2:
        return ""
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
    words = (
        "CKA: 1 where features are each other's rotation and scaling; with few images for their "
        "width it is high whatever the models (0.96 for 40 images of 1024 random features). KL is "
        f"over the classes of the data, an answer is among {_among(data)}."
    )
    blocks = "".join(f"<div><h3>{esc(title)}</h3>{chart}</div>" for title, chart in charts)
    return f'<p class="dim">{words}</p><div class="cols">{blocks}</div>'


def _settings(data: AnalyzeData) -> str:
    rows = [[esc(model.title), esc(model.name)] for model in data.models]
    versions = [[esc(name), esc(value)] for name, value in data.versions.items()]
    text = "\n".join(flat_config(data.config))
    parts = [f"<h3>Run it again</h3><pre>{esc(data.command)}</pre>"] if data.command else []
    if data.other is not None:
        rows.append(["other images", esc(data.other)])
    parts.append(f"<h3>Models</h3>{table(['', ''], rows, words=True)}")
    parts.append(f"<h3>Versions</h3>{table(['', ''], versions, words=True)}")
    parts.append(
        f"<details><summary>Resolved configuration</summary><pre>{esc(text)}</pre></details>"
    )
    return "".join(parts)
