"""The stage that adapts the teachers to the labels."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.runs.pool import Draw
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import StudentTraining


@dataclass(frozen=True)
class TeacherAdaptation(RecipeStage):
    """Prepare the draw's teachers now, not when they are first needed."""

    def run(self, training: StudentTraining) -> None:
        if len(training.all_teachers):
            training.teachers()

    def num_images(self, draw: Draw) -> int:
        return 0
