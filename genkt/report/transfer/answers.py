"""What the exported students answer: confusion matrices, pictures right and wrong, flips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.flips import confusion, flips, histogram_entropy
from genkt.report.kit import charts
from genkt.report.kit.sheets import MOST_TILES, Tile, contact_sheet, sample_groups
from genkt.report.kit.svg import esc
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import signed
from genkt.types import Prediction


def predictions(data: ReportData) -> str:
    """Confusion matrices of student and baseline, and pictures with right and wrong answers."""
    student = data.predictions.get(data.method)
    if student is None:
        return ""
    matrix = confusion(student)
    shown = charts.most_confused(matrix)
    blocks = []
    for arm in dict.fromkeys((data.method, data.baseline)):
        prediction = data.predictions.get(arm)
        if prediction is None:
            continue
        title = f"{data.name_of(arm)}, {100 * prediction.accuracy:.1f} % right"
        chart = charts.confusion_chart(confusion(prediction), shown, data.classes, title)
        blocks.append(f"<div><h3>{esc(title)}</h3>{chart}</div>")
    words = f"Test set of {len(student.ids):,} images, students of draw {data.exported_draw}."
    if len(shown) < len(data.classes):
        words += f" The {len(shown)} of {len(data.classes)} classes with most errors."
    worst = _worst_confusions(matrix, data.classes)
    return (
        f'<p class="dim">{words}</p><div class="cols">{"".join(blocks)}</div>{worst}'
        + _sample_sheets(data, student)
    )


def _worst_confusions(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:5]
    found = [(int(cell) // len(classes), int(cell) % len(classes)) for cell in order]
    listed = [
        f"{esc(classes[true])} taken for {esc(classes[guess])} ({errors[true, guess]})"
        for true, guess in found
        if errors[true, guess]
    ]
    return f"<p>Most frequent errors of the student: {', '.join(listed)}.</p>" if listed else ""


SHEETS = {
    "gained": "Gained: the baseline is wrong, the student right",
    "lost": "Lost: the baseline is right, the student wrong",
    "wrong": "Wrong",
    "right": "Right",
}


def _sample_sheets(data: ReportData, student: Prediction) -> str:
    baseline = data.predictions.get(data.baseline) if data.has_baseline else None
    confidence = student.probabilities.max(dim=1).values.cpu().numpy()
    guesses = student.predicted.cpu().numpy()
    labels = student.labels.cpu().numpy()
    blocks = []
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
            heading = f'{SHEETS[group]}{suffix} <span class="dim">{num_shown}</span>'
            blocks.append(f"<h3>{heading}</h3>{contact_sheet(tiles, group)}")
    if not blocks:
        return ""
    words = "True class → predicted class and its probability; the most confident answers first."
    return f'<p class="dim">{words}</p>{"".join(blocks)}'


def flipped(data: ReportData) -> str:
    """What the taught student gained and lost against the baseline, by class."""
    student, baseline = (data.predictions.get(arm) for arm in (data.method, data.baseline))
    if not data.has_baseline or student is None or baseline is None:
        return ""
    change = flips(baseline, student)
    name = esc(data.name_of(data.baseline))
    words = (
        f"Against “{name}”, the student newly gets <b>{100 * change.positive:.1f} %</b> of "
        f"the test images right ({int(change.gained.sum())}) and newly gets "
        f"<b>{100 * change.negative:.1f} %</b> wrong ({int(change.lost.sum())}): "
        f"net {signed(100 * change.net)} points on draw {data.exported_draw}."
    )
    extent = _extent(change.gained_by_class, len(data.classes))
    chart = charts.flips_chart(change, data.classes)
    return f'<div class="cols"><div><p>{words}</p>{extent}</div><div>{chart}</div></div>'


def _extent(counts: NDArray[np.int64], num_classes: int) -> str:
    if not counts.sum() or num_classes < 2:
        return ""
    effective = float(np.exp(histogram_entropy(counts)))
    words = (
        f"The gains spread over the equivalent of {effective:.1f} of {num_classes} classes "
        "(exponential of their entropy)."
    )
    return f'<p class="dim">{words}</p>'
