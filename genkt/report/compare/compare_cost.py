"""Accuracy beside what it costs: a chart, and which arms no cheaper one beats."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from genkt.progress import duration
from genkt.report.compare.compare_data import AFTER, ComparedArm, CompareData
from genkt.report.compare.compare_figures import arm_figure
from genkt.report.kit import axes, svg
from genkt.report.kit.axes import Scale
from genkt.report.kit.charts import ACCENT, BASE
from genkt.report.kit.templates import shorten

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _UP, _DOWN = 860, 380, 44, 230, 16, 44
_LABEL_GAP = 15


def frontier(arms: Sequence[ComparedArm]) -> list[ComparedArm]:
    """The arms that are more accurate than every one that takes no longer, the quickest first."""
    found: list[ComparedArm] = []
    for arm in sorted(arms, key=lambda each: (each.seconds, -each.mean(AFTER))):
        if not found or arm.mean(AFTER) > found[-1].mean(AFTER):
            found.append(arm)
    return found


def worth(data: CompareData) -> str:
    """One sentence: the arms of the frontier, the quickest first; empty for fewer than two arms."""
    if len(data.listed) < 2:
        return ""
    steps = [
        f"{arm.title} ({duration(arm.seconds)}, {arm.mean(AFTER):.1f} %)"
        for arm in frontier(data.listed)
    ]
    return (
        "By mean accuracy alone, so some by chance, no quicker arm is as good as these: "
        f"{'; '.join(steps)}."
    )


def cost_chart(data: CompareData) -> Markup:
    """Every row of the table: seconds of a student (logarithmic) against accuracy.

    The line joins the arms that no quicker one beats.
    """
    arms = [arm for arm in data.listed if arm.seconds > 0]
    if len(arms) < 2:
        return Markup()
    best = frontier(arms)
    heights = [arm.mean(AFTER) for arm in arms]
    x, y = _scales([arm.seconds for arm in arms], heights)
    parts = [_axes(x, y, arms)]
    parts.append(
        svg.polyline(
            [x(arm.seconds) for arm in best], [y(arm.mean(AFTER)) for arm in best],
            stroke=ACCENT, css="curve",
        )
    )  # fmt: skip
    places = axes.spread([y(height) for height in heights], _LABEL_GAP, _UP, _HEIGHT - _DOWN)
    for arm, height, place in zip(arms, heights, places, strict=True):
        color = ACCENT if arm in best else BASE
        title = f"{arm.title}: {arm_figure(data, arm, AFTER)} %, {duration(arm.seconds)} a student"
        at, right = x(arm.seconds), _WIDTH - _RIGHT + 14
        parts.append(svg.line(at, y(height), right - 4, place, css="pair thin"))
        parts.append(svg.dot(at, y(height), 5, fill=color, css="mean", title=title))
        label = shorten(arm.title, 32)
        parts.append(svg.text(right, place + 4, label, css="small", fill=color))
    return svg.svg(_WIDTH, _HEIGHT, "Accuracy against seconds of a student", "".join(parts))


def _scales(seconds: Sequence[float], heights: Sequence[float]) -> tuple[Scale, Scale]:
    quick, slow = min(seconds), max(seconds)
    margin = 0.06 * max(max(heights) - min(heights), 1.0)
    x = Scale(quick / 1.05, slow * 1.05, _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    return x, Scale(min(heights) - margin, max(heights) + margin, _HEIGHT - _DOWN, _UP)


def _axes(x: Scale, y: Scale, arms: Sequence[ComparedArm]) -> str:
    heights = [arm.mean(AFTER) for arm in arms]
    seconds = [arm.seconds for arm in arms]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _DOWN
    values = axes.log_ticks(min(seconds), max(seconds))
    return (
        axes.vertical(y, axes.ticks(min(heights), max(heights)), _LEFT, right)
        + axes.horizontal(x, values, bottom, label="{:g}".format, gap=34)
        + axes.floor(_LEFT, right, bottom, "seconds a student, all stages", _HEIGHT - 6)
    )
