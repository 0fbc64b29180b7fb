"""The page of an analysis: models, what each knows that others do not, features, agreement."""

from __future__ import annotations

import math

import numpy as np

from genkt.report.analyze_data import AnalyzeData, Pair
from genkt.report.analyze_text import (
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
    weighted_cells,
)
from genkt.report.charts import LOSS, MOST_CLASSES, flips_chart
from genkt.report.html import body_of, document
from genkt.report.matrix import matrix_chart
from genkt.report.sections import flat_config
from genkt.report.summary import signed
from genkt.report.svg import esc
from genkt.report.tables import amount, table

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
    """One row a model: its own head, a linear probe, LogME, distances."""
    ranks = {model.name: rank for rank, model in enumerate(data.by_logme, 1)}
    heads = ["model", "parameters", "width", *model_head(data.other), "LogME rank"]
    rows, best = [], data.by_logme[0].name
    for model in data.models:
        cells = [esc(cell) for cell in model_cells(model, data.other)]
        sizes = [amount(model.num_parameters), f"{model.width:,}"]
        rows.append([esc(model.title), *sizes, *cells, str(ranks[model.name])])
    which = "training images" if data.probe_on == "train" else "labelled training images"
    same = " The analysed images are the training images." if data.split == "train" else ""
    words = (
        f"Accuracy of each model's own head on {data.num_samples:,} {esc(data.split)} images, with "
        f"its 95 % Wilson interval. Linear probe: logistic regression on frozen features of "
        f"{data.num_train:,} {which}. LogME: log evidence a label of the same images, in "
        "nats; higher is better, and no training is needed: it ranks candidate teachers. FD: "
        f"Frechet distance of {data.num_distance:,} images a side; comparable within a row, not "
        f"between models.{same}"
    )
    main = [model.name == best and len(data.models) > 1 for model in data.models]
    return f'{table(heads, rows, main)}<p class="dim">{words}</p>'


def _complementary(data: AnalyzeData) -> str:
    """Positive flips and their entropy for every ordered pair."""
    if not data.pairs:
        return ""
    names = [model.title for model in data.classifiers]
    entropy = np.full(data.flips.shape, np.nan)
    for pair in data.pairs:
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
        "What stands above the diagonal minus what stands below it is the difference in accuracy. "
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
    if not data.pairs or not data.top_percent:
        return ""
    shown = [pair for pair in by_flips(data)[:_MOST_PAIRS] if sum(pair.flips)]
    rows = [[_versus(data, pair), *_similarities(data, pair), _named(data, pair)] for pair in shown]
    means = ["<b>mean of all pairs</b>"]
    for place in range(len(data.top_percent)):
        found = [data.relative(pair.top[place]) for pair in data.pairs]
        known = [value for value in found if not math.isnan(value)]
        means.append(f"<b>{_relative(sum(known) / len(known))}</b>" if known else "–")
    words = (
        "Mean cosine similarity between the classes that hold the first X % of a pair's positive "
        f"flips, relative to that of all classes ({figure(data.similarity)}); classes are compared "
        f"by {esc(data.embedded_by)}. Above 0: what the other model knows lies in related classes. "
        "A dash: one class alone, which has no pair."
    )
    head = [
        "wrong → right",
        *(f"{value:g} %" for value in data.top_percent),
        "most flips, by share",
    ]
    return f'<p class="dim">{words}</p>{table(head, [[*means, ""], *rows])}'


def _versus(data: AnalyzeData, pair: Pair) -> str:
    student, teacher = data.classifiers[pair.student], data.classifiers[pair.teacher]
    return f"{esc(student.title)} → {esc(teacher.title)}"


def _similarities(data: AnalyzeData, pair: Pair) -> list[str]:
    return [_relative(data.relative(top)) for top in pair.top]


def _relative(value: float) -> str:
    return "–" if math.isnan(value) else f"{signed(100 * value)} %"


def _named(data: AnalyzeData, pair: Pair) -> str:
    """The first classes by share of flips."""
    shares = np.array(pair.flips) / np.maximum(data.class_sizes, 1)
    order = [int(index) for index in np.argsort(-shares, kind="stable")[:3] if shares[index]]
    return ", ".join(f"{esc(data.classes[index])} {100 * shares[index]:.0f} %" for index in order)


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
        "CKA: 1 where features are each other's rotation and scaling. KL is over the classes of "
        "the data; the same answer counts all classes that a model knows."
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
