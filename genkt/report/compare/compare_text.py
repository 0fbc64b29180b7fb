"""What a comparison establishes, said in sentences; its table for a terminal and a README."""

from __future__ import annotations

import re
from collections.abc import Sequence

from genkt.metrics.verdicts import FEW_IMAGES, LEVEL, MIN_DRAWS, MIN_IMAGES, spelled
from genkt.progress import duration
from genkt.report.compare.compare_cost import worth
from genkt.report.compare.compare_data import AFTER, BEFORE, ComparedArm, CompareData, Sweep
from genkt.report.compare.compare_figures import (
    NONE,
    arm_figure,
    arm_span,
    design_of,
    difference_figure,
    difference_span,
    what_varied,
)
from genkt.report.compare.compare_grid import grid
from genkt.report.compare.contrasts import Column, Comparison, Difference, after, before, split
from genkt.report.compare.findings import Findings
from genkt.report.kit.design_text import covered, overlap, plural_of
from genkt.report.transfer.summary import aligned, signed

_MARKS = re.compile(r"([\\|`*_<>\[\]])")
_COLUMNS: Sequence[tuple[Column, str]] = ((before, "Distilled only"), (after, "After fine-tuning"))
_NAMED = 5
"""Arms that the headline names; the sentences below it name all."""


def headline(found: Findings) -> list[tuple[str, bool]]:
    """The leading arm, which cannot be told from it, and how many differ from the baseline.

    Returns: (text, is it a key figure) pieces.
    """
    pieces = [*_leader(found), *_beside_leader(found), *_against_baseline(found)]
    return [*pieces, (f"; {what_varied(found.data)}; for these teachers and settings.", False)]


def _leader(found: Findings) -> list[tuple[str, bool]]:
    data, leading = found.data, found.leading
    low_to_high = arm_span(data, leading.arm, AFTER)
    figure = f"{leading.arm.mean(AFTER):.1f} %" + (f" ({low_to_high})" if low_to_high else "")
    if not leading.compared:
        return [(f"{leading.arm.title}: ", False), (figure, True)]
    if leading.validated:
        first = [("Best on validation images: ", False), (leading.arm.title, True)]
        gain = _over_baseline(found)
        return [*first, (", on test images ", False), (figure, True), (gain, False)]
    return [
        ("No winner is named, as validation images did not judge all arms by one metric. "
         "Highest mean: ", False),
        (leading.arm.title, True), (" ", False), (figure, True),
    ]  # fmt: skip


def _over_baseline(found: Findings) -> str:
    """What the leading arm gains over the baseline; empty where it is the baseline."""
    baseline = found.data.arm(found.data.baseline)
    compared = None if baseline is None else found.minus(found.leading.arm, baseline)
    if compared is None:
        return ""
    return f", {signed(compared.after.points)} points over {compared.b.title}"


def _beside_leader(found: Findings) -> list[tuple[str, bool]]:
    """Which rows cannot be told from the leading one."""
    leading = found.leading
    if not leading.compared:
        return []
    if not any(each.after.has_span for each in leading.compared):
        return [("; nothing is established", False)]
    pieces = []
    if leading.alike:
        count = f"{len(leading.alike)} of {len(leading.compared)}"
        pieces.append((f". Cannot be told from it, {count} other arms: ", False))
        pieces.append((_some(leading.alike), False))
    else:
        pieces.append((". Every other arm differs from it", False))
    if leading.better:
        pieces.append((f". Better than it on test images: {_some(leading.better)}", False))
    return pieces


def _some(arms: Sequence[ComparedArm]) -> str:
    names = [arm.title for arm in arms[:_NAMED]]
    more = len(arms) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _against_baseline(found: Findings) -> list[tuple[str, bool]]:
    compared, baseline = found.contrasts.minus_baseline, found.data.arm(found.data.baseline)
    if baseline is None or not any(each.after.has_span for each in compared):
        return []
    gains, losses, _ = split(compared, after)
    text = f". Beyond chance, {len(gains)} of {len(compared)} arms beat {baseline.title}"
    return [(text + (f" ({len(losses)} worse)" if losses else ""), False)]


def sentences(found: Findings) -> list[str]:
    """What is established, what is not, and how far the numbers carry; one paragraph each."""
    told = [*verdicts(found), *questions(found)]
    return [*told, *limits(found)] if told else told


def verdicts(found: Findings) -> list[str]:
    """Every arm against the baseline and the reference, by column; then against the leading one."""
    told = []
    for other in found.data.others:
        compared = found.contrasts.against(found.data, other)
        for column, when in _COLUMNS:
            if shown := [each for each in compared if column(each) is not None]:
                told.append(f"{when}, against “{other.title}”, {_listed(shown, column)}")
    leading = found.leading
    if any(each.after.has_span for each in leading.compared):
        told.append(
            f"After fine-tuning, against “{leading.arm.title}”, adjusted for all "
            f"{leading.num_pairs} pairs of arms: {_listed(leading.compared, after)}"
        )
    return told


def questions(found: Findings) -> list[str]:
    """The pairs of the study, both columns of each in a sentence."""
    return [_question(comparison) for comparison in found.contrasts.pairs]


def _listed(compared: Sequence[Comparison], column: Column) -> str:
    """Names by verdict, the largest difference first; the table has the figures."""
    words = ("better", "worse", "not established")
    parts = [
        f"{word}: {', '.join(c.a.title for c in _by_size(group, column))}"
        for word, group in zip(words, split(compared, column), strict=True)
        if group
    ]
    return "; ".join(parts) + "."


def _by_size(compared: Sequence[Comparison], column: Column) -> list[Comparison]:
    def size(comparison: Comparison) -> float:
        found = column(comparison)
        return 0.0 if found is None else -abs(found.points)

    return sorted(compared, key=size)


def _question(comparison: Comparison) -> str:
    """One pair, both columns: what holds and what does not."""
    states = []
    if comparison.before is not None:
        states.append(f"distilled only {_state(comparison.before)}")
    states.append(f"after fine-tuning {_state(comparison.after)}")
    return f"“{comparison.a.title}” against “{comparison.b.title}”: {'; '.join(states)}."


def _state(difference: Difference) -> str:
    interval = difference.interval
    figure = f"{signed(difference.points)} points" if interval is None else spelled(interval)
    return f"{difference.verdict.word}, {figure}"


def limits(found: Findings) -> list[str]:
    """What the intervals cover and leave out, and what established means."""
    data, design = found.data, design_of(found.data)
    if design is None:
        return ["The scores of these students were not kept, so nothing is established."]
    told = [*covered(design), *overlap(design, data.design.pool_share)]
    told.append("All figures hold for these teachers, generators, settings and data.")
    if data.tuning:
        told.append("The choice of settings is not covered.")
    if design.draws < MIN_DRAWS:
        return [" ".join([*told, "Nothing is established: give draws=5 or more."])]
    if design.images < MIN_IMAGES:
        told.append(f"Under {MIN_IMAGES} {plural_of(design)} nothing is established.")
    elif design.images < FEW_IMAGES:
        told.append(f"Under {FEW_IMAGES} {plural_of(design)} the intervals are rough.")
    told.append("The intervals are not adjusted for being several; the verdicts are.")
    return [
        " ".join(told),
        f"Established means p < {LEVEL} after Holm's correction for all {found.contrasts.num} "
        "differences that this comparison asks for, both columns: with 95 % confidence all of "
        "these claims hold. Which arms can be told from the leading one is a question of its own, "
        f"adjusted for all {found.leading.num_pairs} pairs of arms.",
    ]


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


def markdown(found: Findings) -> str:
    """The table of arms, the sizes, and what they establish, for a README."""
    data = found.data
    lines = [_row(_head(data)), _row(["---"] * len(_head(data)))]
    lines += [_row(_cells(found, arm)) for arm in data.listed]
    lines += ["", f"Test accuracy in %, mean with its 95 % interval, {what_varied(data)}; paired "
              "differences in points after fine-tuning with their 95 % interval, bold where they "
              "are established (p adjusted, the intervals are not); wall time of one student "
              "with all its stages."]  # fmt: skip
    lines += _grid_table(data)
    for sweep in data.sweeps:
        lines += ["", *_sweep_table(data, sweep)]
    lines += ["", *(f"- {plain(sentence)}" for sentence in sentences(found))]
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


def _cells(found: Findings, arm: ComparedArm) -> list[str]:
    data = found.data
    cells = [plain(arm.title), *(arm_figure(data, arm, column) for column in (BEFORE, AFTER))]
    for other in data.others:
        compared = found.minus(arm, other)
        cells.append(NONE if compared is None else difference_figure(compared.after, bold=True))
    return [*cells, duration(arm.seconds)]


def _grid_table(data: CompareData) -> list[str]:
    """Methods against transfer sets, where several were compared on several."""
    found = grid(data)
    if found is None:
        return []
    rows = [[AFTER, *map(plain, found.columns)], ["---"] * (len(found.columns) + 1)]
    rows += [
        [plain(name), *(NONE if arm is None else arm_figure(data, arm, AFTER) for arm in arms)]
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
        *([column, *(arm_figure(data, arm, column) for _, arm in points)]
          for column in (BEFORE, AFTER)),
    ]  # fmt: skip
    return [_row(row) for row in rows]


def text_table(found: Findings) -> str:
    """The answer and the table with aligned columns, for a terminal."""
    data = found.data
    header = ["arm", BEFORE, AFTER, "difference", "95 % interval", "time"]
    rows = []
    other = data.arm(data.baseline)
    for arm in data.arms:
        compared = found.minus(arm, other) if other is not None else None
        rows.append([
            arm.title, *(arm_figure(data, arm, column) for column in (BEFORE, AFTER)),
            signed(compared.after.points) if compared else "",
            difference_span(compared.after) if compared else "",
            duration(arm.seconds),
        ])  # fmt: skip
    answer = "".join(text for text, _ in headline(found))
    unit = "accuracy in %; difference in points after fine-tuning, draw by draw"
    against_what = f" against {other.title}" if other is not None else ""
    return "\n".join([answer, "", *aligned([header, *rows]), "", unit + against_what])
