"""Charts of arms over label draws, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from genkt.report.kit import axes, svg
from genkt.report.kit.axes import Scale
from genkt.report.kit.charts import ACCENT, BASE, PALETTE, WIDTH
from genkt.report.kit.templates import shorten
from genkt.report.transfer.headline import mean_text, span_text
from genkt.report.transfer.summary import ArmSummary
from genkt.types import counted, draw_text


def arm_colors(arms: Sequence[str], baseline: str, method: str) -> dict[str, str]:
    """Arm -> colour: the method stands out, the baseline is grey."""
    others = [arm for arm in arms if arm not in (baseline, method)]
    colors = {arm: PALETTE[1 + index % (len(PALETTE) - 1)] for index, arm in enumerate(others)}
    return {**colors, baseline: BASE, method: ACCENT}


def arms_chart(
    summaries: Sequence[ArmSummary], colors: dict[str, str], teachers: Sequence[tuple[str, float]]
) -> Markup:
    """Mean, interval and every draw of each arm; draws of two arms are joined pair by pair.

    Args:
        teachers: (name, accuracy in percent) of dashed reference lines.
    """
    rows, top = 68, 12 + 15 * len(teachers)
    height = top + rows * len(summaries) + 34
    low, high = _range(summaries, [accuracy for _, accuracy in teachers])

    x = Scale(low, high, 14, WIDTH - 14)
    values = axes.ticks(low, high)
    parts = [
        axes.horizontal(x, values, height - 30, label=axes.percent_label, top=top - 4, inside=True)
    ]
    for index, (name, accuracy) in enumerate(teachers):
        left = x(accuracy) > WIDTH / 2
        label = f"teacher {accuracy:.1f} %"
        if len(teachers) > 1:
            label = f"{shorten(name, 30)} {accuracy:.1f} %"
        y = 12 + 15 * index
        parts.append(svg.line(x(accuracy), y - 8, x(accuracy), height - 30, css="reference"))
        anchor = "end" if left else "start"
        shift = -4 if left else 4
        parts.append(svg.text(x(accuracy) + shift, y, label, anchor=anchor, css="small"))
    centres = [top + rows * index + 32 for index in range(len(summaries))]
    if len(summaries) == 2:
        first, second = ({(c.draw, c.seed): 100 * c.accuracy for c in s.cells} for s in summaries)
        for pair in sorted(first.keys() & second.keys()):
            ends = (x(first[pair]), centres[0] + 12, x(second[pair]), centres[1] + 12)
            parts.append(svg.line(*ends, css="pair"))
    for summary, y in zip(summaries, centres, strict=True):
        parts.append(_arm_row(summary, y, colors[summary.arm], x))
    return svg.svg(WIDTH, height, "Test accuracy of every arm over the label draws", "".join(parts))


def _arm_row(summary: ArmSummary, y: float, color: str, x: Scale) -> str:
    found, span = summary.accuracy, span_text(summary.accuracy.interval)
    shown = mean_text(found) + (f" ({span})" if span else "")
    parts = [
        f'<text x="14" y="{y - 15}" class="halo"><tspan class="label" style="fill:{color}">'
        f"{svg.esc(shorten(summary.name, 30))}</tspan>"
        f'<tspan dx="9" class="value">{shown}</tspan></text>'
    ]
    if ends := _ends(summary):
        left, right = map(x, ends)
        parts.append(svg.line(left, y, right, y, css="interval", stroke=color))
    for cell in summary.cells:
        student = draw_text(cell.draw, cell.seed)
        title = f"{summary.name}, {student}: {100 * cell.accuracy:.1f} %"
        parts.append(svg.dot(x(100 * cell.accuracy), y + 12, 3, fill=color, title=title))
    title = f"{summary.name}: {shown}, mean of {counted(len(summary.cells), 'student')}"
    parts.append(svg.dot(x(100 * found.mean), y, 6.5, fill=color, css="mean", title=title))
    return "".join(parts)


def _ends(summary: ArmSummary) -> tuple[float, ...]:
    """The interval in percent; none of two draws."""
    interval = summary.accuracy.interval
    if interval is None or not span_text(interval):
        return ()
    return 100 * interval.low, 100 * interval.high


def _range(summaries: Sequence[ArmSummary], others: Sequence[float]) -> tuple[float, float]:
    values = list(others)
    for summary in summaries:
        values += [100 * summary.accuracy.mean, *_ends(summary)]
        values += [100 * cell.accuracy for cell in summary.cells]
    return axes.padded([min(max(value, 0.0), 100.0) for value in values], 0.06, 1.0, percent=True)


def before_after_chart(summaries: Sequence[ArmSummary], colors: dict[str, str]) -> Markup:
    """Accuracy before and after the final fine-tuning: a line per draw, a strong mean."""
    shown = [summary for summary in summaries if summary.distilled is not None]
    pairs = {
        summary.arm: [
            (100 * cell.accuracy_distilled, 100 * cell.accuracy, draw_text(cell.draw, cell.seed))
            for cell in summary.cells
            if cell.accuracy_distilled is not None
        ]
        for summary in shown
    }
    values = [value for arm in pairs.values() for pair in arm for value in pair[:2]]
    height, left, right, top, bottom = 250, 120, 330, 12, 210
    y = Scale(*axes.padded(values, 0.08, 1.0, percent=True), bottom, top)
    parts = [svg.line(x, top - 4, x, bottom + 6, css="axis") for x in (left, right)]
    for x, label in ((left, "distilled only"), (right, "at the end")):
        parts.append(svg.text(x, bottom + 24, label, anchor="middle", css="small"))
    ends = []
    for summary in shown:
        color = colors[summary.arm]
        for before, after, student in pairs[summary.arm]:
            title = f"{summary.name}, {student}: {before:.1f} % to {after:.1f} %"
            parts.append(svg.line(left, y(before), right, y(after), css="thin", stroke=color))
            parts.append(svg.dot(left, y(before), 3, fill=color, title=title))
            parts.append(svg.dot(right, y(after), 3, fill=color, title=title))
        before = fmean(pair[0] for pair in pairs[summary.arm])
        after = fmean(pair[1] for pair in pairs[summary.arm])
        parts.append(svg.line(left, y(before), right, y(after), css="curve", stroke=color))
        ends.append((summary.name, color, before, after))
    for side, x, anchor in ((2, left - 10, "end"), (3, right + 10, "start")):
        placed = axes.spread([y(float(end[side])) for end in ends], 16, top, bottom)
        for end, position in zip(ends, placed, strict=True):
            value = f"{end[side]:.1f} %" + (
                f"  {shorten(end[0], 12)}" if len(ends) > 1 and side == 3 else ""
            )
            parts.append(svg.text(x, position + 4, value, anchor=anchor, css="label", fill=end[1]))
    title = "Accuracy before and after the final fine-tuning"
    return svg.svg(WIDTH, height, title, "".join(parts))
