"""The figures of a comparison as they are written: accuracies, differences, what varied."""

from __future__ import annotations

from genkt.metrics.intervals import Design
from genkt.metrics.verdicts import MIN_DRAWS, span
from genkt.report.compare.compare_data import ComparedArm, CompareData
from genkt.report.compare.contrasts import Difference
from genkt.report.transfer.summary import signed

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
    interval = data.interval(arm, column)
    return span(interval) if interval is not None and interval.design.draws >= MIN_DRAWS else ""


def difference_span(difference: Difference) -> str:
    """ "7.1 to 12.5", or nothing where there are too few draws."""
    interval = difference.interval
    return span(interval) if interval is not None and difference.has_span else ""


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
    found = (data.interval(arm, "after fine-tuning") for arm in data.arms)
    return next((interval.design for interval in found if interval is not None), None)


def what_varied(data: CompareData) -> str:
    """ "5 label draws, 797 test images"."""
    design = design_of(data)
    if design is None:
        return _counted(data.num_draws, "label draw")
    draws = _counted(design.draws, "label draw")
    if not design.labels_vary:
        draws = f"{_counted(design.draws, 'training seed')}, the same labels"
    elif design.seeds > 1:
        draws += f", {design.seeds} training seeds each"
    unit = "group of test images" if design.grouped else "test image"
    return f"{draws}, {_counted(design.images, unit)}"


def _counted(number: int, thing: str) -> str:
    first, _, rest = thing.partition(" of ")
    several = f"{first}{'s' * (number != 1)}"
    return f"{number:,} {several}{' of ' + rest if rest else ''}"
