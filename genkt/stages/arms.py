"""The students of a draw: plain fine-tuning, the stages of a recipe, or a setting of IRF."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from genkt.config.irf_settings import IrfSetting
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.stages.beta_search import best_value, rate_candidates
from genkt.stages.irf import train_setting
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import SEARCH, StudentTraining
from genkt.stages.train_stage import train_supervised
from genkt.training.train_settings import TrainSettings
from genkt.types import Cost, Prediction

ACCURACY = "accuracy."
"""Start of the extras that hold the test accuracy after a stage."""

LEARNING_RATE = "learning_rate"
"""The extra that holds a learning rate that was searched."""


@dataclass(frozen=True)
class StudentArm(ABC):
    """How one student of a draw is trained.

    Args:
        name: of its folder.
    """

    name: str

    @property
    def reads_made_images(self) -> bool:
        """Whether it pays for what a generator or a search has made for the run."""
        return False

    @property
    def tested_on_reconstructions(self) -> bool:
        """Whether it is tested on re-represented images."""
        return False

    @abstractmethod
    def train(self, training: StudentTraining) -> Prediction | None:
        """Train the student; what was interrupted is continued.

        Returns:
            Answers on the test images before the final training on labels; None if there is no
            such training, or nothing before it.
        """


@dataclass(frozen=True)
class StagedArm(StudentArm):
    """A fresh student goes through all stages, in order.

    The test accuracy after each goes to the extras.
    """

    stages: tuple[RecipeStage, ...]

    @property
    def reads_made_images(self) -> bool:
        return True

    def num_images(self, draw: Draw) -> int:
        """Images that students see in all stages together."""
        return sum(stage.num_images(draw) for stage in self.stages)

    def train(self, training: StudentTraining) -> Prediction | None:
        training.first_weights()
        before: Prediction | None = None
        last: str | None = None
        for stage in self.stages:
            answers, done = None, training.num_steps
            if last is not None:
                answers = training.images.predictions(training.student, "test")
            stage.run(training)
            training.past.append(stage.run)
            if training.num_steps > done:
                if answers is not None:
                    training.extras[f"{ACCURACY}{last}"] = answers.accuracy
                before = answers if stage.on_labels else None
                last = stage.name if stage.trains_classifier else None
        return before


@dataclass(frozen=True)
class PlainArm(StudentArm):
    """Plain fine-tuning for as many steps of as many images as all stages of the recipe.

    Args:
        settings: as ``train``.
        like: the stages.
        num_candidates: learning rates that it is searched over, as a method searches its beta; 0:
            it has that of the settings.
    """

    settings: TrainSettings
    like: StagedArm
    num_candidates: int = 0

    def num_steps(self, draw: Draw) -> int:
        """Steps that see as many images as the stages."""
        return math.ceil(self.like.num_images(draw) / self.settings.batch_size)

    def train(self, training: StudentTraining) -> Prediction | None:
        training.first_weights()
        settings = replace(
            self.settings, steps=self.num_steps(training.draw), lr=self._lr(training)
        )
        cost, curve = train_supervised(
            training.images, training.draw, "finetune", training.student, settings,
            training.directory / "finetune", training.log,
        )  # fmt: skip
        training.add("finetune", cost, curve)
        return None

    def _lr(self, training: StudentTraining) -> float:
        """The learning rate, after a search where there is one; a draw's students share it.

        Ties go to the rate of the settings.
        """
        if (known := training.known.get(LEARNING_RATE)) is not None:
            training.extras[LEARNING_RATE] = known
            return float(known)

        if not self.num_candidates or not self.num_steps(training.draw):
            return self.settings.rate
        candidates = rate_candidates(self.settings.rate, self.num_candidates)
        lr, cost = self.best_rate(training, candidates, self.num_steps)
        training.costs[SEARCH] = cost
        training.extras[LEARNING_RATE] = lr
        return lr

    def best_rate(
        self, training: StudentTraining, rates: Sequence[float], num_steps: Callable[[Draw], int]
    ) -> tuple[float, Cost]:
        """The best of some learning rates (``genkt.stages.cross_validation``), and the cost.

        Args:
            rates: the first wins ties.
            num_steps: of a trial, by what it learns from.
        """

        def trial(own: StudentTraining, student: Backbone, lr: float, name: str) -> Cost:
            settings = replace(self.settings, steps=num_steps(own.draw), lr=lr)
            home = own.directory / SEARCH / name
            return train_supervised(own.images, own.draw, name, student, settings, home, own.log)[0]

        return best_value(training, rates, trial, SEARCH, 0)


@dataclass(frozen=True)
class IrfSettingArm(StudentArm):
    """One row of Table 4 of the IRF paper.

    Args:
        settings: as ``train``, with what the recipe says; two stages share the steps.
        head_lr: learning rate of the head alone.
    """

    setting: IrfSetting
    settings: TrainSettings
    head_lr: float

    @property
    def reads_made_images(self) -> bool:
        return self.setting.re_represents

    @property
    def tested_on_reconstructions(self) -> bool:
        return self.setting.test_on == "reconstructions"

    def train(self, training: StudentTraining) -> Prediction | None:
        assert training.represented is not None
        costs, curve = train_setting(
            training.images, training.represented, training.draw, training.student, self.setting,
            self.settings, training.directory, training.log, head_lr=self.head_lr,
        )  # fmt: skip
        training.add_parts(costs, curve)
        return None
