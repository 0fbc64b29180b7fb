"""The numbers of a report: arms over draws, the answer in one sentence, the terminal's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genkt.metrics.statistics import PairedDifference, mean_interval, paired_by_draw
from genkt.report.transfer.report_data import ReportData
from genkt.types import Cost, Interval, StudentResult

BETTER, WORSE, OPEN, SINGLE, ALONE = "better", "worse", "not established", "one draw", "alone"
"""The verdicts: method against baseline."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its draws; accuracies in percent, differences in percentage points.

    Args:
        cells: by draw.  distilled: before the final fine-tuning, None where there was none.
        difference: against the baseline over shared draws, None for the baseline itself.
    """

    arm: str
    name: str
    cells: tuple[StudentResult, ...]
    accuracy: Interval
    distilled: Interval | None
    difference: PairedDifference | None

    @property
    def cost(self) -> Cost:
        """Sum over the draws; memory is the highest peak."""
        return sum((cell.cost for cell in self.cells), Cost())


def summarise(data: ReportData) -> list[ArmSummary]:
    """One summary an arm, in the order of the table."""
    by_arm = {arm: _accuracies(data, arm) for arm in data.arms}
    summaries = []
    for arm in data.arms:
        cells = _cells(data, arm)
        before = [100 * c.accuracy_distilled for c in cells if c.accuracy_distilled is not None]
        difference = None
        if arm != data.baseline and data.baseline in by_arm:
            difference = paired_by_draw(by_arm[arm], by_arm[data.baseline])
        summaries.append(
            ArmSummary(
                arm,
                data.name_of(arm),
                cells,
                mean_interval(list(by_arm[arm].values())),
                mean_interval(before) if before else None,
                difference,
            )
        )
    return summaries


def against_others(data: ReportData) -> list[tuple[str, PairedDifference]]:
    """The method minus every other arm, in points, draw by draw: (arm, difference)."""
    mine = _accuracies(data, data.method)
    others = ((arm, _accuracies(data, arm)) for arm in data.arms if arm != data.method)
    found = ((arm, paired_by_draw(mine, theirs)) for arm, theirs in others)
    return [(arm, difference) for arm, difference in found if difference is not None]


def _cells(data: ReportData, arm: str) -> tuple[StudentResult, ...]:
    return tuple(sorted((c for c in data.cells if c.arm == arm), key=lambda cell: cell.draw))


def _accuracies(data: ReportData, arm: str) -> dict[int, float]:
    return {cell.draw: 100 * cell.accuracy for cell in _cells(data, arm)}


def signed(value: float) -> str:
    """ "+1.2" or "−1.2" (a true minus); what rounds to zero has no sign."""
    text = f"{abs(value):.1f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def span(difference: PairedDifference) -> str:
    """ "7.1 to 12.5", or why there is none."""
    if difference.has_interval:
        low, high = (
            f"{value:.1f}".replace("-", "−") for value in (difference.low, difference.high)
        )
        return f"{low} to {high}"
    return "one draw: no interval" if difference.n < 2 else "all draws agree: no interval"


def verdict(data: ReportData) -> str:
    """How the method stands against the baseline: one of the verdicts above."""
    if not data.has_baseline:
        return ALONE
    difference = summarise(data)[-1].difference
    if difference is None:
        return ALONE
    if difference.n < 2:
        return SINGLE
    if not difference.established:
        return OPEN
    return BETTER if difference.mean > 0 else WORSE


def headline(data: ReportData) -> list[tuple[str, bool]]:
    """The answer in one sentence, as (text, is it a key figure) pieces."""
    main = summarise(data)[-1]
    subject = data.subject if main.arm != "stl" else f"{main.name}:"
    pieces = [(f"{subject} ", False), (f"{main.accuracy} %", True)]
    if data.has_baseline and main.difference is not None:
        pieces += [(", ", False), *_comparison(data, main.difference)]
    else:
        pieces.append((", no baseline in this run", False))
    num_draws = main.accuracy.n
    if num_draws == 1:
        return [*pieces, (", one draw: no interval.", False)]
    return [*pieces, (f", {num_draws} label draws.", False)]


def _comparison(data: ReportData, difference: PairedDifference) -> list[tuple[str, bool]]:
    name = data.name_of(data.baseline)
    other = f"{name[:1].lower()}{name[1:]} with the same labels and budget"
    points = f"{signed(difference.mean)} points"
    interval = f"95 % interval {span(difference)}" if difference.has_interval else span(difference)
    state = verdict(data)
    if state == BETTER:
        return [(points, True), (f" ({interval}) over {other}", False)]
    if state == WORSE:
        return [(points, True), (f" ({interval}): worse than {other}", False)]
    if state == SINGLE:
        return [(points, True), (f" against {other}", False)]
    return [("no established difference", True), (f" from {other} ({points}, {interval})", False)]


def headline_text(data: ReportData) -> str:
    """The answer in one plain sentence."""
    return "".join(text for text, _ in headline(data))


def text_summary(data: ReportData) -> str:
    """The answer and the table of arms with aligned columns, for a terminal."""
    draws = sorted({cell.draw for cell in data.cells})
    header = ["arm", *(f"draw {draw}" for draw in draws), "mean", "difference", "95 % interval"]
    rows = [_text_row(summary, draws) for summary in summarise(data)]
    unit = "accuracy in %, difference in points, draw by draw against " + data.name_of(
        data.baseline
    )
    lines = [headline_text(data), "", *aligned([header, *rows])]
    if data.has_baseline:
        lines += ["", unit]
    return "\n".join(lines)


def _text_row(summary: ArmSummary, draws: Sequence[int]) -> list[str]:
    found = {cell.draw: f"{100 * cell.accuracy:.1f}" for cell in summary.cells}
    row = [summary.name, *(found.get(draw, "-") for draw in draws), str(summary.accuracy)]
    difference = summary.difference
    if difference is None:
        return [*row, "", ""]
    return [*row, signed(difference.mean), span(difference)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines: first column to the left, the others to the right, a rule."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return lines
