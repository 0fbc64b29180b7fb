"""What a comparison asks of its arms: paired differences, adjusted for being several."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.scored_arms import of_pair
from genkt.metrics.verdicts import BETTER, MIN_DRAWS, OPEN, WORSE, Verdict, holm, verdict
from genkt.report.compare.compare_data import AFTER, BEFORE, ComparedArm, CompareData


@dataclass(frozen=True)
class Difference:
    """One arm minus another in one column.

    Args:
        points: mean, in points.  by_draw: draw -> points, mean over its seeds.
        interval: 95 %, not adjusted; None where scores were not kept.
        p_adjusted: for all that the comparison asks; NaN where there is no test.
    """

    points: float
    by_draw: Mapping[int, float]
    interval: ScoreInterval | None = None
    p_adjusted: float = math.nan

    @property
    def p_value(self) -> float:
        """Of this difference alone; NaN where there is no test."""
        return math.nan if self.interval is None else self.interval.p

    @property
    def verdict(self) -> Verdict:
        """By the adjusted p-value."""
        if self.interval is None:
            return Verdict(OPEN, "the scores of its students were not kept")
        return verdict(self.interval, self.p_adjusted)

    @property
    def has_span(self) -> bool:
        """Whether there are draws enough for an interval of new students."""
        return self.interval is not None and self.interval.design.draws >= MIN_DRAWS


@dataclass(frozen=True)
class Comparison:
    """Arm a minus arm b.

    Args:
        before: None where neither was measured before its last stage, or one is chance there.
    """

    a: ComparedArm
    b: ComparedArm
    before: Difference | None
    after: Difference


Column = Callable[[Comparison], Difference | None]


def before(comparison: Comparison) -> Difference | None:
    """The difference before the last stage."""
    return comparison.before


def after(comparison: Comparison) -> Difference:
    """The difference at the end."""
    return comparison.after


@dataclass(frozen=True)
class Contrasts:
    """All that a comparison asks.

    Every verdict is by a p-value that Holm's procedure adjusted over all of these differences, in
    both columns; one that is asked twice (an arm minus the reference, and as a pair, or in both
    columns, of students that no last stage has changed) counts once.
    So with 95 % confidence every claim of a comparison holds.

    Args:
        minus_baseline, minus_reference: every other row of the table minus that one.
        pairs: of the study, those with students on both sides.
        num: different contrasts.
    """

    minus_baseline: Sequence[Comparison]
    minus_reference: Sequence[Comparison]
    pairs: Sequence[Comparison]
    num: int

    def against(self, data: CompareData, other: ComparedArm) -> Sequence[Comparison]:
        """Every other row minus the baseline or the reference."""
        return self.minus_baseline if other is data.arm(data.baseline) else self.minus_reference


def contrasts(data: CompareData) -> Contrasts:
    """Every difference that the comparison asks for, adjusted for all the others."""
    lists = [
        _against(data, data.arm(data.baseline)), _against(data, data.arm(data.reference)),
        _asked(data),
    ]  # fmt: skip
    family = [
        (_key(each, column), found.p_value)
        for compared in lists
        for each in compared
        for column, found in _columns(each)
    ]
    keys = [key for key, _ in family]
    adjusted = dict(zip(keys, holm([p for _, p in family], keys), strict=True))
    first, second, pairs = ([_judged(each, adjusted) for each in compared] for compared in lists)
    return Contrasts(first, second, pairs, len(adjusted))


def compare_arms(data: CompareData, a: ComparedArm, b: ComparedArm) -> Comparison | None:
    """The difference of two arms over the students both have; None where they share none."""
    found = _difference(data, a, b, AFTER)
    if found is None:
        return None
    chance = any(arm.is_distilled and not arm.head_taught for arm in (a, b))
    asked = (a.is_distilled or b.is_distilled) and not chance
    return Comparison(a, b, _difference(data, a, b, BEFORE) if asked else None, found)


def split(
    comparisons: Sequence[Comparison], column: Column
) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    """(better, worse, not established) in one column, of those that ask there."""
    said = [(c, found.verdict.word) for c in comparisons if (found := column(c)) is not None]
    better, worse, open_ones = (
        [c for c, word in said if word == wanted] for wanted in (BETTER, WORSE, OPEN)
    )
    return better, worse, open_ones


def _against(data: CompareData, other: ComparedArm | None) -> list[Comparison]:
    if other is None:
        return []
    found = (compare_arms(data, arm, other) for arm in data.listed if arm is not other)
    return [comparison for comparison in found if comparison is not None]


def _asked(data: CompareData) -> list[Comparison]:
    rows = [(data.arm(a), data.arm(b)) for a, b in data.pairs]
    pairs = {(a.name, b.name): (a, b) for a, b in rows if a and b and a is not b}
    found = (compare_arms(data, a, b) for a, b in pairs.values())
    return [comparison for comparison in found if comparison is not None]


def _difference(
    data: CompareData, a: ComparedArm, b: ComparedArm, column: str
) -> Difference | None:
    mine, theirs = a.accuracies(column), b.accuracies(column)
    shared = sorted(mine.keys() & theirs.keys())
    if not shared:
        return None
    draws = {
        draw: fmean(mine[place] - theirs[place] for place in shared if place[0] == draw)
        for draw, _ in shared
    }
    interval = of_pair(a.scored(column), b.scored(column), data.design)
    mean = fmean(mine[place] - theirs[place] for place in shared)
    return Difference(mean if interval is None else 100 * interval.mean, draws, interval)


def _columns(comparison: Comparison) -> Iterator[tuple[str, Difference]]:
    if comparison.before is not None:
        yield BEFORE, comparison.before
    yield AFTER, comparison.after


def _key(comparison: Comparison, column: str) -> Hashable:
    """Of a contrast: a - b and b - a are one, as are both columns of students that are the same."""
    arms, first, last = (comparison.a, comparison.b), comparison.before, comparison.after
    same = first is not None and (first.by_draw, first.interval) == (last.by_draw, last.interval)
    return frozenset(arm.name for arm in arms), AFTER if same else column


def _judged(comparison: Comparison, adjusted: Mapping[Hashable, float]) -> Comparison:
    found = {
        column: replace(difference, p_adjusted=adjusted[_key(comparison, column)])
        for column, difference in _columns(comparison)
    }
    return replace(comparison, before=found.get(BEFORE), after=found[AFTER])
