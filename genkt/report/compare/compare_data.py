"""What a comparison has to tell, and the numbers made of it: plain values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.scored_arms import DrawDesign, Scored, of_arm
from genkt.types import Budget, Cost, StudentResult, StudentScores, UserError

BEFORE, AFTER = "distilled only", "after fine-tuning"
"""The two columns: a student before and after its last stage, fine-tuning on the labels."""


@dataclass(frozen=True)
class ComparedCell:
    """One student, and the cost of each of its stages.

    Args:
        scores: on every test image; None where an older genkt did not keep them.
        weights: their digest; "" where it is not known.
    """

    result: StudentResult
    stages: Mapping[str, Cost]
    scores: StudentScores | None = None
    weights: str = ""

    @property
    def place(self) -> tuple[int, int]:
        """Its draw and its seed."""
        return self.result.draw, self.result.seed


@dataclass(frozen=True)
class ComparedArm:
    """One arm with the students that it has trained.

    Args:
        name: its folder in ``arms/``.  title: what the reader calls it.
        words: its own settings of ``genkt transfer``.
        cells: by draw and seed.
        config: its resolved configuration.  versions: what it ran with, and when.
        listed: whether it is a row of the table, not a sweep's alone.
        budget: what went into it, with the search for its settings; None: an earlier genkt ran it.
        head_taught: whether a loss reached the classifier before the last stage; otherwise its
            accuracy there is chance, and no question.
        merged: the arms that it stands for, itself first; see ``merge_identical``.
    """

    name: str
    title: str
    words: Sequence[str]
    cells: Sequence[ComparedCell]
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    listed: bool = True
    budget: Budget | None = None
    head_taught: bool = True
    merged: Sequence[ComparedArm] = ()

    @property
    def members(self) -> Sequence[ComparedArm]:
        """The arms of the study in this row: itself, or those that it stands for."""
        return self.merged or (self,)

    def accuracies(self, column: str) -> dict[tuple[int, int], float]:
        """(Draw, seed) -> accuracy in percent.

        An arm without a last stage of its own (plain fine-tuning) has one figure for both columns.
        """
        return {
            cell.place: 100 * (cell.result.accuracy if before is None else before)
            for cell in self.cells
            for before in [cell.result.accuracy_distilled if column == BEFORE else None]
        }

    def scored(self, column: str) -> Scored:
        """(Draw, seed) -> [N] scores, of those students whose scores were kept."""
        found = {}
        for cell in self.cells:
            if cell.scores is None:
                continue
            if column == BEFORE and cell.result.accuracy_distilled is not None:
                scores = cell.scores.distilled
            else:
                scores = cell.scores.final
            if scores is not None:
                found[cell.place] = scores
        return found

    def mean(self, column: str) -> float:
        """Mean accuracy of its students, in percent."""
        return fmean(self.accuracies(column).values())

    @property
    def is_distilled(self) -> bool:
        """Whether its students were measured before their last stage."""
        return any(cell.result.accuracy_distilled is not None for cell in self.cells)

    def answers(self, column: str) -> bool:
        """Whether its accuracy is shown in a column and asked about."""
        return column == AFTER or (self.is_distilled and self.head_taught)

    @property
    def validation(self) -> float | None:
        """Mean of its students' figures on validation images, 0..1; None where one has none."""
        known = [each for cell in self.cells if (each := cell.result.validated) is not None]
        return fmean(value for _, value in known) if len(known) == len(self.cells) else None

    @property
    def validated_by(self) -> str | None:
        """Which figure that is, "validation_accuracy" or another; None where one has none."""
        known = {cell.result.validated and cell.result.validated[0] for cell in self.cells}
        return known.pop() if len(known) == 1 else None

    @property
    def cost(self) -> Cost:
        """Sum over its students; memory is the highest peak."""
        return sum((cell.result.cost for cell in self.cells), Cost())

    @property
    def seconds(self) -> float:
        """Wall seconds of one student, all its stages; mean over its students."""
        return self.cost.seconds / len(self.cells)


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
        validation: mean of what judged it, 0..1; None where it ended early.
        seconds: wall time of its run.  chosen: whether the arm has these settings.
        validated_by: what judged it.
    """

    arm: str
    words: Sequence[str]
    validation: float | None
    seconds: float
    chosen: bool
    validated_by: str = "validation_accuracy"


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
        design: where the students come from, for the intervals.
        test_ids: [N] of the test images, in the order of all scores.
        notes: sentences for the reader.
        tuning: candidates that settings were chosen from.  tuned_on: what they were judged on.
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
    design: DrawDesign = field(default_factory=DrawDesign)
    test_ids: Sequence[str] = ()
    notes: Sequence[str] = ()
    tuning: Sequence[Tried] = ()
    tuned_on: str = "validation images"
    work: Work | None = None

    def __post_init__(self) -> None:
        """Check that the arms can be told apart. Raises: UserError."""
        names = [each.name for arm in self.arms for each in arm.members]
        if len(set(names)) != len(names):
            raise UserError("comparison: expected every arm once, got some twice")
        empty = [arm.name for arm in self.arms if not arm.cells]
        if empty:
            raise UserError(f"comparison: arms without a student: {', '.join(empty)}")

    def arm(self, name: str | None) -> ComparedArm | None:
        """The row of an arm, by its name; None where it has no student."""
        rows = (arm for arm in self.arms if any(each.name == name for each in arm.members))
        return next(rows, None)

    def interval(self, arm: ComparedArm, column: str) -> ScoreInterval | None:
        """Around the mean accuracy of an arm; None where scores were not kept, or it is chance."""
        if column == BEFORE and arm.is_distilled and not arm.head_taught:
            return None
        return of_arm(arm.scored(column), self.design)

    @property
    def others(self) -> list[ComparedArm]:
        """What every arm is compared with: the baseline, then the reference."""
        names = dict.fromkeys((self.baseline, self.reference))
        rows = [arm for name in names if (arm := self.arm(name)) is not None]
        return [arm for index, arm in enumerate(rows) if arm not in rows[:index]]

    @property
    def listed(self) -> list[ComparedArm]:
        """The rows of the table."""
        return [arm for arm in self.arms if arm.listed]
