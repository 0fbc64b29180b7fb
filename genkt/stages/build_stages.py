"""From the settings of a recipe to its stages, once, when a run is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from genkt.config.stage_settings import (
    AdaptStage,
    DistilStage,
    FinetuneStage,
    LinearProbeStage,
    PretrainStage,
    PseudoLabelStage,
    SelfSupervisedStage,
    SoupStage,
    StageSettings,
)
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.data.views import ViewSpec
from genkt.methods.build import METHODS
from genkt.stages.adapt_teachers import TeacherAdaptation
from genkt.stages.distil import Distillation, Soup
from genkt.stages.finetune import Finetuning, HeadTraining
from genkt.stages.pretrain_backbone import Pretraining
from genkt.stages.pseudo_label import PseudoLabelling
from genkt.stages.recipe_stage import RecipeStage
from genkt.stages.self_supervised_stage import SelfSupervision
from genkt.training.train_settings import TrainSettings


@dataclass(frozen=True)
class StageBuilder:
    """Builds stages; settings that a stage does not give are those of the run.

    Args:
        config: of the run.
        splits: its data.
        views: the stored views of transfer images.
        num_teachers: of the run.
    """

    config: TransferConfig
    splits: Splits
    views: ViewSpec
    num_teachers: int

    def build(self, name: str, stage: StageSettings) -> RecipeStage:
        """One stage of a recipe."""
        return _BUILDERS[type(stage)](self, name, stage)

    def taught(self) -> Distillation | None:
        """The stage where teachers teach a fresh student, from one teacher if they do in turn.

        None: no stage has a teacher, or others train the student before.
        """
        config = self.config
        first = next(iter(config.recipe.trained), "")
        stage = config.distil_stages.get(first)
        if stage is None or not METHODS[(stage.method or config.method).name].needs:
            return None
        found = Distillation(*self._distilled(first, stage))
        return replace(found, by=[0]) if stage.one_by_one else found

    def adaptation(self, name: str, stage: AdaptStage) -> RecipeStage:
        """The teachers are adapted to the labels."""
        return TeacherAdaptation(name)

    def distillation(self, name: str, stage: DistilStage) -> RecipeStage:
        """A method with the teachers that the stage names."""
        return Distillation(*self._distilled(name, stage))

    def soup(self, name: str, stage: SoupStage) -> RecipeStage:
        """The same, with one student per teacher."""
        return Soup(*self._distilled(name, stage))

    def finetuning(self, name: str, stage: FinetuneStage) -> RecipeStage:
        """As ``train``, with the steps and the learning rate of ``finetune``."""
        settings = stage.settings(self._on_labels(self.config.finetune.lr))
        how = stage.how or self.config.finetune.recipe
        return Finetuning(name, settings, how, self.config.irf.head_lr)

    def probe(self, name: str, stage: LinearProbeStage) -> RecipeStage:
        """As ``train``, with the steps of ``finetune`` and the head's learning rate of ``irf``."""
        return HeadTraining(name, stage.settings(self._on_labels(self.config.irf.head_lr)))

    def pseudo_labels(self, name: str, stage: PseudoLabelStage) -> RecipeStage:
        """As ``train``."""
        settings = stage.settings(self.config.train)
        return PseudoLabelling(name, settings, stage.rounds, stage.threshold, stage.restart)

    def self_supervision(self, name: str, stage: SelfSupervisedStage) -> RecipeStage:
        """As ``train``, on the stage's own views."""
        return SelfSupervision(name, stage.settings(self.config.train), self.views, stage)

    def pretraining(self, name: str, stage: PretrainStage) -> RecipeStage:
        """As ``train``, on other labelled images."""
        settings = stage.settings(self.config.train)
        return Pretraining(
            name, settings, stage.source, stage.num_images, self.config.seed, self.splits
        )

    def _distilled(self, name: str, stage: DistilStage) -> tuple[Any, ...]:
        options = stage.method or self.config.method
        settings = stage.settings(self.config.train)
        return name, options, settings, stage.images, stage.teachers, self.num_teachers

    def _on_labels(self, lr: float) -> TrainSettings:
        return replace(self.config.train, steps=self.config.finetune.steps, lr=lr)


_BUILDERS: Mapping[type, Callable[[StageBuilder, str, Any], RecipeStage]] = {
    AdaptStage: StageBuilder.adaptation,
    DistilStage: StageBuilder.distillation,
    SoupStage: StageBuilder.soup,
    FinetuneStage: StageBuilder.finetuning,
    LinearProbeStage: StageBuilder.probe,
    PseudoLabelStage: StageBuilder.pseudo_labels,
    SelfSupervisedStage: StageBuilder.self_supervision,
    PretrainStage: StageBuilder.pretraining,
}
