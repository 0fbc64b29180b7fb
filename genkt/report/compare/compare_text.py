"""What a comparison establishes, said in sentences; its table for a terminal and a README."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from genkt.metrics.statistics import PairedDifference
from genkt.progress import duration
from genkt.report.compare.compare_cost import worth
from genkt.report.compare.compare_data import (
    AFTER,
    BEFORE,
    ComparedArm,
    CompareData,
    Comparison,
    Sweep,
    against,
    asked,
    compare_arms,
    split,
    together,
)
from genkt.report.compare.compare_grid import grid
from genkt.report.transfer.summary import aligned, signed, span

Column = Callable[[Comparison], PairedDifference]
_MARKS = re.compile(r"([\\|`*_<>\[\]])")


def after(comparison: Comparison) -> PairedDifference:
    """The difference after fine-tuning."""
    return comparison.after


def before(comparison: Comparison) -> PairedDifference:
    """The difference before fine-tuning."""
    return comparison.before


def headline(data: CompareData) -> list[tuple[str, bool]]:
    """The best arm, and how many differ from the baseline: (text, is it a key figure) pieces."""
    rows = data.listed or list(data.arms)
    best = max(rows, key=lambda arm: (arm.interval(AFTER).mean, arm.name))
    pieces = [("Most accurate: ", False), (best.title, True), (" ", False)]
    pieces.append((f"{best.interval(AFTER)} %", True))
    baseline = data.arm(data.baseline)
    compared = against(data, baseline)
    mine = next((comparison for comparison in compared if comparison.a is best), None)
    if mine is not None and baseline is not None:
        pieces.append((f", {signed(mine.after.mean)} points over {baseline.title}", False))
    if compared and baseline is not None and data.num_draws > 1:
        gains, losses, _ = split(together(compared, after), after)
        count = f"{len(gains)} of {len(compared)} arms"
        words = f". Beyond chance, all at once, {count} beat it after fine-tuning"
        pieces.append((words + (f" ({len(losses)} worse)" if losses else ""), False))
    return [*pieces, (f"; {_draws(data)}.", False)]


def _draws(data: CompareData) -> str:
    return "one label draw: no interval" if data.num_draws == 1 else f"{data.num_draws} label draws"


def sentences(data: CompareData) -> list[str]:
    """What is established, what is not, and how far the numbers carry; one paragraph each."""
    found = [*verdicts(data), *questions(data)]
    return [*found, limits(data)] if found else found


def verdicts(data: CompareData) -> list[str]:
    """Every arm against the baseline and the reference, by column."""
    found = []
    for other in data.others:
        for column, when in ((before, "Distilled only"), (after, "After fine-tuning")):
            compared = against(data, other)
            shown = [c for c in compared if column is after or c.a.is_distilled]
            if shown:
                found.append(f"{when}, against “{other.title}”, {_listed(shown, column)}")
        found += _corrected(against(data, other), other)
    return found


def _corrected(compared: Sequence[Comparison], other: ComparedArm) -> list[str]:
    """What is left when all differences from one arm must hold at once; several arms only."""
    if len(compared) < 2 or not any(comparison.after.has_interval for comparison in compared):
        return []
    gains, losses, _ = split(together(compared, after), after)
    parts = [
        f"{word}: {', '.join(c.a.title for c in _by_size(group, after))}"
        for word, group in (("better", gains), ("worse", losses))
        if group
    ]
    found = "; ".join(parts) or "none"
    return [
        f"All {len(compared)} differences from “{other.title}” at once (Holm's correction, after "
        f"fine-tuning): {found}."
    ]


def questions(data: CompareData) -> list[str]:
    """The pairs of the study, both columns of each in a sentence."""
    return [_question(comparison) for comparison in asked(data)]


def _listed(compared: Sequence[Comparison], column: Column) -> str:
    """Names by verdict, the largest difference first; the table has the figures."""
    gains, losses, open_ones = split(compared, column)
    parts = [
        f"{word}: {', '.join(c.a.title for c in _by_size(group, column))}"
        for word, group in (("better", gains), ("worse", losses), ("not established", open_ones))
        if group
    ]
    return "; ".join(parts) + "."


def _by_size(compared: Sequence[Comparison], column: Column) -> list[Comparison]:
    return sorted(compared, key=lambda comparison: -abs(column(comparison).mean))


def _question(comparison: Comparison) -> str:
    """One pair, both columns: what holds and what does not."""
    a, b = comparison.a, comparison.b
    states = []
    if a.is_distilled or b.is_distilled:
        states.append(f"distilled only {_state(comparison.before)}")
    states.append(f"after fine-tuning {_state(comparison.after)}")
    return f"“{a.title}” against “{b.title}”: {'; '.join(states)}."


def _state(difference: PairedDifference) -> str:
    word = "not established"
    if difference.established:
        word = "better" if difference.mean > 0 else "worse"
    return f"{word}, {signed(difference.mean)} ({span(difference)})"


def limits(data: CompareData) -> str:
    """What the intervals cover, and how many would miss zero by chance."""
    if data.num_draws < 2:
        return "One label draw has no interval, so nothing is established: give draws=5 or more."
    count = sum(
        (1 + comparison.a.is_distilled)
        for other in data.others
        for comparison in against(data, other)
    ) + 2 * len(asked(data))
    return (
        "Established means that the 95 % interval of the paired difference excludes 0. Each "
        f"comparison stands for itself: of {count}, about {max(1, round(0.05 * count))} would do "
        "so by chance alone. The intervals cover the choice of labels and the randomness of "
        "training, not that of the test set, nor other data"
        + (", nor of the choice of settings." if data.tuning else ".")
    )


def tuned(data: CompareData) -> str:
    """How settings were chosen, in a sentence; empty where none were."""
    if not data.tuning:
        return ""
    arms = list(dict.fromkeys(tried.arm for tried in data.tuning))
    each = len(data.tuning) // len(arms)
    return (
        f"Settings of {len(arms)} arms were chosen on {data.tuned_on}, on label draws of their "
        f"own, from {each} candidates each ({duration(sum(t.seconds for t in data.tuning))})."
    )


def markdown(data: CompareData) -> str:
    """The table of arms, the sizes, and what they establish, for a README."""
    lines = [_row(_head(data)), _row(["---"] * len(_head(data)))]
    lines += [_row(_cells(data, arm)) for arm in data.listed]
    lines += ["", f"Test accuracy in %, mean ± 95 % Student-t interval, {_draws(data)}; paired "
              "differences in points after fine-tuning with their 95 % interval, bold where it "
              "excludes 0; wall time of one student with all its stages."]  # fmt: skip
    lines += _grid_table(data)
    for sweep in data.sweeps:
        lines += ["", *_sweep_table(data, sweep)]
    lines += ["", *(f"- {plain(sentence)}" for sentence in sentences(data))]
    lines += [f"- {plain(sentence)}" for sentence in [worth(data), tuned(data)] if sentence]
    lines += [f"- Ended early: {plain(arm)}: {plain(reason)}" for arm, reason in data.failed]
    lines += [f"- {plain(note)}" for note in data.notes]
    facts = [data.versions.get(key, "") for key in ("hardware", "date")]
    lines += ["", ", ".join(plain(fact) for fact in [f"seed {data.seed}", *facts] if fact) + "."]
    return "\n".join([*lines, "", _fenced(data.command)]) + "\n"


def plain(text: object) -> str:
    """Text in which Markdown sees no markup of its own, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))


def _fenced(command: str) -> str:
    """The command as a code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{command}\n{fence}"


def _head(data: CompareData) -> list[str]:
    minus = [f"minus {plain(other.title)}" for other in data.others]
    return ["arm", BEFORE, AFTER, *minus, "time"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(data: CompareData, arm: ComparedArm) -> list[str]:
    cells = [plain(arm.title), str(arm.interval(BEFORE)) if arm.is_distilled else "–"]
    cells.append(str(arm.interval(AFTER)))
    for other in data.others:
        found = compare_arms(arm, other) if arm is not other else None
        cells.append("–" if found is None else _marked(found.after))
    return [*cells, duration(arm.seconds)]


def _marked(difference: PairedDifference) -> str:
    text = signed(difference.mean)
    text = f"**{text}**" if difference.established else text
    return f"{text} ({span(difference)})" if difference.has_interval else text


def _grid_table(data: CompareData) -> list[str]:
    """Methods against transfer sets, where several were compared on several."""
    found = grid(data)
    if found is None:
        return []
    rows = [[AFTER, *map(plain, found.columns)], ["---"] * (len(found.columns) + 1)]
    rows += [
        [plain(name), *("–" if arm is None else str(arm.interval(AFTER)) for arm in arms)]
        for name, arms in found.rows
    ]
    return ["", *map(_row, rows)]


def _sweep_table(data: CompareData, sweep: Sweep) -> list[str]:
    points = [
        (value, arm)
        for value, arm in zip(sweep.values, map(data.arm, sweep.arms), strict=True)
        if arm is not None
    ]
    rows = [
        [f"{plain(sweep.name)}: {plain(sweep.setting)}", *(f"{value:,g}" for value, _ in points)],
        ["---"] * (len(points) + 1),
        [BEFORE, *(str(arm.interval(BEFORE)) for _, arm in points)],
        [AFTER, *(str(arm.interval(AFTER)) for _, arm in points)],
    ]
    return [_row(row) for row in rows]


def text_table(data: CompareData) -> str:
    """The answer and the table with aligned columns, for a terminal."""
    header = ["arm", BEFORE, AFTER, "difference", "95 % interval", "time"]
    rows = []
    other = data.arm(data.baseline)
    for arm in data.arms:
        found = compare_arms(arm, other) if other is not None and arm is not other else None
        rows.append([
            arm.title,
            str(arm.interval(BEFORE)) if arm.is_distilled else "-",
            str(arm.interval(AFTER)),
            signed(found.after.mean) if found else "",
            span(found.after) if found else "",
            duration(arm.seconds),
        ])  # fmt: skip
    answer = "".join(text for text, _ in headline(data))
    unit = "accuracy in %; difference in points after fine-tuning, draw by draw"
    against_what = f" against {other.title}" if other is not None else ""
    return "\n".join([answer, "", *aligned([header, *rows]), "", unit + against_what])
