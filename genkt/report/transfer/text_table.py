"""The answer and the table of arms for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from genkt.metrics.verdicts import centre
from genkt.report.transfer.headline import difference_text, headline_text, scope, span_text
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import (
    ArmMean,
    TeacherSummary,
    against_teachers,
    aligned,
    last_stage_text,
    summarise,
)

LAST_STAGE = "before → after last stage"
"""Head of the column with both, whichever was kept."""

NONE = "–"
"""Where there is no figure."""


def text_summary(data: ReportData) -> str:
    """The answer, what it rests on, and the table of arms with aligned columns."""
    draws = sorted({cell.draw for cell in data.cells})
    head = ["arm", *(f"draw {draw}" for draw in draws), "mean", "95 % interval"]
    head += ["difference", "95 % interval"] if data.has_baseline else []
    summaries = summarise(data)
    staged = any(summary.last_stage for summary in summaries)
    head += [LAST_STAGE] if staged else []
    rows = []
    for summary in summaries:
        row = [summary.name, *_mean_cells(summary.accuracy, draws)]
        if data.has_baseline:
            found = summary.difference
            points = "" if found is None else difference_text(found).removesuffix(" points")
            row += [points, "" if found is None else span_text(found.interval) or NONE]
        rows.append([*row, last_stage_text(summary) or NONE] if staged else row)
    for teacher in against_teachers(data):
        row = [teacher.teacher.name, *_mean_cells(teacher.accuracy, draws)]
        rows.append(row + ["", ""] * data.has_baseline + [""] * staged)
    lines = [headline_text(data), *(f"{title} {text}" for title, text in scope(data)), ""]
    lines += aligned([head, *rows])
    if data.has_baseline:
        lines += ["", "accuracy in %, difference in points, paired by draw and image, against "
                  f"{data.name_of(data.baseline)}"]  # fmt: skip
    return "\n".join(lines)


def _mean_cells(found: ArmMean, draws: Sequence[int]) -> list[str]:
    """By draw, the mean, its interval."""
    cells = [
        f"{100 * found.by_draw[draw]:.1f}" if draw in found.by_draw else NONE for draw in draws
    ]
    return [*cells, f"{100 * found.mean:.1f}", span_text(found.interval) or NONE]


def teacher_cells(found: TeacherSummary) -> list[str]:
    """The student against a teacher: share of its accuracy, difference, within two points."""
    cells = []
    for each in (found.ratio, found.difference):
        middle = NONE if each is None else centre(each).removesuffix(" points")
        cells += [middle, span_text(each) or NONE]
    return [*cells, found.within.word]
