"""What a comparison has to tell, and the numbers made of it: plain values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genkt.metrics.statistics import PairedDifference, mean_interval, paired_by_draw
from genkt.metrics.verdicts import holm
from genkt.types import Budget, Cost, Interval, StudentResult, UserError

BEFORE, AFTER = "distilled only", "after fine-tuning"
"""The two columns: a student before and after its last stage, fine-tuning on the labels."""


@dataclass(frozen=True)
class ComparedCell:
    """One student, and the cost of each of its stages."""

    result: StudentResult
    stages: Mapping[str, Cost]


@dataclass(frozen=True)
class ComparedArm:
    """One arm with the students that it has trained.

    Args:
        name: its folder in ``arms/``.  title: what the reader calls it.
        words: its own settings of ``genkt transfer``.
        cells: by draw.
        config: its resolved configuration.  versions: what it ran with, and when.
        listed: whether it is a row of the table, not a sweep's alone.
        budget: what went into it, with the search for its settings; None: an earlier genkt ran it.
    """

    name: str
    title: str
    words: Sequence[str]
    cells: Sequence[ComparedCell]
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    listed: bool = True
    budget: Budget | None = None

    def accuracies(self, column: str) -> dict[int, float]:
        """Draw -> accuracy in percent.

        An arm without a last stage of its own (plain fine-tuning) has one figure for both columns.
        """
        return {
            cell.result.draw: 100 * (cell.result.accuracy if before is None else before)
            for cell in self.cells
            for before in [cell.result.accuracy_distilled if column == BEFORE else None]
        }

    @property
    def is_distilled(self) -> bool:
        """Whether its students were measured before their last stage."""
        return any(cell.result.accuracy_distilled is not None for cell in self.cells)

    @property
    def cost(self) -> Cost:
        """Sum over the draws; memory is the highest peak."""
        return sum((cell.result.cost for cell in self.cells), Cost())

    @property
    def seconds(self) -> float:
        """Wall seconds of one student, all its stages; mean over the draws."""
        return self.cost.seconds / len(self.cells)

    def interval(self, column: str) -> Interval:
        """Mean accuracy and its 95 % interval over the draws, in percent."""
        return mean_interval(list(self.accuracies(column).values()))


@dataclass(frozen=True)
class Sweep:
    """A line over the values of one setting: [P] values in order, the arm at each."""

    name: str
    setting: str
    values: Sequence[float]
    arms: Sequence[str]


@dataclass(frozen=True)
class Tried:
    """A candidate that an arm's settings were chosen from.

    Args:
        arm: whose.  words: the candidate's settings.
        validation: mean validation accuracy, 0..1; None where it ended early.
        seconds: wall time of its run.  chosen: whether the arm has these settings.
    """

    arm: str
    words: Sequence[str]
    validation: float | None
    seconds: float
    chosen: bool


@dataclass(frozen=True)
class Work:
    """How long a comparison took: on the wall, and the sum of what its processes did meanwhile."""

    wall_seconds: float
    task_seconds: float


@dataclass(frozen=True)
class CompareData:
    """Everything a comparison has to tell.

    Args:
        title: of the study.  study: its name.
        arms: those that have a student, in the order of the study.
        baseline, reference: arms that all others are compared with; a missing one is not compared.
        pairs: (a, b) arms whose difference is a question of the study.
        sweeps: lines.
        failed: (arm, reason) of arms that ended early.
        words: settings of all arms.  command: how to repeat it.
        versions: python, packages, hardware, date.
        seed, num_draws: of all arms.
        notes: sentences for the reader.
        tuning: candidates that settings were chosen from.
        work: of all arms and candidates, over all starts.
    """

    title: str
    study: str
    arms: Sequence[ComparedArm]
    baseline: str
    reference: str | None = None
    pairs: Sequence[tuple[str, str]] = ()
    sweeps: Sequence[Sweep] = ()
    failed: Sequence[tuple[str, str]] = ()
    words: Sequence[str] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    num_draws: int = 0
    notes: Sequence[str] = ()
    tuning: Sequence[Tried] = ()
    work: Work | None = None

    def __post_init__(self) -> None:
        """Check that the arms can be told apart. Raises: UserError."""
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise UserError("comparison: expected every arm once, got some twice")
        empty = [arm.name for arm in self.arms if not arm.cells]
        if empty:
            raise UserError(f"comparison: arms without a student: {', '.join(empty)}")

    def arm(self, name: str | None) -> ComparedArm | None:
        """An arm by its name; None where it has no student."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def others(self) -> list[ComparedArm]:
        """What every arm is compared with: the baseline, then the reference."""
        names = dict.fromkeys((self.baseline, self.reference))
        return [arm for name in names if (arm := self.arm(name)) is not None]

    @property
    def listed(self) -> list[ComparedArm]:
        """The rows of the table."""
        return [arm for arm in self.arms if arm.listed]


@dataclass(frozen=True)
class Comparison:
    """Arm a minus arm b, draw by draw, in points, before and after the last stage.

    Args:
        by_draw: column -> draw -> difference.
    """

    a: ComparedArm
    b: ComparedArm
    before: PairedDifference
    after: PairedDifference
    by_draw: Mapping[str, Mapping[int, float]]


def compare_arms(a: ComparedArm, b: ComparedArm) -> Comparison | None:
    """The difference of two arms over the draws both have; None where they share none."""
    before, after = (
        paired_by_draw(a.accuracies(column), b.accuracies(column)) for column in (BEFORE, AFTER)
    )
    if before is None or after is None:
        return None
    by_draw = {}
    for column in (BEFORE, AFTER):
        mine, theirs = a.accuracies(column), b.accuracies(column)
        by_draw[column] = {draw: mine[draw] - theirs[draw] for draw in mine.keys() & theirs.keys()}
    return Comparison(a, b, before, after, by_draw)


def against(data: CompareData, other: ComparedArm | None) -> list[Comparison]:
    """Every other row of the table minus one arm; none where there is no such arm."""
    if other is None:
        return []
    found = (compare_arms(arm, other) for arm in data.listed if arm is not other)
    return [comparison for comparison in found if comparison is not None]


def asked(data: CompareData) -> list[Comparison]:
    """The pairs of the study that have students on both sides."""
    found = []
    for a, b in data.pairs:
        mine, theirs = data.arm(a), data.arm(b)
        comparison = compare_arms(mine, theirs) if mine and theirs else None
        found += [comparison] if comparison is not None else []
    return found


def split(
    comparisons: Sequence[Comparison], column: Callable[[Comparison], PairedDifference]
) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    """(established gains, established losses, not established) of one column."""
    gains = [c for c in comparisons if column(c).established and column(c).mean > 0]
    losses = [c for c in comparisons if column(c).established and column(c).mean < 0]
    open_ones = [c for c in comparisons if not column(c).established]
    return gains, losses, open_ones


def together(
    comparisons: Sequence[Comparison], column: Callable[[Comparison], PairedDifference]
) -> list[Comparison]:
    """Those that hold at once with 95 % confidence: Holm's correction over all of them."""
    adjusted = holm([column(comparison).p_value for comparison in comparisons])
    return [c for c, p_value in zip(comparisons, adjusted, strict=True) if p_value < 0.05]
