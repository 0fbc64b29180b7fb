"""What every stage of a recipe can do; each kind has a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from genkt.runs.pool import Draw
from genkt.stages.student_training import StudentTraining


@dataclass(frozen=True)
class RecipeStage(ABC):
    """One stage, built from its settings when the run is opened.

    Args:
        name: of its folder, and of its costs.
    """

    name: str

    @property
    def on_labels(self) -> bool:
        """Whether it learns from the given labels alone."""
        return False

    @property
    def trains_classifier(self) -> bool:
        """Whether it does, so that the student's answers count."""
        return True

    @abstractmethod
    def run(self, training: StudentTraining) -> None:
        """Do it; what was interrupted is continued."""

    @abstractmethod
    def num_images(self, draw: Draw) -> int:
        """Images that students see in it.

        Raises:
            UserError: whatever would stop the stage; this is asked before any training.
        """

    def lengths(self, draw: Draw) -> dict[str, int]:
        """Steps of a training whose method may average weights, under its name; {}: it has none."""
        return {}
