"""What the exported students answer: confusion matrices, pictures right and wrong, flips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from genkt.metrics.flips import Flips, confusion, flips_of, histogram_entropy
from genkt.report.kit import charts
from genkt.report.kit.sheets import MOST_TILES, Tile, contact_sheet, sample_groups
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import signed
from genkt.types import Prediction

_MOST_CONFUSIONS = 5


def predictions(data: ReportData) -> dict[str, Any] | None:
    """Confusion matrices of student and baseline, and pictures with right and wrong answers."""
    student = data.predictions.get(data.method)
    if student is None:
        return None
    matrix = confusion(student)
    shown = charts.most_confused(matrix)
    matrices = []
    for arm in dict.fromkeys((data.method, data.baseline)):
        prediction = data.predictions.get(arm)
        if prediction is None:
            continue
        title = f"{data.name_of(arm)}, {100 * prediction.accuracy:.1f} % right"
        chart = charts.confusion_chart(confusion(prediction), shown, data.classes, title)
        matrices.append((title, chart))
    return {
        "num_images": len(student.ids),
        "draw": data.exported,
        "num_shown": len(shown),
        "num_classes": len(data.classes),
        "matrices": matrices,
        "worst": _worst_confusions(matrix, data.classes),
        "sheets": _sample_sheets(data, student),
    }


def _worst_confusions(
    matrix: NDArray[np.int64], classes: Sequence[str]
) -> list[tuple[str, str, int]]:
    """(true class, answer, images), the most frequent first."""
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    pairs = [(int(cell) // len(classes), int(cell) % len(classes)) for cell in order]
    return [
        (classes[true], classes[guess], int(errors[true, guess]))
        for true, guess in pairs
        if errors[true, guess]
    ]


SHEETS = {
    "gained": "Gained: the baseline is wrong, the student right",
    "lost": "Lost: the baseline is right, the student wrong",
    "wrong": "Wrong",
    "right": "Right",
}


def _sample_sheets(data: ReportData, student: Prediction) -> list[tuple[str, str, Markup]]:
    """(heading, how many are shown, pictures)."""
    baseline = data.predictions.get(data.baseline) if data.has_baseline else None
    confidence = student.probabilities.max(dim=1).values.cpu().numpy()
    guesses = student.predicted.cpu().numpy()
    labels = student.labels.cpu().numpy()
    sheets = []
    for group, rows in sample_groups(student, baseline).items():
        ordered = sorted(
            (int(row) for row in rows if student.ids[int(row)] in data.sample_images),
            key=lambda row: -float(confidence[row]),
        )
        tiles = []
        for row in ordered:
            true, guess = data.classes[int(labels[row])], data.classes[int(guesses[row])]
            answer = guess if guess == true else f"{true} → {guess}"
            title = f"true {true}, predicted {guess}, {student.ids[row]}"
            image, sure = data.sample_images[student.ids[row]], f"{100 * confidence[row]:.0f} %"
            tiles.append(Tile(image, answer, sure, group, title))
        if tiles:
            suffix = " by both" if group in ("wrong", "right") and baseline is not None else ""
            num_shown = f"{min(len(tiles), MOST_TILES)} of {len(rows):,}"
            sheets.append((SHEETS[group] + suffix, num_shown, contact_sheet(tiles, group)))
    return sheets


def all_flips(data: ReportData) -> tuple[Flips, int] | None:
    """From the baseline to the method, over all pairs of students, and how many these are.

    Its [pairs * N] answers are pair after pair; counts by class are sums over the pairs.
    """
    mine, theirs = (data.scores.get(arm, {}) for arm in (data.method, data.baseline))
    shared, student = sorted(mine.keys() & theirs.keys()), data.predictions.get(data.method)
    if not data.has_baseline or not shared or student is None:
        return None
    before, after = (
        np.concatenate([scores[pair] for pair in shared]) > 0.5 for scores in (theirs, mine)
    )
    labels = np.tile(student.labels.cpu().numpy(), len(shared))
    return flips_of(before, after, labels, len(data.classes)), len(shared)


def flipped(data: ReportData) -> dict[str, Any] | None:
    """What the taught students gained and lost against the baseline, by class."""
    found = all_flips(data)
    if found is None:
        return None
    change, num_pairs = found
    return {
        "num_pairs": num_pairs,
        "baseline": data.name_of(data.baseline),
        "gained": f"{100 * change.positive:.1f}",
        "num_gained": int(change.gained.sum()),
        "lost": f"{100 * change.negative:.1f}",
        "num_lost": int(change.lost.sum()),
        "net": signed(100 * change.net),
        "num_classes": len(data.classes),
        "effective": _effective_classes(change.gained_by_class, len(data.classes)),
        "chart": charts.flips_chart(change, data.classes),
    }


def _effective_classes(counts: NDArray[np.int64], num_classes: int) -> str:
    """Over how many classes the gains spread evenly; "" where that says nothing."""
    if not counts.sum() or num_classes < 2:
        return ""
    return f"{float(np.exp(histogram_entropy(counts))):.1f}"
