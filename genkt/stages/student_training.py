"""The state of a student in a run: what stages change, and what they record for the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool
from genkt.runs.represented import Represented
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.stages.prepare_teachers import Teachers
from genkt.stages.teacher_set import TeacherSet
from genkt.training.stage import Record
from genkt.types import Cost, StudentResult, TeacherScores


@dataclass
class StudentTraining:
    """One student during its stages.

    Args:
        student: changed in place, or replaced.
        draw: its labels and transfer images.
        directory: contains one folder for the state of each stage.
        images, pool: of the run.
        all_teachers: of the run, not yet adapted to the draw.
        represented: the labelled images and their reconstructions, where a stage reads them.
        first: the draw's first student of the same arm, which this one shares choices with; None
            where this is the first one.
        costs: so far, by stage.
        trained: cost of all trainings of the student.
        curve: records of all stages, with consecutive steps.
        extras: small facts for the report.
        artifacts: what methods learned besides the student.
    """

    student: Backbone
    draw: Draw
    directory: Path
    log: StageLog
    images: RunImages
    pool: Pool
    all_teachers: Teachers
    represented: Represented | None = None
    first: StudentResult | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    curve: list[Record] = field(default_factory=list)
    extras: dict[str, float | int | str] = field(default_factory=dict)
    artifacts: dict[str, Tensor] = field(default_factory=dict)
    trained: Cost = field(default_factory=Cost)
    _teachers: TeacherSet | None = None

    def add(self, name: str, cost: Cost, records: Sequence[Record]) -> None:
        """Record a finished training of the student."""
        self.curve += [{**r, "step": int(r["step"]) + self.num_steps} for r in records]
        self.costs[name] = cost
        self.trained += cost

    def add_parts(self, costs: Mapping[str, Cost], records: Sequence[Record]) -> None:
        """The same for one of several parts, with consecutive steps."""
        first, *others = costs.items()
        self.add(*first, records)
        for name, cost in others:
            self.add(name, cost, [])

    @property
    def num_steps(self) -> int:
        """Steps of the student so far."""
        return self.trained.steps

    def first_weights(self) -> None:
        """Record a digest that shows whether two arms of a draw began with the same student."""
        self.extras["first_weights"] = self.student.fingerprint()

    @property
    def teacher_scores(self) -> tuple[TeacherScores, ...]:
        """Of the teachers, on the test images; none where no stage has asked for teachers."""
        return () if self._teachers is None else self._teachers.scores

    def teachers(self) -> TeacherSet:
        """The draw's teachers, adapted and cached when first asked for.

        They are the same for all students of a draw; their cost is the first one's.
        """
        if self._teachers is None:
            cache = self.all_teachers.cache
            started, waited = time.perf_counter(), cache.waited
            draw = self.pool.draws[self.draw.index]
            self._teachers, cost = self.all_teachers.prepare(draw, self._first_log())
            if self._teachers.models and self.first is None:
                # All of it counts: forward passes into the cache, probes, training.
                worked = time.perf_counter() - started - (cache.waited - waited)
                self.costs["teachers"] = replace(cost, seconds=max(cost.seconds, worked))
            self.extras |= self._teachers.facts()
        return self._teachers

    def _first_log(self) -> StageLog:
        """The log of the draw's first student, which the training of teachers belongs to."""
        return self.log if self.first is None else self.log.log.stage(self.log.draw, self.log.arm)
