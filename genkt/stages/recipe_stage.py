"""The interface of every stage of a recipe; each kind has its own file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        """Whether it learns only from the given labels."""
        return False

    @property
    def trains_classifier(self) -> bool:
        """Whether it trains the classifier, so that the student's answers have meaning."""
        return True

    @abstractmethod
    def run(self, training: StudentTraining) -> None:
        """Run the stage; an interrupted one is continued."""

    @abstractmethod
    def num_images(self, draw: Draw) -> int:
        """Images that students see in it.

        Raises:
            UserError: any error that would stop the stage; called before any training.
        """

    def lengths(self, draw: Draw) -> dict[str, int]:
        """Steps of trainings whose method may average weights, by name; {} if there are none."""
        return {}

    def epochs(self, draw: Draw, num_samples: int) -> NDArray[np.int64]:
        """[num_samples] in how many epochs it shows each one to teachers; none: it has none."""
        return np.zeros(num_samples, dtype=np.int64)
