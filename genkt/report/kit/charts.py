"""Colours of all charts; charts of classes and flips, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from genkt.metrics.flips import Flips
from genkt.report.kit import svg
from genkt.report.kit.templates import shorten

WIDTH = 460
ACCENT, BASE, LOSS = "var(--c1)", "var(--base)", "var(--c2)"
PALETTE = (ACCENT, LOSS, "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)")
MOST_CLASSES = 26


def most_confused(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the classes a heat map can show: all, or those with the most errors."""
    if len(matrix) <= MOST_CLASSES:
        return np.arange(len(matrix))
    errors = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    return np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])


def confusion_chart(
    matrix: NDArray[np.int64], shown: NDArray[np.int64], classes: Sequence[str], title: str
) -> Markup:
    """Heat map of counts: row the true class, column the predicted one, errors in another hue."""
    names = [shorten(classes[index], 12) for index in shown]
    longest = max(len(name) for name in names)
    left, top = 26 + 6.4 * longest, 20 + (7 * longest if longest > 2 else 12)
    cell = (WIDTH - left - 2) / len(shown)
    totals = np.maximum(matrix.sum(1), 1)
    parts = [
        svg.text(left, 11, "predicted →", css="small"),
        f'<g transform="translate(10 {svg.num(top + cell * len(shown) / 2)}) rotate(-90)">'
        + svg.text(0, 0, "← true", anchor="middle", css="small")
        + "</g>",
    ]
    for row, true in enumerate(shown):
        y = top + row * cell
        parts.append(svg.text(left - 6, y + cell / 2 + 4, names[row], anchor="end", css="small"))
        parts.append(column_name(names[row], left + (row + 0.5) * cell, top - 6, longest))
        for column, predicted in enumerate(shown):
            count = int(matrix[true, predicted])
            share = count / totals[true]
            tip = f"{classes[true]} → {classes[predicted]}: {count} ({100 * share:.0f} %)"
            where = (left + column * cell, y)
            parts.append(_heat_cell(where, cell, count, float(share), true == predicted, tip))
    return svg.svg(WIDTH, top + cell * len(shown) + 4, title, "".join(parts))


def column_name(name: str, x: float, y: float, longest: int) -> str:
    """A name above its column, turned where the names are long."""
    if longest <= 2:
        return svg.text(x, y, name, anchor="middle", css="small")
    turn = f"translate({svg.num(x + 4)} {svg.num(y)}) rotate(-90)"
    return f'<g transform="{turn}">{svg.text(0, 0, name, css="small")}</g>'


def _heat_cell(
    where: tuple[float, float], cell: float, count: int, share: float, right: bool, tip: str
) -> str:
    x, y = where
    gap = 1 if cell > 12 else 0.4
    fill = ACCENT if right else LOSS
    # Errors are few: the square root keeps a single one visible.
    opacity = share if right else share**0.5
    if not count:
        return svg.rect(x, y, cell - gap, cell - gap, css="empty", title=tip)
    body = svg.rect(x, y, cell - gap, cell - gap, fill=fill, opacity=opacity, title=tip)
    if cell >= 18:
        css = "count strong" if opacity > 0.72 else "count"
        body += svg.text(
            x + (cell - gap) / 2, y + cell / 2 + 4, str(count), anchor="middle", css=css
        )
    return body


def flips_chart(flips: Flips, classes: Sequence[str]) -> Markup:
    """Per class: samples lost to the left, gained to the right, the classes with most flips."""
    total = flips.gained_by_class + flips.lost_by_class
    shown = np.arange(len(classes))
    if len(shown) > MOST_CLASSES:
        shown = np.argsort(-total, kind="stable")[:MOST_CLASSES]
    rows = [int(index) for index in shown]
    name_width = 12 + 6.4 * max(len(shorten(classes[index], 14)) for index in rows)
    most_lost = int(flips.lost_by_class[shown].max())
    most_gained = int(flips.gained_by_class[shown].max())
    unit = (WIDTH - name_width - 64) / max(most_lost + most_gained, 1)
    zero, row = name_width + 30 + most_lost * unit, 22
    height = 26 + row * len(shown) + 6
    parts = [
        svg.text(zero - 8, 13, "← lost", anchor="end", css="label", fill=LOSS),
        svg.text(zero + 8, 13, "gained →", css="label", fill=ACCENT),
    ]
    for index, entry in enumerate(rows):
        gained, lost = int(flips.gained_by_class[entry]), int(flips.lost_by_class[entry])
        y = 26 + index * row
        tip = f"{classes[entry]}: {gained} gained, {lost} lost"
        name = shorten(classes[entry], 14)
        parts.append(svg.text(name_width - 8, y + 13, name, anchor="end", css="small"))
        parts.append(
            svg.rect(zero - lost * unit, y + 2, lost * unit, row - 6, fill=LOSS, title=tip)
        )
        parts.append(svg.rect(zero, y + 2, gained * unit, row - 6, fill=ACCENT, title=tip))
        if lost:
            x = zero - lost * unit - 5
            parts.append(svg.text(x, y + 13, str(lost), anchor="end", css="small"))
        if gained:
            parts.append(svg.text(zero + gained * unit + 5, y + 13, str(gained), css="small"))
    parts.append(svg.line(zero, 20, zero, height - 4, css="axis"))
    return svg.svg(WIDTH, height, "Test samples gained and lost, by true class", "".join(parts))
