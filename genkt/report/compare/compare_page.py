"""The page of a comparison: the answer, the table, what is established, sizes, cost, settings."""

from __future__ import annotations

from typing import Any

from genkt.disk import size_text
from genkt.metrics.choice_values import shown_name, validation_key
from genkt.progress import duration
from genkt.report.compare.compare_charts import color_of, differences_chart, sweeps_charts
from genkt.report.compare.compare_cost import cost_chart, worth
from genkt.report.compare.compare_data import AFTER, BEFORE, ComparedArm, CompareData
from genkt.report.compare.compare_figures import NONE, arm_figure, difference_span
from genkt.report.compare.compare_grid import grid
from genkt.report.compare.compare_text import headline, limits, questions, tuned, verdicts
from genkt.report.compare.contrasts import Comparison, Difference
from genkt.report.compare.findings import Findings
from genkt.report.kit.table_cells import Content, Row, TableCell, config_lines
from genkt.report.kit.templates import page, sections
from genkt.report.transfer.budget_section import budget_values
from genkt.report.transfer.summary import signed
from genkt.types import Cost

Values = dict[str, Any]
"""Of a section's template in ``templates/compare``."""


def render(found: Findings) -> str:
    """The whole comparison as one HTML document."""
    data, answer = found.data, headline(found)
    return page(
        "compare.html",
        command="compare",
        title=data.title,
        date=data.versions.get("date", ""),
        version=data.versions.get("genkt", ""),
        description="".join(text for text, _ in answer),
        pieces=[(text, "" if is_key else None) for text, is_key in answer],
        notes=[
            *((arm, f"ended early: {reason}") for arm, reason in data.failed),
            *(("", note) for note in data.notes),
        ],
        sections=sections("compare", [
            ("result", "Result", _result(found)),
            ("established", "What is established", _established(found)),
            ("sizes", "Over the size", _sizes(data)),
            ("cost", "Cost", _cost(data)),
            ("budget", "Budget", _budget(found.study)),
            ("tuning", "Chosen settings", _tuning(data)),
            ("draws", "Every student", _students(found.study)),
            ("repeat", "Settings", _settings(found.study)),
        ]),
    )  # fmt: skip


def _result(found: Findings) -> Values:
    """The table, and every arm against the baseline as a chart."""
    data = found.data
    compared, baseline = found.contrasts.minus_baseline, data.arm(data.baseline)
    title = chart = None
    if baseline is not None and compared:
        title = f"Paired differences from {baseline.title}"
        chart = differences_chart([(c.a.title, c) for c in compared], title)
    of_methods = grid(data)
    return {
        "head": [
            "Accuracy in %", BEFORE, AFTER,
            *(f"minus {other.title}" for other in data.others), "time per student",
        ],
        "rows": [_row(found, arm) for arm in data.listed],
        "title": title,
        "chart": chart,
        "grid": of_methods,
        "grid_rows": [
            [name, *(NONE if arm is None else arm_figure(data, arm, AFTER) for arm in arms)]
            for name, arms in (of_methods.rows if of_methods else ())
        ],
    }  # fmt: skip


def _row(found: Findings, arm: ComparedArm) -> Row:
    data = found.data
    cells: list[Content] = [
        arm.title,
        arm_figure(data, arm, BEFORE),
        TableCell(arm_figure(data, arm, AFTER), strong=True),
    ]
    for other in data.others:
        compared = found.minus(arm, other)
        cells.append(NONE if compared is None else _difference(compared.after))
    return [*cells, duration(arm.seconds)]


def _difference(difference: Difference) -> TableCell:
    """In colour and bold where it is established."""
    text, dim = signed(difference.points), difference_span(difference)
    if not difference.verdict.established:
        return TableCell(f"{text} ({dim})" if dim else text)
    return TableCell(text, strong=True, ink=color_of(difference), dim=dim)


def _established(found: Findings) -> Values | None:
    """Sentences of every arm; then the study's own questions, as a chart and in words."""
    told, pairs = verdicts(found), found.contrasts.pairs
    if not (told or pairs):
        return None
    rows = [(_versus(comparison), comparison) for comparison in pairs]
    title = "Paired differences that the study asks for"
    return {
        "sentences": told,
        "chart": differences_chart(rows, title) if rows else None,
        "questions": questions(found),
        "limits": limits(found),
    }


def _versus(comparison: Comparison) -> str:
    return f"{comparison.a.title} − {comparison.b.title}"


def _sizes(data: CompareData) -> Values | None:
    """A chart a column for the sweeps of each setting, and their numbers."""
    settings = []
    for setting in dict.fromkeys(sweep.setting for sweep in data.sweeps):
        sweeps = [sweep for sweep in data.sweeps if sweep.setting == setting]
        charts = sweeps_charts(data, sweeps)
        settings.append([
            (f"{column[:1].upper()}{column[1:]}, %", chart) for column, chart in charts.items()
        ])  # fmt: skip
    rows = []
    for sweep in data.sweeps:
        for value, arm in zip(sweep.values, map(data.arm, sweep.arms), strict=True):
            if arm is not None:
                figures = [arm_figure(data, arm, column) for column in (BEFORE, AFTER)]
                rows.append([f"{sweep.name}, {value:,g}", *figures, duration(arm.seconds)])
    if not rows:
        return None
    head = ["Accuracy in %", BEFORE, AFTER, "time per student"]
    return {"settings": settings, "head": head, "rows": rows}


def _cost(data: CompareData) -> Values:
    """Seconds a student by stage."""
    longest_first = sorted((cell.stages for arm in data.arms for cell in arm.cells), key=len)[::-1]
    stages = list(dict.fromkeys(stage for known in longest_first for stage in known))
    rows = []
    for arm in data.arms:
        total: dict[str, float] = dict.fromkeys(stages, 0.0)
        for cell in arm.cells:
            for stage, cost in cell.stages.items():
                total[stage] += cost.seconds / len(arm.cells)
        peak = arm.cost.peak_memory_bytes
        rows.append([
            arm.title,
            *(f"{total[stage]:.1f}" if total[stage] else "–" for stage in stages),
            TableCell(f"{arm.seconds:.1f}", strong=True),
            f"{arm.cost.samples // len(arm.cells):,}",
            size_text(peak) if peak else "–",
        ])  # fmt: skip
    several = len(data.listed) > 1
    return {
        "worth": worth(data) if several else "",
        "chart": cost_chart(data) if several else None,
        "head": ["Seconds a student", *stages, "all", "images seen", "peak memory"],
        "rows": rows,
        "work": _work(data),
    }


def _budget(data: CompareData) -> Values | None:
    """What went into each arm, searches included, where its run told."""
    return budget_values([(arm.title, arm.budget) for arm in data.arms if arm.budget is not None])


def _work(data: CompareData) -> str:
    """The students' seconds; where it is known, all processes' and how long they took."""
    if data.work is None or not data.work.wall_seconds:
        work = sum((arm.cost for arm in data.arms), Cost()).seconds
        return f"{duration(work)} of work"
    at_once = data.work.task_seconds / data.work.wall_seconds
    return (
        f"{duration(data.work.task_seconds)} of work (reports and candidates included) in "
        f"{duration(data.work.wall_seconds)}, {at_once:.2f} processes at a time,"
    )


def _tuning(data: CompareData) -> Values | None:
    """Every candidate of every arm, the chosen one in bold."""
    if not data.tuning:
        return None
    rows: list[Row] = []
    for name in dict.fromkeys(tried.arm for tried in data.tuning):
        arm = data.arm(name)
        lines = []
        for tried in (each for each in data.tuning if each.arm == name):
            score = "ended early" if tried.validation is None else f"{100 * tried.validation:.1f}"
            if tried.validation is not None and tried.validated_by != validation_key("accuracy"):
                score += f" ({shown_name(tried.validated_by)})"
            lines.append(TableCell(f"{' '.join(tried.words)}: {score}", strong=tried.chosen))
        rows.append([arm.title if arm else name, lines])
    return {"tuned": tuned(data), "rows": rows}


def _students(data: CompareData) -> Values:
    places = sorted({cell.place for arm in data.arms for cell in arm.cells})
    several = any(seed for _, seed in places)
    rows: list[Row] = []
    for arm in data.arms:
        before, after = arm.accuracies(BEFORE), arm.accuracies(AFTER)
        cells = [
            NONE if place not in after
            else f"{before[place]:.1f} → {after[place]:.1f}" if arm.is_distilled
            else f"{after[place]:.1f}"
            for place in places
        ]  # fmt: skip
        rows.append([TableCell(arm.title, link=f"arms/{arm.name}/report.html"), *cells])
    head = [f"draw {draw}" + (f", seed {seed}" if several else "") for draw, seed in places]
    return {"head": ["arm", *head], "rows": rows}


def _settings(data: CompareData) -> Values:
    first = data.arm(data.baseline)
    return {
        "command": data.command,
        "shared": " ".join(data.words),
        "rows": [[arm.title, TableCell(" ".join(arm.words), code=True)] for arm in data.arms],
        "versions": data.versions,
        "baseline": first.title if first is not None else "",
        "config": "\n".join(config_lines(first.config)) if first is not None else "",
    }
