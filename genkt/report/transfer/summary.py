"""The numbers of a report: arms, the differences between them, the student against its teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.planning import Needed, needed
from genkt.metrics.scored_arms import Scored, of_arm, of_pair, of_ratio
from genkt.metrics.verdicts import OPEN, Verdict, holm, non_inferior, verdict
from genkt.report.transfer.report_data import ReportData, TeacherArm
from genkt.types import ACCURACY, EARLIER, LATER, STAGE, TESTED, Cost, StudentResult

MARGIN = 0.02
"""A student is as good as its teacher within so much, and so much is planned for: two points."""

_NO_SCORES = "no scores of two test images or more are there"


@dataclass(frozen=True)
class ArmMean:
    """A mean accuracy, 0..1, with its interval; None where no scores or too few images are there.

    Of students by draw: ``by_draw`` has the mean of each draw over its seeds.
    """

    mean: float
    interval: ScoreInterval | None
    by_draw: Mapping[int, float]


@dataclass(frozen=True)
class ArmDifference:
    """An arm minus another over the draws and seeds that both have.

    Args:
        mean: a share.
        interval: None where no scores or too few images are there.
        p: adjusted for all differences of the report (Holm); None without an interval.
    """

    mean: float
    interval: ScoreInterval | None
    p: float | None

    @property
    def verdict(self) -> Verdict:
        """What may be said of it."""
        if self.interval is None:
            return Verdict(OPEN, _NO_SCORES)
        return verdict(self.interval, self.p)


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its students.

    Args:
        cells: by draw and seed.
        distilled: before the final fine-tuning, None where there was none.
        difference: against the baseline, None for the baseline itself.
    """

    arm: str
    name: str
    cells: tuple[StudentResult, ...]
    accuracy: ArmMean
    distilled: ArmMean | None
    difference: ArmDifference | None

    @property
    def last_stage(self) -> tuple[float, float] | None:
        """Mean test accuracy before and after the last stage, taken back or not; None: one stage.

        The baseline has both where its end could be taken back.
        """
        found = [pair for cell in self.cells if (pair := _around_last(cell)) is not None]
        if not found:
            return None
        before, after = (fmean(values) for values in zip(*found, strict=True))
        return before, after

    @property
    def cost(self) -> Cost:
        """Sum over the students; memory is the highest peak."""
        return sum((cell.cost for cell in self.cells), Cost())


@dataclass(frozen=True)
class TeacherSummary:
    """A teacher, and the method's students against it.

    Args:
        ratio: of the students' accuracy to its own; None too where it is never right.
        difference: the students minus it.
    """

    teacher: TeacherArm
    accuracy: ArmMean
    ratio: ScoreInterval | None
    difference: ScoreInterval | None

    @property
    def within(self) -> Verdict:
        """Whether the students are no more than ``MARGIN`` below it."""
        if self.difference is None:
            return Verdict(OPEN, _NO_SCORES)
        return non_inferior(self.difference, MARGIN)


def summarise(data: ReportData) -> list[ArmSummary]:
    """One summary a student arm, in the order of the table."""
    found = differences(data)
    return [
        ArmSummary(
            arm,
            data.name_of(arm),
            cells_of(data, arm),
            _mean(data, arm),
            _mean(data, arm, distilled=True) if _distilled(data, arm) else None,
            found.get((arm, data.baseline)),
        )
        for arm in data.arms
    ]


def main_arm(summaries: Sequence[ArmSummary]) -> ArmSummary:
    """The summary of the method, which is the last one."""
    return summaries[-1]


def cells_of(data: ReportData, arm: str) -> tuple[StudentResult, ...]:
    """The students of an arm, by draw and seed."""
    mine = (cell for cell in data.cells if cell.arm == arm)
    return tuple(sorted(mine, key=lambda cell: (cell.draw, cell.seed)))


def differences(data: ReportData) -> dict[tuple[str, str], ArmDifference]:
    """(a, b) -> a minus b: every arm against the baseline, the method against every arm.

    The p-values are adjusted for all of them together.
    """
    arms = data.arms
    pairs = [(arm, data.baseline) for arm in arms if data.has_baseline and arm != data.baseline]
    pairs += [(data.method, arm) for arm in arms if arm != data.method]
    found = {}
    for a, b in dict.fromkeys(pairs):
        mean = _mean_difference(data, a, b)
        if mean is not None:
            found[a, b] = mean, _pair(data, a, b)
    known = {key: interval for key, (_, interval) in found.items() if interval is not None}
    adjusted = dict(zip(known, holm([each.p for each in known.values()]), strict=True))
    return {
        key: ArmDifference(mean, interval, adjusted.get(key))
        for key, (mean, interval) in found.items()
    }


def against_others(data: ReportData) -> dict[str, ArmDifference]:
    """Every other arm -> the method minus it."""
    return {b: found for (a, b), found in differences(data).items() if a == data.method}


def against_baseline(data: ReportData) -> ArmDifference | None:
    """The method minus the baseline; None where there is none, or they share no student."""
    found = differences(data) if data.has_baseline else {}
    return found.get((data.method, data.baseline))


def against_teachers(data: ReportData) -> list[TeacherSummary]:
    """Every head of a teacher that answers the task."""
    mine = data.scores.get(data.method, {})
    found = []
    for teacher in data.teachers:
        own = {(draw, 0): scores for draw, scores in teacher.scores.items()}
        beside = {(d, s): teacher.scores[d] for d, s in mine if d in teacher.scores}
        is_right = any(scores.any() for scores in beside.values())
        found.append(
            TeacherSummary(
                teacher,
                ArmMean(teacher.mean, of_arm(own, data.design), _by_draw(own)),
                of_ratio(mine, beside, data.design) if is_right else None,
                of_pair(mine, beside, data.design),
            )
        )
    return found


def planned(data: ReportData) -> Needed | None:
    """What would establish a difference of ``MARGIN`` against the baseline."""
    difference = against_baseline(data)
    if difference is None or difference.interval is None:
        return None
    return needed(difference.interval, MARGIN)


def _pair(data: ReportData, a: str, b: str) -> ScoreInterval | None:
    return of_pair(data.scores.get(a, {}), data.scores.get(b, {}), data.design)


def _mean_difference(data: ReportData, a: str, b: str) -> float | None:
    first, second = (
        {(cell.draw, cell.seed): cell.accuracy for cell in cells_of(data, arm)} for arm in (a, b)
    )
    shared = first.keys() & second.keys()
    return fmean(first[key] - second[key] for key in sorted(shared)) if shared else None


def _distilled(data: ReportData, arm: str) -> dict[tuple[int, int], float]:
    """Accuracy of each student before the final fine-tuning, of those that had one."""
    return {
        (cell.draw, cell.seed): cell.accuracy_distilled
        for cell in cells_of(data, arm)
        if cell.accuracy_distilled is not None
    }


def _around_last(cell: StudentResult) -> tuple[float, float] | None:
    """Test accuracy of one student before and after its last stage."""
    extras = cell.extras
    if f"{TESTED}{EARLIER}" in extras:
        return float(extras[f"{TESTED}{EARLIER}"]), float(extras[f"{TESTED}{LATER}"])
    if cell.accuracy_distilled is None:
        return None
    taken_back = extras.get(f"{ACCURACY}{extras.get(f'{STAGE}{LATER}')}", cell.accuracy)
    return cell.accuracy_distilled, float(taken_back)


def last_stage_text(summary: ArmSummary) -> str:
    """ "90.7 → 91.1"; nothing of an arm with one stage."""
    found = summary.last_stage
    return "" if found is None else " → ".join(f"{100 * value:.1f}" for value in found)


def _mean(data: ReportData, arm: str, *, distilled: bool = False) -> ArmMean:
    values = {(cell.draw, cell.seed): cell.accuracy for cell in cells_of(data, arm)}
    scores = data.scores
    if distilled:
        values, scores = _distilled(data, arm), data.distilled
    by_draw = {
        draw: fmean(value for (d, _), value in values.items() if d == draw)
        for draw in sorted({draw for draw, _ in values})
    }
    interval = of_arm(scores.get(arm, {}), data.design)
    return ArmMean(fmean(values.values()), interval, by_draw)


def _by_draw(scored: Scored) -> dict[int, float]:
    return {draw: float(np.mean(scores, dtype=np.float64)) for (draw, _), scores in scored.items()}


def signed(value: float) -> str:
    """ "+1.2" or "−1.2" (a true minus); what rounds to zero has no sign."""
    text = f"{abs(value):.1f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


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
