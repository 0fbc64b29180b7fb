"""The state of a student in a run: what stages change, and what they record for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool
from genkt.runs.represented import Represented
from genkt.runs.run_images import RunImages
from genkt.runs.run_log import StageLog
from genkt.stages.asked_views import AskedViews
from genkt.stages.cross_validation import Exam
from genkt.stages.prepare_teachers import Teachers
from genkt.stages.teacher_set import TeacherSet
from genkt.training.stage import Record
from genkt.types import Cost, StudentResult, TeacherScores

SEARCH = "search"
"""Folder of what is trained for a choice, in the folder of its student."""

Facts = dict[str, float | int | str]

CROSS_VALIDATION = "cross-validation"
"""The name among the costs of what was trained on folds for the student's accuracy."""

TEACHERS = "teachers"
"""The name of their preparation among the costs of a student."""


@dataclass
class StudentTraining:
    """One student during its stages.

    Args:
        student: changed in place, or replaced.
        draw: its labels and transfer images.
        directory: contains one folder for the state of each stage.
        images, pool: of the run.
        all_teachers: of the run, not yet adapted to the draw.
        fresh: makes the student as it was before any training.
        represented: the labelled images and their reconstructions, where a stage reads them.
        first: the draw's first student of the same arm, which this one shares choices with; None
            where this is the first one.
        exam: the fold that this is a training for; None: for the run itself.
        settled: extras of the student whose fold this is.
        past: the stages that it has gone through.
        costs: so far, by stage.
        trained: cost of all trainings of the student.
        asked: what its teachers were asked so far.
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
    fresh: Callable[[], Backbone]
    represented: Represented | None = None
    first: StudentResult | None = None
    exam: Exam | None = None
    settled: Facts = field(default_factory=dict)
    past: list[Callable[[StudentTraining], None]] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    curve: list[Record] = field(default_factory=list)
    extras: Facts = field(default_factory=dict)
    artifacts: dict[str, Tensor] = field(default_factory=dict)
    trained: Cost = field(default_factory=Cost)
    asked: AskedViews = field(default_factory=AskedViews)
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

    @property
    def known(self) -> Facts:
        """Extras of the student that this one shares choices with; {}: it makes its own."""
        return self.settled if self.first is None else self.first.extras

    def for_exam(self, exam: Exam, *, replayed: bool = True) -> StudentTraining:
        """The training that candidates go on from: this one, or the same on the labels of a fold.

        In a fold everything that has learned from labels does so again, on those of the fold: the
        stages that the student went through, and the teachers, in the way that was chosen for
        them. Its ``costs`` are those of the fold.

        Args:
            replayed: False: a fresh student; the caller trains it.
        """
        if not exam.name:
            return replace(self, images=exam.images, costs={})
        ways = self._teachers.adapted if self._teachers is not None else None
        own = StudentTraining(
            student=self.fresh(),
            draw=exam.draw.for_student(self.draw.student),
            directory=self.directory / SEARCH / exam.name,
            log=self.log.below(f"{exam.name}-"),
            images=exam.images,
            pool=self.pool,
            all_teachers=self.all_teachers.for_exam(exam, ways),
            fresh=self.fresh,
            represented=self.represented,
            first=self.first,
            exam=exam,
            settled=self.extras,
            asked=self.asked,
        )
        for stage in self.past if replayed else ():
            stage(own)
        return own

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
            draw = self.pool.draws[self.draw.index] if self.exam is None else self.exam.draw
            self._teachers, cost = self.all_teachers.prepare(draw, self._first_log())
            if self._teachers.models and self.first is None:
                # All of it counts: forward passes into the cache, probes, training.
                worked = time.perf_counter() - started - (cache.waited - waited)
                self.costs[TEACHERS] = replace(
                    cost,
                    seconds=max(cost.seconds, worked),
                    # Of a fold they are in the cost of a search, whose samples are students'.
                    samples=cost.samples if self.exam is None else 0,
                    teacher_images=cost.samples + cost.teacher_images,
                )
            self.extras |= self._teachers.facts()
        return self._teachers

    def _first_log(self) -> StageLog:
        """The log of the draw's first student, which the training of teachers belongs to."""
        alone = self.first is None or self.exam is not None
        return self.log if alone else self.log.log.stage(self.log.draw, self.log.arm)
