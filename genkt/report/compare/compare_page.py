"""The page of a comparison: the answer, the table, what is established, sizes, cost, settings."""

from __future__ import annotations

from collections.abc import Sequence

from genkt.disk import size_text
from genkt.metrics.statistics import PairedDifference
from genkt.report.compare.compare_charts import color_of, differences_chart, sweeps_charts
from genkt.report.compare.compare_cost import cost_chart, worth
from genkt.report.compare.compare_data import (
    AFTER,
    BEFORE,
    ComparedArm,
    CompareData,
    Comparison,
    against,
    asked,
    compare_arms,
)
from genkt.report.compare.compare_grid import grid
from genkt.report.compare.compare_text import headline, limits, questions, tuned, verdicts
from genkt.report.kit.html_tables import duration, table
from genkt.report.kit.svg import esc
from genkt.report.transfer.report_page import body_of, document
from genkt.report.transfer.sections import flat_config
from genkt.report.transfer.summary import signed, span
from genkt.types import Cost


def render(data: CompareData) -> str:
    """The whole comparison as one HTML document."""
    links, bodies = body_of([
        ("result", "Result", _result(data)),
        ("established", "What is established", _established(data)),
        ("sizes", "Over the size", _sizes(data)),
        ("cost", "Cost", _cost(data)),
        ("tuning", "Chosen settings", _tuning(data)),
        ("draws", "Every student", _students(data)),
        ("repeat", "Settings", _settings(data)),
    ])  # fmt: skip
    answer = "".join(words for words, _ in headline(data))
    footer = (
        f"<footer>Written by genkt {esc(data.versions.get('genkt', ''))}. The same numbers, "
        "machine-readable: compare.json; as a table for a README: compare.md.</footer>"
    )
    body = f"{_header(data, links)}<main>{bodies}</main>{footer}"
    return document(f"{data.title} · genkt compare", answer, body)


def _header(data: CompareData, links: str) -> str:
    pieces = []
    for words, is_key in headline(data):
        tied = esc(words).replace(" %", "&nbsp;%").replace(" ± ", "&nbsp;±&nbsp;")
        pieces.append(f"<b>{tied}</b>" if is_key else tied)
    notes = [f"<b>{esc(arm)}</b> ended early: {esc(reason)}" for arm, reason in data.failed]
    notes += [esc(note) for note in data.notes]
    items = "".join(f"<li>{note}</li>" for note in notes)
    listed = f'<ul class="notes">{items}</ul>' if notes else ""
    date = data.versions.get("date", "")
    when = f" · {esc(date)}" if date else ""
    return (
        f'<header><p class="eyebrow"><b>{esc(data.title)}</b> · genkt compare{when}</p>'
        f"<h1>{''.join(pieces)}</h1>{listed}<nav>{links}</nav></header>"
    )


def _result(data: CompareData) -> str:
    """The table, and every arm against the baseline as a chart."""
    others = data.others
    head = ["Accuracy in %, mean ± 95 %", BEFORE, AFTER]
    head += [*(f"minus {esc(other.title)}" for other in others), "time per student"]
    rows = [_row(arm, others) for arm in data.listed]
    words = (
        "Differences are points after fine-tuning, arm minus arm, draw by draw, with their 95 % "
        "interval; blue and orange exclude 0. Distilled only is the student before the last "
        "stage, which fine-tunes it on the labels."
    )
    blocks = [table(head, rows), f'<p class="dim">{words}</p>']
    baseline = data.arm(data.baseline)
    compared = against(data, baseline)
    if baseline is not None and compared:
        title = f"Paired differences from {baseline.title}"
        chart = differences_chart([(c.a.title, c) for c in compared], title)
        key = "Ring: distilled only. Dot: after fine-tuning. Small dots are label draws."
        blocks.append(f'<h3>{esc(title)}</h3><p class="dim">{key}</p>{chart}')
    blocks.append(_grid(data))
    return "".join(blocks)


def _grid(data: CompareData) -> str:
    """Methods against transfer sets, where several were compared on several."""
    found = grid(data)
    if found is None:
        return ""
    rows = [
        [esc(name), *("–" if arm is None else str(arm.interval(AFTER)) for arm in arms)]
        for name, arms in found.rows
    ]
    head = ["After fine-tuning, %", *map(esc, found.columns)]
    return f"<h3>Methods on transfer sets</h3>{table(head, rows)}"


def _row(arm: ComparedArm, others: Sequence[ComparedArm]) -> list[str]:
    cells = [esc(arm.title), str(arm.interval(BEFORE)) if arm.is_distilled else "–"]
    cells.append(f"<b>{arm.interval(AFTER)}</b>")
    for other in others:
        found = compare_arms(arm, other) if arm is not other else None
        cells.append("–" if found is None else _difference(found.after))
    return [*cells, duration(arm.seconds)]


def _difference(difference: PairedDifference) -> str:
    figure = f'<b style="color:{color_of(difference)}">{signed(difference.mean)}</b>'
    if not difference.has_interval:
        return figure
    return f'{figure} <span class="dim">({esc(span(difference))})</span>'


def _established(data: CompareData) -> str:
    """Sentences of every arm; then the study's own questions, as a chart and in words."""
    parts = [f"<p>{esc(sentence)}</p>" for sentence in verdicts(data)]
    if pairs := asked(data):
        rows = [(_versus(comparison), comparison) for comparison in pairs]
        chart = differences_chart(rows, "Paired differences that the study asks for")
        items = "".join(f"<li>{esc(question)}</li>" for question in questions(data))
        parts.append(f'<h3>The questions of the study</h3>{chart}<ul class="notes">{items}</ul>')
    return "".join([*parts, f'<p class="dim">{esc(limits(data))}</p>']) if parts else ""


def _versus(comparison: Comparison) -> str:
    return f"{comparison.a.title} − {comparison.b.title}"


def _sizes(data: CompareData) -> str:
    """A chart a column for the sweeps of each setting, and their numbers."""
    blocks = []
    for setting in dict.fromkeys(sweep.setting for sweep in data.sweeps):
        sweeps = [sweep for sweep in data.sweeps if sweep.setting == setting]
        charts = sweeps_charts(data, sweeps)
        columns = "".join(
            f"<div><h3>{column[:1].upper()}{column[1:]}, %</h3>{chart}</div>"
            for column, chart in charts.items()
        )
        blocks.append(f'<div class="cols">{columns}</div>' if columns else "")
    rows = []
    for sweep in data.sweeps:
        for value, arm in zip(sweep.values, map(data.arm, sweep.arms), strict=True):
            if arm is not None:
                first = str(arm.interval(BEFORE)) if arm.is_distilled else "–"
                rows.append([f"{esc(sweep.name)}, {value:,g}", first,
                             str(arm.interval(AFTER)), duration(arm.seconds)])  # fmt: skip
    if not rows:
        return ""
    words = "Mean over the label draws with its 95 % interval; the baseline is dashed."
    numbers = table(["Accuracy in %", BEFORE, AFTER, "time per student"], rows)
    return f'<p class="dim">{words}</p>{"".join(blocks)}{numbers}'


def _cost(data: CompareData) -> str:
    """Seconds a student by stage."""
    longest_first = sorted((cell.stages for arm in data.arms for cell in arm.cells), key=len)[::-1]
    stages = list(dict.fromkeys(stage for found in longest_first for stage in found))
    rows = []
    for arm in data.arms:
        total: dict[str, float] = dict.fromkeys(stages, 0.0)
        for cell in arm.cells:
            for stage, cost in cell.stages.items():
                total[stage] += cost.seconds / len(arm.cells)
        peak = arm.cost.peak_memory_bytes
        rows.append([
            esc(arm.title),
            *(f"{total[stage]:.1f}" if total[stage] else "–" for stage in stages),
            f"<b>{arm.seconds:.1f}</b>",
            f"{arm.cost.samples // len(arm.cells):,}",
            size_text(peak) if peak else "–",
        ])  # fmt: skip
    head = ["Seconds a student", *map(esc, stages), "all", "images seen", "peak memory"]
    words = (
        f"Wall time on one core beside other arms, mean over the draws; {_work(data)} in all. "
        "Times are of a machine that other arms use too, and what several runs share (a teacher's "
        "cached outputs, a gallery's features) is paid by the arm that came first: small "
        "differences say nothing."
    )
    chart = f"<p>{esc(worth(data))}</p>{cost_chart(data)}" if len(data.listed) > 1 else ""
    return f'{chart}{table(head, rows)}<p class="dim">{words}</p>'


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


def _tuning(data: CompareData) -> str:
    """Every candidate of every arm, the chosen one in bold."""
    if not data.tuning:
        return ""
    rows = []
    for name in dict.fromkeys(tried.arm for tried in data.tuning):
        arm = data.arm(name)
        cells = []
        for tried in (each for each in data.tuning if each.arm == name):
            score = "ended early" if tried.validation is None else f"{100 * tried.validation:.1f}"
            text = f"{esc(' '.join(tried.words))}: {score}"
            cells.append(f"<b>{text}</b>" if tried.chosen else text)
        rows.append([esc(arm.title if arm else name), "<br>".join(cells)])
    words = (
        "Mean validation accuracy in %; an arm runs with its best, of equal ones with the first."
    )
    head = ["arm", "candidates"]
    return f'<p>{esc(tuned(data))}</p><p class="dim">{words}</p>{table(head, rows, words=True)}'


def _students(data: CompareData) -> str:
    draws = sorted({cell.result.draw for arm in data.arms for cell in arm.cells})
    rows = []
    for arm in data.arms:
        before, after = arm.accuracies(BEFORE), arm.accuracies(AFTER)
        cells = [
            "–" if draw not in after
            else f"{before[draw]:.1f} → {after[draw]:.1f}" if arm.is_distilled
            else f"{after[draw]:.1f}"
            for draw in draws
        ]  # fmt: skip
        link = f"arms/{arm.name}/report.html"
        rows.append([f'<a href="{esc(link)}">{esc(arm.title)}</a>', *cells])
    words = (
        "Test accuracy in %, distilled only → after fine-tuning. The names open the run's report."
    )
    return f'<p class="dim">{words}</p>{table(["arm", *(f"draw {d}" for d in draws)], rows)}'


def _settings(data: CompareData) -> str:
    parts = []
    if data.command:
        parts.append(f"<h3>Run it again</h3><pre>{esc(data.command)}</pre>")
    if data.words:
        parts.append(f"<h3>Settings of all arms</h3><pre>{esc(' '.join(data.words))}</pre>")
    rows = [[esc(arm.title), f"<code>{esc(' '.join(arm.words))}</code>"] for arm in data.arms]
    parts.append(
        f"<h3>Settings of each</h3>{table(['arm', 'genkt transfer ...'], rows, words=True)}"
    )
    versions = [[esc(name), esc(value)] for name, value in data.versions.items()]
    parts.append(f"<h3>Versions</h3>{table(['', ''], versions, words=True)}")
    first = data.arm(data.baseline)
    if first is not None and first.config:
        text = "\n".join(flat_config(first.config))
        summary = f"Resolved configuration of {esc(first.title)}"
        parts.append(f"<details><summary>{summary}</summary><pre>{esc(text)}</pre></details>")
    return "".join(parts)
