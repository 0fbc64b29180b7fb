"""The students of a draw: plain fine-tuning, the stages of a recipe, or a setting of IRF."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from genkt.config.irf_settings import IrfSetting
from genkt.files import read_tensors
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw
from genkt.stages.beta_search import best_value, rate_candidates
from genkt.stages.irf import train_setting
from genkt.stages.keep import Keeper
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import SEARCH, StudentTraining
from genkt.stages.train_stage import train_supervised
from genkt.training.checkpoint import SNAPSHOT
from genkt.training.train_settings import TrainSettings
from genkt.types import ACCURACY, EARLIER, LATER, STAGE, TESTED, Cost, Prediction

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

    Args:
        keeper: decides whether the last stage on labels is taken back.
        skips_last: it is left out (``finetune.keep=never``).
    """

    stages: tuple[RecipeStage, ...]
    keeper: Keeper
    skips_last: bool = False

    @property
    def reads_made_images(self) -> bool:
        return True

    def num_images(self, draw: Draw) -> int:
        """Images that students see in all stages together."""
        return sum(stage.num_images(draw) for stage in self._run_on(draw))

    def images_before_last(self, draw: Draw) -> int:
        """Of these, before the stage that can be taken back; 0 where there is none."""
        if self._last_on_labels(draw) is None:
            return 0
        return self.num_images(draw) - self._trained(draw)[-1].num_images(draw)

    def _trained(self, draw: Draw) -> list[RecipeStage]:
        return [stage for stage in self._run_on(draw) if stage.num_images(draw)]

    def _run_on(self, draw: Draw) -> tuple[RecipeStage, ...]:
        """The stages but for a last one that is left out."""
        last = _taken_back(self.stages, draw) if self.skips_last else None
        return tuple(stage for stage in self.stages if stage is not last)

    def _last_on_labels(self, draw: Draw) -> RecipeStage | None:
        """The stage that can be taken back."""
        return None if self.skips_last else _taken_back(self.stages, draw)

    def train(self, training: StudentTraining) -> Prediction | None:
        training.first_weights()
        before: Prediction | None = None
        last: str | None = None
        for stage in self._run_on(training.draw):
            answers, done = None, training.num_steps
            if last is not None:
                answers = training.images.predictions(training.student, "test")
            earlier = copy.deepcopy(training.student) if self._judges(stage, training) else None
            stage.run(training)
            training.past.append(stage.run)
            if training.num_steps > done:
                if answers is not None:
                    training.extras[f"{ACCURACY}{last}"] = answers.accuracy
                before = answers if stage.on_labels else None
                last = stage.name if stage.trains_classifier else None
            if earlier is not None:
                self._keep(training, earlier, stage)
        return before

    def _judges(self, stage: RecipeStage, training: StudentTraining) -> bool:
        return self.keeper.on is not None and stage is self._last_on_labels(training.draw)

    def _keep(self, training: StudentTraining, earlier: Backbone, last: RecipeStage) -> None:
        """Take the last stage back where it did harm."""
        later, before = training.student, self._trained(training.draw)[-2]
        training.extras |= {f"{STAGE}{EARLIER}": before.name, f"{STAGE}{LATER}": last.name}
        training.student = self.keeper.kept(training, earlier, later, self._both)
        if training.student is earlier:  # for the report alone
            answers = training.images.predictions(later, "test")
            training.extras[f"{ACCURACY}{last.name}"] = answers.accuracy

    def _both(self, own: StudentTraining) -> tuple[Backbone, Backbone]:
        """A student of a fold before the last stage, and after it."""
        last, earlier = self._last_on_labels(own.draw), own.student
        for stage in self.stages:
            if stage is last:
                earlier = copy.deepcopy(own.student)
            stage.run(own)
            own.past.append(stage.run)
        return earlier, own.student


def _taken_back(stages: Sequence[RecipeStage], draw: Draw) -> RecipeStage | None:
    """The last stage that trains, if it learns from labels and follows one with answers."""
    trained = [stage for stage in stages if stage.num_images(draw)]
    can_be = len(trained) > 1 and trained[-1].on_labels and trained[-2].trains_classifier
    return trained[-1] if can_be else None


@dataclass(frozen=True)
class PlainArm(StudentArm):
    """Plain fine-tuning for as many steps of as many images as all stages of the recipe.

    Args:
        settings: as ``train``.
        like: the stages.
        keeper: decides between its end and the step where the recipe's last stage would begin.
        num_candidates: learning rates that it is searched over, as a method searches its beta; 0:
            it has that of the settings.
    """

    settings: TrainSettings
    like: StagedArm
    keeper: Keeper
    num_candidates: int = 0

    def num_steps(self, draw: Draw) -> int:
        """Steps that see as many images as the stages."""
        return math.ceil(self.like.num_images(draw) / self.settings.batch_size)

    def train(self, training: StudentTraining) -> Prediction | None:
        training.first_weights()
        settings = replace(
            self.settings, steps=self.num_steps(training.draw), lr=self._lr(training)
        )
        earlier = self._finetuned(training, settings)
        if earlier is not None:

            def both(own: StudentTraining) -> tuple[Backbone, Backbone]:
                before = self._finetuned(own, settings)
                return before or own.student, own.student

            for which, student in ((EARLIER, earlier), (LATER, training.student)):
                tested = training.images.predictions(student, "test")
                training.extras[f"{TESTED}{which}"] = tested.accuracy
            training.student = self.keeper.kept(training, earlier, training.student, both)
        return None

    def _finetuned(self, training: StudentTraining, settings: TrainSettings) -> Backbone | None:
        """Train the student; as it was at the step of the choice, None where there is no choice."""
        home = training.directory / "finetune"
        judges, batch = self.keeper.on is not None, self.settings.batch_size
        snapshot = math.ceil(self.like.images_before_last(training.draw) / batch) if judges else 0
        cost, curve = train_supervised(
            training.images, training.draw, "finetune", training.student, settings,
            home, training.log, snapshot=snapshot,
        )  # fmt: skip
        training.add("finetune", cost, curve)
        path = home / SNAPSHOT
        if not snapshot or not path.is_file():  # an older genkt may have trained up to there
            return None
        earlier = copy.deepcopy(training.student)
        earlier.model.load_state_dict(read_tensors(path))
        return earlier

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
