"""Charts of a comparison: paired differences as dots with intervals, accuracy over sizes."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from genkt.metrics.verdicts import BETTER, MIN_DRAWS, WORSE
from genkt.report.compare.compare_data import AFTER, BEFORE, CompareData, Sweep
from genkt.report.compare.compare_figures import NONE, difference_figure, difference_span
from genkt.report.compare.contrasts import Comparison, Difference
from genkt.report.kit import axes, svg
from genkt.report.kit.axes import Scale
from genkt.report.kit.charts import ACCENT, BASE, LOSS, PALETTE
from genkt.report.kit.templates import shorten
from genkt.report.transfer.summary import signed

_WIDTH, _ROW, _TOP, _BOTTOM = 860, 46, 26, 40
_VALUES = 196


def color_of(difference: Difference) -> str:
    """Blue for an established gain, orange for an established loss, grey for neither."""
    return {BETTER: ACCENT, WORSE: LOSS}.get(difference.verdict.word, BASE)


def differences_chart(rows: Sequence[tuple[str, Comparison]], title: str) -> Markup:
    """One row a comparison: rings are distilled only, dots after fine-tuning, with 95 % intervals.

    Args:
        rows: (label, comparison), top to bottom.
    """
    names = 32 + 8 * max(len(shorten(label, 44)) for label, _ in rows)
    scale = _difference_scale([comparison for _, comparison in rows], names)
    bottom = _TOP + _ROW * len(rows)
    parts = [_difference_axis(scale, bottom)]
    for index, (label, comparison) in enumerate(rows):
        y = _TOP + _ROW * (index + 0.5)
        tip = f"{comparison.a.title} minus {comparison.b.title}"
        parts.append(svg.text(names - 16, y + 4, shorten(label, 44), anchor="end", css="label"))
        low = y
        if comparison.before is not None:
            marks = _mark(scale, y - 9, comparison.before, tip, hollow=True)
            parts.append(marks + _value(y - 5, comparison.before, strong=False))
            low = y + 9
        marks = _mark(scale, low, comparison.after, tip, hollow=False)
        parts.append(marks + _value(low + 4, comparison.after, strong=True))
    parts.append(svg.text(scale.middle, bottom + 36, "points", anchor="middle", css="small"))
    return svg.svg(_WIDTH, bottom + _BOTTOM, title, "".join(parts))


def _difference_scale(comparisons: Sequence[Comparison], names: float) -> Scale:
    values = [0.0]
    for comparison in comparisons:
        for difference in (comparison.before, comparison.after):
            if difference is not None:
                values += [difference.points, *difference.by_draw.values(), *_ends(difference)]
    return Scale(*axes.padded(values, 0.05, 0.5), names, _WIDTH - _VALUES)


def _ends(difference: Difference) -> list[float]:
    """Of the interval, in points; none where there are too few draws."""
    interval = difference.interval
    if interval is None or not difference.has_span:
        return []
    return [100 * interval.low, 100 * interval.high]


def _difference_label(value: float) -> str:
    return "0" if value == 0 else signed(value).removesuffix(".0")


def _difference_axis(scale: Scale, bottom: float) -> str:
    values = axes.ticks(scale.low, scale.high, 7)
    parts = [axes.horizontal(scale, values, bottom, label=_difference_label, top=_TOP - 6)]
    zero = scale(0.0)
    parts.append(svg.line(zero, _TOP - 6, zero, bottom, css="reference"))
    if zero - scale.left > 60:
        parts.append(svg.text(zero - 8, 13, "← worse", anchor="end", css="label", fill=LOSS))
    if scale.right - zero > 60:
        parts.append(svg.text(zero + 8, 13, "better →", css="label", fill=ACCENT))
    return "".join(parts)


def _mark(scale: Scale, y: float, difference: Difference, tip: str, *, hollow: bool) -> str:
    """Draws as small dots, the interval as a bar, the mean as a dot or a ring."""
    color, parts = color_of(difference), []
    if ends := [scale(end) for end in _ends(difference)]:
        parts.append(svg.line(ends[0], y, ends[1], y, css="interval", stroke=color))
    for draw, value in sorted(difference.by_draw.items()):
        title = f"{tip}, draw {draw}: {signed(value)} points"
        parts.append(svg.dot(scale(value), y, 2, fill=color, title=title))
    title = f"{tip}, {BEFORE if hollow else AFTER}: {difference_figure(difference)} points"
    parts.append(svg.dot(scale(difference.points), y, 6.5, fill=color, css="mean", title=title))
    if hollow:
        parts.append(svg.dot(scale(difference.points), y, 2.8, fill="var(--bg)"))
    return "".join(parts)


def _value(y: float, difference: Difference, *, strong: bool) -> str:
    """The mean and its interval at the right edge, in the colour of the verdict."""
    x, css = _WIDTH - _VALUES + 62, "value" if strong else "small"
    color = color_of(difference)
    figure = svg.text(x, y, signed(difference.points), anchor="end", css=css, fill=color)
    return figure + svg.text(x + 12, y, difference_span(difference) or NONE, css="small")


_PANEL, _HEIGHT, _LEFT, _UP, _DOWN = 460, 300, 40, 20, 40


def sweeps_charts(data: CompareData, sweeps: Sequence[Sweep]) -> dict[str, Markup]:
    """Accuracy over the swept values, a line a sweep with 95 % intervals, the baseline dashed.

    Args:
        sweeps: of one setting.

    Returns:
        Column -> chart, on the same scales; a column without a point is left out.
    """
    lines = {
        column: [(sweep, points) for sweep in sweeps if (points := _points(data, sweep, column))]
        for column in (BEFORE, AFTER)
    }
    every = [points for column in lines.values() for _, points in column]
    if not every:
        return {}
    baseline = data.arm(data.baseline)
    level = (baseline.title, baseline.mean(AFTER)) if baseline is not None else None
    names = 6.6 * max(len(shorten(sweep.name, 18)) for sweep in sweeps)
    scales = _sweep_scales(every, level[1] if level else None, _PANEL - 22 - names)
    return {
        column: _sweeps_chart(found, scales, level, column)
        for column, found in lines.items()
        if found
    }


def _sweeps_chart(
    lines: Sequence[tuple[Sweep, Sequence[_Point]]],
    scales: tuple[Scale, Scale],
    level: tuple[str, float] | None,
    column: str,
) -> Markup:
    x, y = scales
    parts = [_sweep_axes(x, y, [points for _, points in lines], lines[0][0].setting)]
    if level is not None:
        at = y(level[1])
        label = f"{shorten(level[0], 30)} {level[1]:.1f}"
        parts.append(svg.line(_LEFT, at, x.right, at, css="reference"))
        parts.append(svg.text(x.right, at - 6, label, anchor="end", css="small halo"))
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(lines))]
    for (sweep, points), color in zip(lines, colors, strict=True):
        parts.append(_sweep_line(sweep, points, color, x, y))
    ends = [y(points[-1][1]) for _, points in lines]
    placed = axes.spread(ends, 15, _UP + 4, _HEIGHT - _DOWN - 2)
    for (sweep, _), color, place in zip(lines, colors, placed, strict=True):
        name = shorten(sweep.name, 18)
        parts.append(svg.text(x.right + 12, place + 4, name, css="label", fill=color))
    return svg.svg(_PANEL, _HEIGHT, f"Accuracy {column} over the swept values", "".join(parts))


_Point = tuple[float, float, float, float]
"""Value, mean accuracy, the ends of its interval (the mean where there is none)."""


def _points(data: CompareData, sweep: Sweep, column: str) -> list[_Point]:
    found = []
    for value, name in zip(sweep.values, sweep.arms, strict=True):
        arm = data.arm(name)
        if arm is None or not arm.answers(column):
            continue
        mean, interval = arm.mean(column), data.interval(arm, column)
        low = high = mean
        if interval is not None and interval.design.draws >= MIN_DRAWS:
            low, high = 100 * interval.low, 100 * interval.high
        found.append((value, mean, low, high))
    return found


def _sweep_scales(
    lines: Sequence[Sequence[_Point]], level: float | None, right: float
) -> tuple[Scale, Scale]:
    values = [value for points in lines for value, *_ in points]
    edges = [edge for points in lines for _, *ends in points for edge in ends]
    edges += [level] if level is not None else []
    low, high = axes.padded(edges, 0.06, 0.5)
    start, end = min(values), max(values)
    logarithmic = start > 0 and end >= 4 * start
    if end == start:
        start, end = start - 0.5, end + 0.5
    x = Scale(start, end, _LEFT + 10, right, logarithmic)
    return x, Scale(low, high, _HEIGHT - _DOWN, _UP)


def _sweep_axes(x: Scale, y: Scale, lines: Sequence[Sequence[_Point]], setting: str) -> str:
    bottom = _HEIGHT - _DOWN
    values = sorted({value for points in lines for value, *_ in points})
    return (
        axes.vertical(y, axes.ticks(y.low, y.high), _LEFT, x.right)
        + axes.horizontal(x, values, bottom, label="{:,g}".format, below=16, gap=30)
        + axes.floor(_LEFT, x.right, bottom, setting, _HEIGHT - 5)
    )


def _sweep_line(sweep: Sweep, points: Sequence[_Point], color: str, x: Scale, y: Scale) -> str:
    xs, ys = [x(value) for value, *_ in points], [y(mean) for _, mean, *_ in points]
    parts = [svg.polyline(xs, ys, stroke=color, css="curve")]
    for (value, mean, low, high), at, level in zip(points, xs, ys, strict=True):
        title = f"{sweep.name}, {value:,g}: {mean:.1f} %"
        if low < high:
            parts.append(svg.line(at, y(low), at, y(high), css="whisker", stroke=color))
            title += f" ({low:.1f} to {high:.1f})"
        parts.append(svg.dot(at, level, 4.5, fill=color, css="mean", title=title))
    return "".join(parts)
