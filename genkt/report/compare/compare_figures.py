"""The figures of a comparison as they are written: accuracies, differences, what varied."""

from __future__ import annotations

from genkt.metrics.intervals import Design, ScoreInterval
from genkt.metrics.verdicts import MIN_DRAWS, ends
from genkt.report.compare.compare_data import AFTER, ComparedArm, CompareData
from genkt.report.compare.contrasts import Difference
from genkt.report.kit import design_text
from genkt.report.transfer.summary import signed
from genkt.types import counted

NONE = "–"
"""Where there is no figure."""


def arm_figure(data: CompareData, arm: ComparedArm, column: str) -> str:
    """ "94.8 (92.7 to 96.4)" in percent; without an interval where there are too few draws."""
    if not arm.answers(column):
        return NONE
    low_to_high = arm_span(data, arm, column)
    return f"{arm.mean(column):.1f}" + (f" ({low_to_high})" if low_to_high else "")


def arm_span(data: CompareData, arm: ComparedArm, column: str) -> str:
    """ "92.7 to 96.4", or nothing where there are too few draws."""
    return _span(data.interval(arm, column))


def difference_span(difference: Difference) -> str:
    """ "7.1 to 12.5", or nothing where there are too few draws."""
    return _span(difference.interval)


def _span(interval: ScoreInterval | None) -> str:
    """One draw is of its students alone: a table of arms shows no interval for it."""
    enough = interval is not None and interval.design.draws >= MIN_DRAWS
    return ends(interval) if interval is not None and enough else ""


def difference_figure(difference: Difference, *, bold: bool = False) -> str:
    """ "+8.0 (4.9 to 11.0)" in points.

    Args:
        bold: where it is established, in Markdown.
    """
    text, low_to_high = signed(difference.points), difference_span(difference)
    text = f"**{text}**" if bold and difference.verdict.established else text
    return f"{text} ({low_to_high})" if low_to_high else text


def design_of(data: CompareData) -> Design | None:
    """What varied between the students of the arms; None where no scores were kept."""
    found = (data.interval(arm, AFTER) for arm in data.arms)
    return next((interval.design for interval in found if interval is not None), None)


def what_varied(data: CompareData) -> str:
    """ "5 label draws, 797 test images; 20 training labels a draw, 100 validation labels"."""
    design = design_of(data)
    if design is None:
        varied = counted(data.num_draws, "label draw")
    else:
        varied = design_text.what_varied(design)
    budgets = [arm.budget for arm in data.arms if arm.budget is not None]
    if not budgets or len({budget.labels for budget in budgets}) > 1:
        return varied
    read = max(budget.validation_labels for budget in budgets)
    return f"{varied}; {design_text.labels_used(budgets[0].labels, read)}"
