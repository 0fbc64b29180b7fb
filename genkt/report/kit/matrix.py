"""A matrix of models against models as a heat map with its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from genkt.report.kit import svg
from genkt.report.kit.charts import ACCENT, WIDTH, column_name
from genkt.report.kit.templates import shorten

_LONGEST, _READABLE, _LARGEST_CELL = 20, 30, 64


def matrix_chart(
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    title: str,
    corner: tuple[str, str] = ("", ""),
    show: Callable[[float], str],
    color: str = ACCENT,
    diagonal: bool = False,
) -> Markup:
    """Heat map of a square matrix, the largest entry darkest.

    Args:
        values: [M, M] >= 0; NaN where there is nothing to show.
        corner: what the rows and what the columns are.
        show: a value as the cell says it, where there is room.
        diagonal: whether the entries of a model with itself are shown.
    """
    shown = [shorten(name, _LONGEST) for name in names]
    longest = max(map(len, shown))
    left = 26 + 6.6 * longest
    top = 22 + (6.6 * longest if longest > 2 else 12)
    cell = min((WIDTH - left - 2) / len(names), _LARGEST_CELL)
    away = values[~np.eye(len(names), dtype=bool) & np.isfinite(values)]
    largest = max(float(away.max(initial=0.0)), 1e-12)
    parts = [
        svg.text(left, 11, f"{corner[1]} →" if corner[1] else "", css="small"),
        f'<g transform="translate(10 {svg.num(top + cell * len(names) / 2)}) rotate(-90)">'
        + svg.text(0, 0, f"← {corner[0]}" if corner[0] else "", anchor="middle", css="small")
        + "</g>",
    ]
    for row, name in enumerate(shown):
        y = top + row * cell
        parts.append(svg.text(left - 6, y + cell / 2 + 4, name, anchor="end", css="small"))
        parts.append(column_name(name, left + (row + 0.5) * cell, top - 6, longest))
        for column in range(len(names)):
            value = float(values[row, column])
            where = (left + column * cell, y)
            if math.isnan(value) or (row == column and not diagonal):
                parts.append(svg.rect(*where, cell - 1, cell - 1, css="empty"))
                continue
            tip = f"{names[row]}, {names[column]}: {show(value)}"
            parts.append(_cell(where, cell, min(value / largest, 1.0), show(value), color, tip))
    return svg.svg(WIDTH, top + cell * len(names) + 4, title, "".join(parts))


def _cell(
    where: tuple[float, float], cell: float, share: float, words: str, color: str, tip: str
) -> str:
    x, y = where
    opacity = 0.06 + 0.94 * share
    body = svg.rect(x, y, cell - 1, cell - 1, fill=color, opacity=opacity, title=tip)
    if cell >= _READABLE:
        css = "count strong" if opacity > 0.6 else "count"
        middle = x + (cell - 1) / 2
        body += svg.text(middle, y + cell / 2 + 4, words, anchor="middle", css=css)
    return body
