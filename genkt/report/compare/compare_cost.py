"""Accuracy beside what it costs: a chart, and which arms no cheaper one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genkt.report.compare.compare_data import AFTER, ComparedArm, CompareData
from genkt.report.kit import svg
from genkt.report.kit.charts import ACCENT, BASE
from genkt.report.kit.html_tables import duration

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _UP, _DOWN = 860, 380, 44, 230, 16, 44
_LABEL_GAP = 15


def frontier(arms: Sequence[ComparedArm]) -> list[ComparedArm]:
    """The arms that are more accurate than every one that takes no longer, the quickest first."""
    found: list[ComparedArm] = []
    for arm in sorted(arms, key=lambda each: (each.seconds, -each.interval(AFTER).mean)):
        if not found or arm.interval(AFTER).mean > found[-1].interval(AFTER).mean:
            found.append(arm)
    return found


def worth(data: CompareData) -> str:
    """One sentence: what to take, the cheapest first; empty for fewer than two arms."""
    if len(data.listed) < 2:
        return ""
    steps = [
        f"{arm.title} ({duration(arm.seconds)}, {arm.interval(AFTER).mean:.1f} %)"
        for arm in frontier(data.listed)
    ]
    return f"By mean accuracy, no quicker arm is as good as these: {'; '.join(steps)}."


def cost_chart(data: CompareData) -> str:
    """Every row of the table: seconds of a student (logarithmic) against accuracy.

    The line joins the arms that no quicker one beats.
    """
    arms = [arm for arm in data.listed if arm.seconds > 0]
    if len(arms) < 2:
        return ""
    best = frontier(arms)
    heights = [arm.interval(AFTER).mean for arm in arms]
    x, y = _scales([arm.seconds for arm in arms], heights)
    parts = [_axes(x, y, arms)]
    parts.append(
        svg.polyline(
            [x(arm.seconds) for arm in best], [y(arm.interval(AFTER).mean) for arm in best],
            stroke=ACCENT, css="curve",
        )
    )  # fmt: skip
    places = svg.spread([y(height) for height in heights], _LABEL_GAP, _UP, _HEIGHT - _DOWN)
    for arm, height, place in zip(arms, heights, places, strict=True):
        color = ACCENT if arm in best else BASE
        title = f"{arm.title}: {arm.interval(AFTER)} %, {duration(arm.seconds)} a student"
        at, right = x(arm.seconds), _WIDTH - _RIGHT + 14
        parts.append(svg.line(at, y(height), right - 4, place, css="pair thin"))
        parts.append(svg.dot(at, y(height), 5, fill=color, css="mean", title=title))
        label = svg.shorten(arm.title, 32)
        parts.append(svg.text(right, place + 4, label, css="small", fill=color))
    chart = svg.svg(_WIDTH, _HEIGHT, "Accuracy against seconds of a student", "".join(parts))
    return f'<div class="scroll">{chart}</div>'


def _scales(seconds: Sequence[float], heights: Sequence[float]) -> tuple[svg.Scale, svg.Scale]:
    quick, slow = min(seconds), max(seconds)
    margin = 0.06 * max(max(heights) - min(heights), 1.0)
    x = svg.Scale(quick / 1.05, slow * 1.05, _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    return x, svg.Scale(min(heights) - margin, max(heights) + margin, _HEIGHT - _DOWN, _UP)


def _axes(x: svg.Scale, y: svg.Scale, arms: Sequence[ComparedArm]) -> str:
    heights = [arm.interval(AFTER).mean for arm in arms]
    seconds = [arm.seconds for arm in arms]
    bottom, parts = _HEIGHT - _DOWN, []
    for value in svg.ticks(min(heights), max(heights)):
        parts.append(svg.line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), css="grid"))
        label = svg.tick_label(value)
        parts.append(svg.text(_LEFT - 6, y(value) + 4, label, anchor="end", css="small"))
    last = -math.inf
    for value in _round_seconds(min(seconds), max(seconds)):
        if x(value) - last >= 34:
            last = x(value)
            parts.append(svg.text(last, bottom + 17, f"{value:g}", anchor="middle", css="small"))
    parts.append(svg.line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, css="axis"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    words = "seconds a student, all stages"
    parts.append(svg.text(middle, _HEIGHT - 6, words, anchor="middle", css="small"))
    return "".join(parts)


def _round_seconds(low: float, high: float) -> list[float]:
    """1, 1.5, 2, 3, 5, 7 and their tenfolds within [low, high], or the ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [digit * 10.0**power for power in powers for digit in (1, 1.5, 2, 3, 5, 7)]
    return [value for value in values if low <= value <= high] or [low, high]
