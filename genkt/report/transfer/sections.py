"""What the sections of the page show; None where the run has nothing to show for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from genkt.disk import size_text
from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.scored_arms import of_arm
from genkt.metrics.verdicts import span
from genkt.progress import duration
from genkt.report.kit import charts, lines
from genkt.report.kit.sheets import Tile, contact_sheet
from genkt.report.kit.table_cells import Content, Row, TableCell, config_lines
from genkt.report.kit.templates import amount
from genkt.report.transfer import arm_charts
from genkt.report.transfer.headline import difference_text, span_text
from genkt.report.transfer.report_data import ModelSummary, ReportData, TransferSample
from genkt.report.transfer.summary import (
    ArmDifference,
    ArmMean,
    ArmSummary,
    against_others,
    against_teachers,
)
from genkt.report.transfer.text_table import NONE, teacher_cells
from genkt.types import Cost, counted

MOST_SKIPPED = 100
_FEW_SKIPPED, _FEW_CLASSES = 10, 30
"""So many are listed without a click."""

Values = dict[str, Any]
"""Of a section's template in ``templates/transfer``."""


def facts(data: ReportData) -> list[tuple[str, str]]:
    """The tiles below the answer: size, cost and how sure the exported student is."""
    tiles = []
    prediction = data.predictions.get(data.method)
    if prediction is not None:
        words = (
            f"exported student ({data.exported}) on {counted(len(prediction.ids), 'test image')}"
        )
        alone = exported_interval(data)
        words += f", 95 % interval {span(alone)}" if alone is not None else ""
        tiles.append((f"{100 * prediction.accuracy:.1f} %", words))
    student = _first_model(data, "student")
    teacher = _first_model(data, "teacher")
    if student is not None:
        ratio = "parameters in the student"
        if teacher is not None and student.num_parameters:
            times = teacher.num_parameters / student.num_parameters
            ratio += f", {times:.1f} times fewer than the teacher" if times > 1.05 else ""
        tiles.append((amount(student.num_parameters), ratio))
        if student.size_bytes is not None:
            tiles.append((size_text(student.size_bytes), "student on disk"))
    total = sum((cell.cost for cell in data.cells), Cost())
    if total.seconds:
        memory = f", peak memory of a process {size_text(total.peak_memory_bytes)}"
        words = "of work for all arms and draws" + (memory if total.peak_memory_bytes else "")
        tiles.append((duration(total.seconds), words))
    return tiles


def exported_interval(data: ReportData) -> ScoreInterval | None:
    """Of the exported student alone, over test images; None without two of them."""
    prediction = data.predictions.get(data.method)
    if prediction is None:
        return None
    return of_arm({(0, 0): prediction.scores}, data.design)


def _first_model(data: ReportData, role: str) -> ModelSummary | None:
    return next((model for model in data.models if model.role == role), None)


def result(data: ReportData, summaries: Sequence[ArmSummary]) -> Values:
    """Arms as a chart and as a table, before and after the final fine-tuning."""
    colors = arm_charts.arm_colors(data.arms, data.baseline, data.method)
    teachers = [
        (model.name, 100 * model.accuracy)
        for model in data.models
        if model.role == "teacher" and model.accuracy is not None
    ]
    distilled = any(summary.distilled is not None for summary in summaries)
    return {
        "arms_chart": arm_charts.arms_chart(summaries, colors, teachers),
        "are_joined": len(summaries) == 2,
        "change_chart": arm_charts.before_after_chart(summaries, colors) if distilled else None,
        **_runs_table(data, summaries, colors),
        "baseline": data.name_of(data.baseline) if data.has_baseline else None,
        "method": data.name_of(data.method),
        "others": _others_rows(data, colors) if len(summaries) > 2 else [],
        "teachers": [[each.teacher.name, *teacher_cells(each)] for each in against_teachers(data)],
    }


def _runs_table(
    data: ReportData, summaries: Sequence[ArmSummary], colors: Mapping[str, str]
) -> Values:
    draws = sorted({cell.draw for cell in data.cells})
    distilled = any(summary.distilled is not None for summary in summaries)
    head = ["Accuracy in %", "mean (95 % interval)"]
    head += ["difference (95 % interval)", "p"] if data.has_baseline else []
    head += ["distilled only (95 % interval)"] if distilled else []
    between = len(head) - 2
    head += [f"draw {draw}" for draw in draws]
    rows, main = [], []
    for summary in summaries:
        row: list[Content] = [TableCell(summary.name, dot=colors[summary.arm])]
        row.append(_mean_cell(summary.accuracy, strong=True))
        row += _difference_cells(summary.difference) if data.has_baseline else []
        row += [_mean_cell(summary.distilled)] if distilled else []
        rows.append([*row, *_draw_cells(summary.accuracy, draws)])
        main.append(summary.arm == data.method and len(summaries) > 1)
    for teacher in against_teachers(data):
        row = [teacher.teacher.name, _mean_cell(teacher.accuracy, strong=True)]
        rows.append([*row, *[""] * between, *_draw_cells(teacher.accuracy, draws)])
        main.append(False)
    return {"head": head, "rows": rows, "main": main}


def _mean_cell(found: ArmMean | None, *, strong: bool = False) -> Content:
    """The mean with its interval."""
    if found is None:
        return NONE
    return TableCell(f"{100 * found.mean:.1f}", strong=strong, dim=span_text(found.interval))


def _draw_cells(found: ArmMean, draws: Sequence[int]) -> list[Content]:
    """The mean of each draw over its seeds."""
    known = found.by_draw
    return [f"{100 * known[draw]:.1f}" if draw in known else NONE for draw in draws]


def _others_rows(data: ReportData, colors: Mapping[str, str]) -> list[Row]:
    """The method against every other arm."""
    return [
        [TableCell(data.name_of(arm), dot=colors[arm]), *_difference_cells(difference)]
        for arm, difference in against_others(data).items()
    ]


def _difference_cells(difference: ArmDifference | None) -> list[Content]:
    """The difference with its interval, bold if established, and its p where that can be."""
    if difference is None:
        return [NONE, NONE]
    p = NONE
    if difference.p is not None and not difference.verdict.reason:
        p = f"{difference.p:.3f}" if difference.p >= 0.001 else "< 0.001"
    points = difference_text(difference).removesuffix(" points")
    strong = difference.verdict.established
    return [TableCell(points, strong=strong, dim=span_text(difference.interval)), p]


def learning(data: ReportData, summaries: Sequence[ArmSummary]) -> Values | None:
    """A chart per logged quantity, a line per arm, a band from the lowest to the highest draw."""
    colors = arm_charts.arm_colors(data.arms, data.baseline, data.method)
    drawn = []
    for key, title in data.curves.items():
        scale = 100.0 if "accuracy" in key else 1.0
        series = []
        for summary in summaries:
            one = lines.over_draws(
                summary.cells, key, name=summary.name, color=colors[summary.arm], scale=scale
            )
            series += [one] if one is not None else []
        if not series:
            continue
        unit = ", %" if scale == 100 else ""
        main = next((summary for summary in summaries if summary.arm == data.method), summaries[-1])
        marks = lines.stage_ends(main.cells)
        chart = lines.line_chart(series, title=title, x_label="optimizer step", marks=marks)
        drawn.append((title + unit, chart))
    return {"charts": drawn} if drawn else None


def teacher_features(data: ReportData) -> Values | None:
    """The learned feature weights, sorted, and the share above their start value."""
    weights = data.weights()
    if not weights:
        return None
    rows = [
        [
            TableCell(teacher, dot=charts.PALETTE[index % len(charts.PALETTE)]),
            f"{len(values):,}",
            f"{100 * float((values > 0.5).mean()):.0f} %",
            f"{float(values.mean()):.2f}",
            f"{float(values.min()):.2f} to {float(values.max()):.2f}",
        ]
        for index, (teacher, values) in enumerate(weights.items())
    ]
    return {"rows": rows, "chart": lines.weights_chart(weights, charts.PALETTE)}


def transfer_set(data: ReportData) -> Values:
    """What the transfer set is made of, and some of its pictures with their provenance."""
    composition = [
        (source, count, charts.PALETTE[index % len(charts.PALETTE)])
        for index, (source, count) in enumerate(data.transfer_composition.items())
    ]
    rows = groupby(data.transfer_samples, key=lambda sample: sample.row)
    return {
        "distance": data.distance,
        "composition": composition,
        "total": sum(data.transfer_composition.values()),
        "sheets": [
            contact_sheet([_tile(sample) for sample in samples], f"transfer{row}")
            for row, samples in rows
        ],
        "more": data.transfer_sheet,
    }


_SHORT = {"synthesized": "made", "re-represented": "rebuilt"}
"""Sources that are too long for the caption of a tile."""


def _tile(sample: TransferSample) -> Tile:
    return Tile(
        sample.image,
        _SHORT.get(sample.source, sample.source),
        "no label" if sample.label is None else f"label {sample.label}",
        "" if sample.label is None else "labelled",
        sample.detail,
    )


def cost(data: ReportData, summaries: Sequence[ArmSummary]) -> Values:
    """Seconds, samples, steps and memory by stage and by arm; sizes of the models."""
    longest = max((stage.seconds for stage in data.stages.values()), default=0.0)
    stages: list[Row] = [
        [name, TableCell(meter=stage.seconds / max(longest, 1e-9)), *_cost_cells(stage),
         f"{100 * data.after[name]:.1f} %" if name in data.after else "–"]
        for name, stage in data.stages.items()
    ]  # fmt: skip
    if stages:
        total = _cost_cells(sum(data.stages.values(), Cost()))
        stages.append([
            TableCell("total", strong=True), "",
            *(TableCell(cell, strong=True) for cell in total), "",
        ])  # fmt: skip
    arms = [
        [summary.name, str(len(summary.cells)), *_cost_cells(summary.cost)]
        for summary in summaries
        if summary.cost != Cost()
    ]
    models = [
        [
            f"{model.role}: {model.name}",
            amount(model.num_parameters),
            "–" if model.size_bytes is None else size_text(model.size_bytes),
            "–" if model.accuracy is None else f"{100 * model.accuracy:.1f} %",
        ]
        for model in data.models
    ]
    method = data.name_of(data.method)
    return {"method": method, "stages": stages, "arms": arms, "models": models}


def _cost_cells(cost: Cost) -> list[str]:
    memory = size_text(cost.peak_memory_bytes) if cost.peak_memory_bytes else "–"
    samples = f"{cost.samples:,}" if cost.samples else "–"
    steps = f"{cost.steps:,}" if cost.steps else "–"
    return [duration(cost.seconds), samples, steps, memory]


def data_summary(data: ReportData) -> Values:
    """Classes, sizes of the parts, and the files that could not be read."""
    splits = []
    for split in data.splits:
        balance = "–"
        if split.per_class:
            low, high = min(split.per_class), max(split.per_class)
            balance = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        splits.append([split.name, f"{split.num_samples:,}", balance])
    return {
        "splits": splits,
        "classes": data.classes,
        "few_classes": len(data.classes) <= _FEW_CLASSES,
        "num_skipped": len(data.skipped),
        "skipped": data.skipped[:MOST_SKIPPED],
        "few_skipped": len(data.skipped) <= _FEW_SKIPPED,
    }


def near_copies(data: ReportData) -> Values | None:
    """Test pictures, each beside the picture that is nearly the same."""
    if not data.near_copies:
        return None
    tiles = []
    for row in data.near_copies:
        names = (("test", row.test), (row.part, row.other))
        for (part, name), picture in zip(names, row.pictures or (), strict=False):
            tiles.append(Tile(picture, part, f"{100 * row.likeness:.1f} %", title=name))
    return {
        "num_pairs": len(data.near_copies),
        "num_shown": len(tiles) // 2,
        "sheet": contact_sheet(tiles, "near"),
    }


def repeat(data: ReportData) -> Values:
    """Code that loads the student, the command, versions and the resolved configuration."""
    return {
        "snippet": data.snippet,
        "command": data.command,
        "versions": data.versions,
        "config": "\n".join(config_lines(data.config)),
    }
