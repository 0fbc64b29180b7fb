"""A student on its way through a recipe: what stages change, and what they leave for the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.runs.run_log import StageLog
from genkt.runs.session import Session, TeacherSet
from genkt.stages.prepare_teachers import prepare_teachers
from genkt.training.stage import Record
from genkt.types import Cost


@dataclass
class Course:
    """One student, stage after stage.

    Args:
        directory: each stage keeps its state in a folder of its name here.
        student: changed in place, or replaced.
        costs: of what has been done, by stage.
        trained: of all trainings of the student.
        curve: records of all stages, steps counted through.
        extras: small facts for the report.
        artifacts: what methods have learned beside the student.
    """

    session: Session
    draw: Draw
    directory: Path
    log: StageLog
    student: Backbone
    costs: dict[str, Cost] = field(default_factory=dict)
    curve: list[Record] = field(default_factory=list)
    extras: dict[str, float | int | str] = field(default_factory=dict)
    artifacts: dict[str, Tensor] = field(default_factory=dict)
    trained: Cost = field(default_factory=Cost)
    _teachers: TeacherSet | None = None

    def add(self, name: str, cost: Cost, records: Sequence[Record]) -> None:
        """Note a training of the student that has ended."""
        self.curve += [{**r, "step": int(r["step"]) + self.num_steps} for r in records]
        self.costs[name] = cost
        self.trained += cost

    @property
    def num_steps(self) -> int:
        """Steps of the student so far."""
        return self.trained.steps

    def teachers(self) -> TeacherSet:
        """The draw's teachers, adapted and cached when first asked for."""
        if self._teachers is None:
            started, waited = time.perf_counter(), self.session.waited
            self._teachers, cost = prepare_teachers(self.session, self.draw, self.log)
            if self._teachers.models:  # all counts: forward passes into the cache, probes, training
                worked = time.perf_counter() - started - (self.session.waited - waited)
                self.costs["teachers"] = replace(cost, seconds=max(cost.seconds, worked))
            self.extras |= self._teachers.facts()
        return self._teachers
