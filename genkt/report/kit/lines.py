"""Line charts: learning curves with a band over draws, sorted feature weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from genkt.report.kit import axes, svg
from genkt.report.kit.axes import Scale
from genkt.report.kit.templates import shorten
from genkt.types import StudentResult

Array = NDArray[np.float64]
WIDTH, HEIGHT = 460, 270
LEFT, TOP, BOTTOM = 40, 22, 36
NUM_POINTS = 160
NUM_HOVERS = 24


@dataclass(frozen=True)
class Series:
    """One line: [P] x, mean, and the band's edges (equal to the mean where there is none)."""

    name: str
    color: str
    x: Array
    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Frame:
    """The plot area by its two scales."""

    x: Scale
    y: Scale


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_limits: tuple[float, float] | None = None,
    percent_x: bool = False,
    reference: float | None = None,
    marks: Sequence[tuple[float, str, str]] = (),
    names_in_corner: bool = False,
) -> Markup:
    """Lines with direct labels at their right ends, or at the upper right where ends coincide.

    Args:
        reference: y of a dashed line.
        marks: (x, name on the left, name on the right) of vertical lines, where stages change.
    """
    frame = _frame(series, y_limits, names_in_corner)
    parts = [_grid(frame, x_label, percent_x)]
    if reference is not None:
        level = frame.y(reference)
        parts.append(svg.line(LEFT, level, frame.x.right, level, css="reference"))
    for position, before, after in marks:
        at = frame.x(position)
        parts.append(svg.line(at, TOP, at, HEIGHT - BOTTOM, css="reference"))
        parts.append(svg.text(at - 5, TOP - 9, f"{before} ←", css="small", anchor="end"))
        if len(marks) == 1:
            parts.append(svg.text(at + 5, TOP - 9, f"→ {after}", css="small"))
    for one in series:
        if np.any(one.high > one.low):
            edges = (frame.x.all(one.x), frame.y.all(one.low), frame.y.all(one.high))
            parts.append(svg.band(*edges, fill=one.color))
    for one in series:
        xs, ys = frame.x.all(one.x), frame.y.all(one.mean)
        parts.append(svg.polyline(xs, ys, stroke=one.color, css="curve"))
        parts.append(_hovers(one, xs, ys, percent_x))
    parts.append(_names_in_corner(series) if names_in_corner else _end_labels(series, frame))
    return svg.svg(WIDTH, HEIGHT, title, "".join(parts))


def _frame(
    series: Sequence[Series], y_limits: tuple[float, float] | None, names_in_corner: bool
) -> Frame:
    low, high = y_limits or (
        min(float(one.low.min()) for one in series),
        max(float(one.high.max()) for one in series),
    )
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if y_limits is None:
        margin = 0.04 * (high - low)
        low, high = (0.0 if 0 <= low < 0.3 * high else low - margin), high + margin
    start = min(float(one.x.min()) for one in series)
    end = max(float(one.x.max()) for one in series)
    longest = max(len(shorten(one.name, 18)) for one in series)
    right = WIDTH - 14 - (0 if names_in_corner else 6.4 * longest)
    x = Scale(start, max(end, start + 1), LEFT, right)
    return Frame(x, Scale(low, high, HEIGHT - BOTTOM, TOP))


def _grid(frame: Frame, x_label: str, percent_x: bool) -> str:
    x, y, bottom = frame.x, frame.y, HEIGHT - BOTTOM
    label = axes.percent_label if percent_x else axes.tick_label
    return (
        axes.vertical(y, axes.ticks(y.low, y.high), LEFT, x.right)
        + axes.horizontal(x, axes.ticks(x.low, x.high, 4), bottom, label=label, below=16)
        + axes.floor(LEFT, x.right, bottom, x_label, HEIGHT - 4)
    )


def _hovers(one: Series, xs: Sequence[float], ys: Sequence[float], percent_x: bool) -> str:
    """Invisible targets along the line that show its numbers."""
    chosen = np.unique(np.linspace(0, len(xs) - 1, NUM_HOVERS).round().astype(int))
    unit = " %" if percent_x else ""
    parts = []
    for index in chosen:
        title = f"{one.name}, {one.x[index]:g}{unit}: {one.mean[index]:.4g}"
        if one.high[index] > one.low[index]:
            title += f" (draws {one.low[index]:.4g} to {one.high[index]:.4g})"
        parts.append(svg.dot(xs[index], ys[index], 7, css="target", title=title))
    return "".join(parts)


def _end_labels(series: Sequence[Series], frame: Frame) -> str:
    wanted = [frame.y(float(one.mean[-1])) for one in series]
    placed = axes.spread(wanted, 15, TOP + 4, HEIGHT - BOTTOM - 2)
    parts = []
    for one, y in zip(series, placed, strict=True):
        name = shorten(one.name, 18)
        parts.append(svg.text(frame.x.right + 7, y + 4, name, css="label", fill=one.color))
    return "".join(parts)


def _names_in_corner(series: Sequence[Series]) -> str:
    """The names in the colours of their lines, one below the other at the upper right."""
    parts = []
    for index, one in enumerate(series):
        name, y = shorten(one.name, 44), TOP + 12 + 17 * index
        parts.append(svg.text(WIDTH - 14, y, name, anchor="end", css="label halo", fill=one.color))
    return "".join(parts)


def unroll(curve: Sequence[Mapping[str, float | int | str]]) -> list[tuple[float, str, int]]:
    """(step of the whole run, stage, index in the curve): stages that count from 0 are chained."""
    points: list[tuple[float, str, int]] = []
    offset, previous = 0.0, 0.0
    for index, entry in enumerate(curve):
        step = float(entry["step"])
        if points and step + offset < previous:
            offset = previous
        previous = step + offset
        points.append((previous, str(entry.get("stage", "")), index))
    return points


def over_draws(
    cells: Sequence[StudentResult], key: str, *, name: str, color: str, scale: float
) -> Series | None:
    """Mean and lowest-to-highest band of one curve over an arm's draws; None where not logged."""
    curves = []
    for cell in cells:
        points = [(step, cell.curve[index].get(key)) for step, _, index in unroll(cell.curve)]
        kept = [(x, float(y)) for x, y in points if y is not None and np.isfinite(float(y))]
        if kept:
            curves.append(np.array(kept, np.float64))
    if not curves:
        return None
    start = max(float(curve[0, 0]) for curve in curves)
    end = min(float(curve[-1, 0]) for curve in curves)
    # Draws that stopped early or share no stretch of steps have no common mean: show the longest.
    if end <= start and len(curves) > 1:
        curves = [max(curves, key=len)]
        start, end = float(curves[0][0, 0]), float(curves[0][-1, 0])
    steps = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    steps = steps[(steps >= start) & (steps <= end)]
    if len(steps) > NUM_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, NUM_POINTS).round().astype(int)]
    values = scale * np.stack([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in curves])
    return Series(name, color, steps, values.mean(0), values.min(0), values.max(0))


def stage_ends(cells: Sequence[StudentResult]) -> list[tuple[float, str, str]]:
    """(step, stage, next stage) where stages change, from the first cell that has several."""
    for cell in cells:
        points = unroll(cell.curve)
        ends = [
            (step, stage, following)
            for (step, stage, _), (_, following, _) in itertools.pairwise(points)
            if stage != following
        ]
        if ends:
            return ends
    return []


def weights_chart(weights: Mapping[str, Array], colors: Sequence[str]) -> Markup:
    """Learned feature weights of each teacher, sorted from high to low, with the start value."""
    series = []
    for index, (teacher, values) in enumerate(weights.items()):
        ordered = np.sort(values)[::-1]
        ranks = 100 * (np.arange(len(ordered)) + 0.5) / len(ordered)
        if len(ordered) > NUM_POINTS:
            chosen = np.linspace(0, len(ordered) - 1, NUM_POINTS).round().astype(int)
            ordered, ranks = ordered[chosen], ranks[chosen]
        color = colors[index % len(colors)]
        series.append(Series(teacher, color, ranks, ordered, ordered, ordered))
    return line_chart(
        series,
        title="Learned weight of each teacher feature, sorted",
        x_label="share of the teacher's features",
        y_limits=(0.0, 1.0),
        percent_x=True,
        reference=0.5,
        names_in_corner=True,
    )
