"""What an analysis found, as one sentence and as tables for a terminal."""

from __future__ import annotations

import itertools
import math

import numpy as np

from genkt.metrics.verdicts import ends
from genkt.report.analyze.analyze_data import AnalyzeData, AnalyzedModel, Pair, Share, WeightedProbe
from genkt.report.transfer.summary import aligned, signed

_MOST_ROWS = 12


def headline(data: AnalyzeData) -> list[tuple[str, bool]]:
    """The best model, and what the others know beside it: (text, is it a key figure) pieces."""
    if not data.classifiers:
        best = max(data.models, key=lambda model: model.probe.value)
        figure = f"{100 * best.probe.value:.1f} %"
        return [("Best features: ", False), (best.title, True), (", a linear probe has ", False),
                (figure, True), (" right.", False)]  # fmt: skip
    accuracies = [share_of(model).value for model in data.classifiers]
    place = int(np.argmax(accuracies))
    pieces = [("Most accurate: ", False), (data.classifiers[place].title, True), (" ", False),
              (f"{100 * accuracies[place]:.1f} %", True)]  # fmt: skip
    row = data.flips[place]
    if len(row) < 2 or data.any_right is None:
        return [*pieces, (".", False)]
    if not row.max():
        return [*pieces, ("; no other model is right where it is wrong.", False)]
    other = int(np.argmax(row))
    return [
        *pieces,
        (". Of its errors, ", False),
        (data.classifiers[other].title, True),
        (" has ", False),
        (f"{100 * row[other] / (1 - accuracies[place]):.0f} %", True),
        (f" right; some model is right on {100 * data.any_right.value:.1f} % of all.", False),
    ]


def headline_text(data: AnalyzeData) -> str:
    """The answer in one plain sentence."""
    return "".join(text for text, _ in headline(data))


def share_of(model: AnalyzedModel) -> Share:
    """The accuracy of a model that is known to have one."""
    assert model.accuracy is not None
    return model.accuracy


def percent(share: Share | None) -> str:
    """ "91.2", or a dash."""
    return "–" if share is None else f"{100 * share.value:.1f}"


def bounds(share: Share) -> str:
    """The interval in percent, or a dash."""
    return "–" if share.interval is None else ends(share.interval)


def figure(value: float | None, digits: int = 3) -> str:
    """A number with a true minus, or a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def model_cells(model: AnalyzedModel, other: str | None) -> list[str]:
    """One row of the table of models, behind the name."""
    cells = [
        percent(model.accuracy),
        bounds(model.accuracy) if model.accuracy else "",
        percent(model.probe),
        figure(model.logme),
        "–" if model.distance is None else f"{model.distance:.4g}",
    ]
    if other is not None:
        cells.append("–" if model.distance_other is None else f"{model.distance_other:.4g}")
    return cells


def model_head(other: str | None) -> list[str]:
    """What the columns of ``model_cells`` are."""
    head = ["accuracy, %", "95 % interval", "linear probe, %", "LogME", "FD to train"]
    return head + ([] if other is None else ["FD to other"])


def by_flips(data: AnalyzeData) -> list[Pair]:
    """All ordered pairs, those first in which the teacher adds most."""
    return sorted(data.pairs, key=lambda pair: -data.flips[pair.student, pair.teacher])


def versus(data: AnalyzeData, pair: Pair) -> str:
    """The model that is wrong, and the one that is right."""
    return f"{data.classifiers[pair.student].title} → {data.classifiers[pair.teacher].title}"


def pair_cells(data: AnalyzeData, pair: Pair) -> list[str]:
    """The two models, accuracy difference, its interval, positive flips, entropy, exponential."""
    student, teacher = data.classifiers[pair.student], data.classifiers[pair.teacher]
    flips = data.flips[pair.student, pair.teacher]
    return [
        versus(data, pair),
        signed(100 * (share_of(teacher).value - share_of(student).value)),
        "–" if pair.difference is None else ends(pair.difference),
        f"{100 * flips:.1f}",
        figure(pair.entropy, 2),
        f"{math.exp(pair.entropy):.1f}" if flips else "–",
    ]


PAIR_HEAD = [
    "wrong → right", "difference", "95 % interval", "positive flips, %", "entropy",
    "effective classes",
]  # fmt: skip


def weighted_cells(probe: WeightedProbe) -> list[str]:
    """Features, probe of psi, mean and range of the probes of the weighted psi."""
    values = [100 * share.value for share in probe.weighted]
    mean = sum(values) / len(values)
    spread = f"{min(values):.1f} to {max(values):.1f}" if len(values) > 1 else "one draw"
    return [f"{probe.width:,}", percent(probe.plain), f"{mean:.1f}", spread]


WEIGHTED_HEAD = ["features", "probe, %", "probe of weighted, %", "over the draws"]


def transfer_text(data: AnalyzeData) -> str:
    """The answer about the transfer, as a sentence; empty where none was asked about."""
    if data.transfer is None:
        return ""
    found, change = data.transfer, data.transfer.change
    offered, taken = int(change.offered.sum()), int(change.taken.sum())
    rate = f"{100 * change.rate:.0f} %, {taken} of {offered}" if offered else "it offered nothing"
    return (
        f"From {found.before} to {found.after}: {signed(100 * change.change.net)} points "
        f"(gained {100 * change.change.positive:.1f}, lost {100 * change.change.negative:.1f}); "
        f"of what {found.teacher} alone had right, was taken over: {rate}."
    )


def text_table(data: AnalyzeData) -> str:
    """The answer and the tables with aligned columns."""
    train = "training images" if data.probe_on == "train" else "labelled training images"
    blocks = [
        [headline_text(data)],
        [f"{data.title}: {data.num_samples:,} {data.split} images; probes, LogME on "
         f"{data.num_train:,} {train}; FD: Frechet distance, {data.num_distance:,} images a side"],
        aligned([["model", *model_head(data.other)],
                 *([m.title, *model_cells(m, data.other)] for m in data.models)]),
    ]  # fmt: skip
    if data.pairs:
        rows = [pair_cells(data, pair) for pair in by_flips(data)]
        blocks.append(aligned([PAIR_HEAD, *rows[:_MOST_ROWS]]) + _more(len(rows)))
    if transfer := transfer_text(data):
        blocks.append([transfer])
    if data.weighted:
        rows = [[probe.run, *weighted_cells(probe)] for probe in data.weighted]
        blocks.append(aligned([["teacher features in", *WEIGHTED_HEAD], *rows]))
    if len(data.models) > 1:
        blocks.append(_agreement(data))
    blocks.append([f"note: {note}" for note in data.notes])
    blocks.append([f"left out: {path}: {reason}" for path, reason in data.skipped])
    return "\n".join(itertools.chain.from_iterable([*block, ""] for block in blocks if block))


def _more(count: int) -> list[str]:
    rest = count - _MOST_ROWS
    return [f"... and {rest} pairs more, in analyze.json"] if rest > 0 else []


def _agreement(data: AnalyzeData) -> list[str]:
    """CKA of every two models; top-1 agreement and both KLs of every two classifiers."""
    places = {model.name: place for place, model in enumerate(data.classifiers)}
    pairs = list(itertools.combinations(range(len(data.models)), 2))
    rows = []
    for a, b in pairs[:_MOST_ROWS]:
        first, second = data.models[a], data.models[b]
        cells = ["–", "–", "–"]
        if first.name in places and second.name in places:
            one, two = places[first.name], places[second.name]
            top1 = f"{100 * data.top1[one, two]:.1f}"
            cells = [top1, figure(data.kl[two, one]), figure(data.kl[one, two])]
        rows.append([f"{first.title} | {second.title}", figure(data.cka[a, b]), *cells])
    head = ["A | B", "CKA", "same answer, %", "KL(A, B)", "KL(B, A)"]
    return aligned([head, *rows]) + _more(len(pairs))
