"""The sections of the page; each returns "" where the run has nothing to show for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from genkt.disk import size_text
from genkt.metrics.statistics import PairedDifference, wilson_interval
from genkt.report.kit import charts, lines
from genkt.report.kit.html_tables import amount, duration, meter, named, table
from genkt.report.kit.sheets import Tile, contact_sheet
from genkt.report.kit.svg import esc
from genkt.report.transfer.report_data import ModelSummary, ReportData, TransferSample
from genkt.report.transfer.summary import ArmSummary, against_others, signed, span
from genkt.types import Cost, Prediction

MOST_SKIPPED = 100


def facts(data: ReportData) -> str:
    """The tiles below the answer: size, cost and how sure the exported student is."""
    tiles = []
    prediction = data.predictions.get(data.method)
    if prediction is not None:
        low, high = _wilson(prediction)
        words = (
            f"exported student (draw {data.exported_draw}) on {len(prediction.ids):,} test "
            f"images, 95 % Wilson interval {100 * low:.1f} to {100 * high:.1f}"
        )
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
    cells = "".join(
        f'<div class="fact"><b>{esc(big)}</b><span>{esc(words)}</span></div>'
        for big, words in tiles
    )
    return f'<div class="facts">{cells}</div>' if cells else ""


def _wilson(prediction: Prediction) -> tuple[float, float]:
    num_right = int((prediction.predicted == prediction.labels).sum())
    return wilson_interval(num_right, len(prediction.ids))


def _first_model(data: ReportData, role: str) -> ModelSummary | None:
    return next((model for model in data.models if model.role == role), None)


def result(data: ReportData, summaries: Sequence[ArmSummary]) -> str:
    """Arms as a chart and as a table, before and after the final fine-tuning."""
    colors = charts.arm_colors(data.arms, data.baseline, data.method)
    teachers = [
        (model.name, 100 * model.accuracy)
        for model in data.models
        if model.role == "teacher" and model.accuracy is not None
    ]
    words = (
        "Small dots are label draws, the large one their mean, the bar its 95 % Student-t interval."
        + (" Grey lines join the same draw." if len(summaries) == 2 else "")
    )
    blocks = [f'<p class="dim">{words}</p>{charts.arms_chart(summaries, colors, teachers)}']
    if any(summary.distilled is not None for summary in summaries):
        blocks.append(
            '<p class="dim">What the final fine-tuning on the labels adds, a line per draw.</p>'
            + charts.before_after_chart(summaries, colors)
        )
    columns = "".join(f"<div>{block}</div>" for block in blocks)
    compared = _others_table(data, colors) if len(summaries) > 2 else ""
    return f'<div class="cols">{columns}</div>{_runs_table(data, summaries, colors)}{compared}'


def _runs_table(
    data: ReportData, summaries: Sequence[ArmSummary], colors: Mapping[str, str]
) -> str:
    draws = sorted({cell.draw for cell in data.cells})
    distilled = any(summary.distilled is not None for summary in summaries)
    head = ["Accuracy in %", "mean ± 95 %"]
    head += ["difference", "95 % interval", "p"] if data.has_baseline else []
    head += ["distilled only"] if distilled else []
    head += [f"draw {draw}" for draw in draws]
    rows, main = [], []
    for summary in summaries:
        found = {cell.draw: f"{100 * cell.accuracy:.1f}" for cell in summary.cells}
        row = [named(colors[summary.arm], esc(summary.name)), f"<b>{summary.accuracy}</b>"]
        row += _difference_cells(summary.difference) if data.has_baseline else []
        if distilled:
            row.append("–" if summary.distilled is None else str(summary.distilled))
        rows.append([*row, *(found.get(draw, "–") for draw in draws)])
        main.append(summary.arm == data.method and len(summaries) > 1)
    words = (
        f"Differences are points against “{esc(data.name_of(data.baseline))}”, draw by draw: both "
        "arms of a draw have the same labels. The interval covers the choice of labels and the "
        "randomness of training, not that of the test set."
    )
    tail = f'<p class="dim">{words}</p>' if data.has_baseline else ""
    return table(head, rows, main) + tail


def _others_table(data: ReportData, colors: Mapping[str, str]) -> str:
    """The method against every other arm, where there are several."""
    rows = [
        [named(colors[arm], esc(data.name_of(arm))), *_difference_cells(difference)]
        for arm, difference in against_others(data)
    ]
    name = esc(data.name_of(data.method))
    words = "Each comparison stands for itself: with many, some intervals miss zero by chance."
    head = [f"{name} against", "difference", "95 % interval", "p"]
    return f'<h3>{name} against every other arm</h3>{table(head, rows)}<p class="dim">{words}</p>'


def _difference_cells(difference: PairedDifference | None) -> list[str]:
    if difference is None:
        return ["–", "–", "–"]
    p_value = "–"
    if difference.has_interval:
        p_value = f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "&lt; 0.001"
    return [signed(difference.mean), esc(span(difference)), p_value]


def learning(data: ReportData, summaries: Sequence[ArmSummary]) -> str:
    """One chart a logged quantity, one line per arm, a band from the lowest to the highest draw."""
    colors = charts.arm_colors(data.arms, data.baseline, data.method)
    blocks = []
    for key, title in data.curves.items():
        scale = 100.0 if "accuracy" in key else 1.0
        found = []
        for summary in summaries:
            one = lines.over_draws(
                summary.cells, key, name=summary.name, color=colors[summary.arm], scale=scale
            )
            found += [one] if one is not None else []
        if not found:
            continue
        unit = ", %" if scale == 100 else ""
        main = next((summary for summary in summaries if summary.arm == data.method), summaries[-1])
        marks = lines.stage_ends(main.cells)
        chart = lines.line_chart(found, title=title, x_label="optimizer step", marks=marks)
        blocks.append(f"<div><h3>{esc(title)}{unit}</h3>{chart}</div>")
    if not blocks:
        return ""
    words = "Mean over the label draws; the band runs from the lowest to the highest draw."
    return f'<p class="dim">{words}</p><div class="cols">{"".join(blocks)}</div>'


def teacher_features(data: ReportData) -> str:
    """The learned feature weights, sorted, and the share above their start value."""
    weights = data.weights()
    if not weights:
        return ""
    rows = [
        [
            esc(teacher),
            f"{len(values):,}",
            f"{100 * float((values > 0.5).mean()):.0f} %",
            f"{float(values.mean()):.2f}",
            f"{float(values.min()):.2f} to {float(values.max()):.2f}",
        ]
        for teacher, values in weights.items()
    ]
    words = (
        "AFT gives every feature of every teacher a weight between 0 and 1. All start at 0.5: "
        "above, the student was drawn towards the feature; below, it was told to ignore it."
    )
    for index, row in enumerate(rows):
        row[0] = named(charts.PALETTE[index % len(charts.PALETTE)], row[0])
    head = ["teacher", "features", "above 0.5", "mean", "range"]
    chart = lines.weights_chart(weights, charts.PALETTE)
    return f'<div class="cols"><div><p>{words}</p>{table(head, rows)}</div><div>{chart}</div></div>'


def transfer_set(data: ReportData) -> str:
    """What the transfer set is made of, and some of its pictures with their provenance."""
    parts = []
    total = sum(data.transfer_composition.values())
    if total:
        colors = {
            source: charts.PALETTE[index % len(charts.PALETTE)]
            for index, source in enumerate(data.transfer_composition)
        }
        bars = "".join(
            f'<i style="flex:{count};background:{colors[source]}" title="{esc(source)}"></i>'
            for source, count in data.transfer_composition.items()
            if count
        )
        legend = "".join(
            named(colors[source], f"{esc(source)}: {count:,} ({100 * count / total:.0f} %)")
            for source, count in data.transfer_composition.items()
        )
        parts.append(
            f"<p>{total:,} images.</p>"
            f'<div class="mix">{bars}</div><div class="legend">{legend}</div>'
        )
    rows = groupby(data.transfer_samples, key=lambda sample: sample.row)
    sheet = "".join(
        contact_sheet([_tile(sample) for sample in samples], f"transfer{row}")
        for row, samples in rows
    )
    if data.transfer_sheet:
        sheet += f'<p><a href="{esc(data.transfer_sheet)}">More of these images</a></p>'
    return _distance(data) + "".join(parts) + sheet


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


def _distance(data: ReportData) -> str:
    """How far the images are from upstream, before and after re-representation."""
    found = data.distance
    if found is None:
        return ""
    rows = [["as they are", f"{found.before:.4g}"], ["re-represented", f"{found.after:.4g}"]]
    words = (
        f"Frechet distance of {found.num_images:,} downstream images from as many upstream ones "
        f"({esc(found.upstream)}), features of {esc(found.model)} before its transfer. Smaller is "
        "closer; it depends on the number of images."
    )
    return f'<p class="dim">{words}</p>{table(["downstream images", "distance"], rows)}'


def cost(data: ReportData, summaries: Sequence[ArmSummary]) -> str:
    """Seconds, samples, steps and memory by stage and by arm; sizes of the models."""
    parts = []
    if data.stages:
        total = sum(data.stages.values(), Cost())
        longest = max(max(stage.seconds for stage in data.stages.values()), 1e-9)
        rows = [
            [esc(name), meter(stage.seconds / longest), *_cost_cells(stage), _after(data, name)]
            for name, stage in data.stages.items()
        ]
        rows.append(["<b>total</b>", "", *(f"<b>{cell}</b>" for cell in _cost_cells(total)), ""])
        head = ["stage", "", "time", "images seen", "steps", "peak memory", "accuracy after"]
        heading = f"{esc(data.name_of(data.method))} by stage, all draws"
        parts.append(f"<h3>{heading}</h3>{table(head, rows)}")
    arm_rows = [
        [esc(summary.name), str(summary.accuracy.n), *_cost_cells(summary.cost)]
        for summary in summaries
        if summary.cost != Cost()
    ]
    if arm_rows:
        head = ["arm", "draws", "time", "images seen", "steps", "peak memory"]
        parts.append(f"<h3>By arm, all draws</h3>{table(head, arm_rows)}")
    if data.models:
        model_rows = [
            [
                f"{esc(model.role)}: {esc(model.name)}",
                amount(model.num_parameters),
                "–" if model.size_bytes is None else size_text(model.size_bytes),
                "–" if model.accuracy is None else f"{100 * model.accuracy:.1f} %",
            ]
            for model in data.models
        ]
        head = ["model", "parameters", "on disk", "test accuracy"]
        parts.append(f"<h3>Models</h3>{table(head, model_rows)}")
    return "".join(parts)


def _after(data: ReportData, stage: str) -> str:
    return f"{100 * data.after[stage]:.1f} %" if stage in data.after else "–"


def _cost_cells(cost: Cost) -> list[str]:
    memory = size_text(cost.peak_memory_bytes) if cost.peak_memory_bytes else "–"
    samples = f"{cost.samples:,}" if cost.samples else "–"
    steps = f"{cost.steps:,}" if cost.steps else "–"
    return [duration(cost.seconds), samples, steps, memory]


def data_summary(data: ReportData) -> str:
    """Classes, sizes of the parts, and the files that could not be read."""
    parts = []
    if data.splits:
        rows = []
        for split in data.splits:
            balance = "–"
            if split.per_class:
                low, high = min(split.per_class), max(split.per_class)
                balance = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            rows.append([esc(split.name), f"{split.num_samples:,}", balance])
        parts.append(table(["part", "images", "per class"], rows))
    names = ", ".join(esc(name) for name in data.classes)
    if len(data.classes) <= 30:
        parts.append(f"<p>{len(data.classes)} classes: {names}.</p>")
    else:
        count = f"{len(data.classes):,} classes"
        parts.append(f"<details><summary>{count}</summary><p>{names}</p></details>")
    if not data.skipped:
        return "".join([*parts, '<p class="dim">No file was skipped.</p>'])
    rows = [[esc(path), esc(reason)] for path, reason in data.skipped[:MOST_SKIPPED]]
    rest = len(data.skipped) - len(rows)
    more = f'<p class="dim">And {rest:,} more, listed in report.json.</p>' if rest > 0 else ""
    files = "file was" if len(data.skipped) == 1 else "files were"
    heading = f"{len(data.skipped):,} {files} skipped"
    listed = table(["file", "why"], rows, words=True)
    is_open = " open" if len(data.skipped) <= 10 else ""
    parts.append(f"<details{is_open}><summary>{heading}</summary>{listed}{more}</details>")
    return "".join(parts)


def repeat(data: ReportData) -> str:
    """Code that loads the student, the command, versions and the resolved configuration."""
    parts = []
    if data.snippet:
        parts.append(f"<h3>Load the student</h3><pre>{esc(data.snippet)}</pre>")
    if data.command:
        parts.append(f"<h3>Run it again</h3><pre>{esc(data.command)}</pre>")
    if data.versions:
        rows = [[esc(name), esc(value)] for name, value in data.versions.items()]
        parts.append(f"<h3>Versions</h3>{table(['', ''], rows, words=True)}")
    if data.config:
        text = "\n".join(flat_config(data.config))
        parts.append(
            f"<details><summary>Resolved configuration</summary><pre>{esc(text)}</pre></details>"
        )
    return "".join(parts)


def flat_config(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key.sub=value`` lines, as they are typed on the command line."""
    found: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += flat_config(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            found.append(f"{prefix}{key}={value}")
        else:
            found.append(f"{prefix}{key}={json.dumps(value, default=str)}")
    return found
