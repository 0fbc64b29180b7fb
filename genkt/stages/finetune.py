"""Stages that learn from labels only: all of the student, or the classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from genkt.config.irf_settings import IRF_SETTINGS
from genkt.runs.pool import Draw
from genkt.stages.irf import train_setting
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.student_training import StudentTraining
from genkt.stages.train_stage import train_supervised
from genkt.training.train_settings import TrainSettings


@dataclass(frozen=True)
class LabelStage(RecipeStage):
    """Training on the labels.

    Args:
        settings: as ``train``, with what ``finetune`` and the stage say.
    """

    settings: TrainSettings

    @property
    def on_labels(self) -> bool:
        return True

    def num_images(self, draw: Draw) -> int:
        return self._num_steps(draw) * self.settings.batch_size

    def _num_steps(self, draw: Draw) -> int:
        return self.settings.num_steps(len(draw.labelled))

    def _train(
        self, training: StudentTraining, settings: TrainSettings, *, head_only: bool
    ) -> None:
        cost, records = train_supervised(
            training.images, training.draw, self.name, training.student, settings,
            training.directory / self.name, training.log, head_only=head_only,
        )  # fmt: skip
        training.add(self.name, cost, records)


@dataclass(frozen=True)
class Finetuning(LabelStage):
    """Fine-tune the student on the labels, or (IRF) its head first on re-represented images.

    Args:
        head_lr: learning rate of the head alone (IRF).
    """

    how: Literal["fine_tune", "irf"]
    head_lr: float

    def run(self, training: StudentTraining) -> None:
        settings = replace(self.settings, steps=self._num_steps(training.draw))
        if not settings.steps:
            return
        if self.how == "irf":
            assert training.represented is not None
            costs, records = train_setting(
                training.images, training.represented, training.draw, training.student,
                IRF_SETTINGS["irf"], settings, training.directory, training.log,
                head_lr=self.head_lr, prefix="" if self.name == "finetune" else f"{self.name}-",
            )  # fmt: skip
            training.add_parts(costs, records)
        else:
            self._train(training, settings, head_only=False)


@dataclass(frozen=True)
class HeadTraining(LabelStage):
    """Train only the classifier; the backbone is frozen."""

    def run(self, training: StudentTraining) -> None:
        if self._num_steps(training.draw):
            self._train(training, self.settings, head_only=True)
