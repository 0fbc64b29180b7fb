"""Typed settings of recipes: ``configs/recipe``; what a run asks, each kind answers itself."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

from genkt.config.irf_settings import BASELINE, IRF_SETTINGS, same_training
from genkt.config.stage_settings import Adaptation, DistilStage, StageSettings, TrainingStage
from genkt.settings.bounds import BatchSize, Count, Rate
from genkt.settings.faults import Fault, refuse
from genkt.training.train_settings import TrainSettings
from genkt.types import Range

IrfArm = Literal["linear_probe", "lp_ft", "rec_rec", "rec_rec_on_rec", "mixed", "mixed_mixed"]
"""See ``IRF_SETTINGS``."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_TAKEN_BY_RUN = re.compile(
    r"teachers|search|keep|synthesize|retrieve|re-represent|adapt-teacher\d+(-deliver|-calibrate)?"
)
"""Other names used next to the stages in a student's costs, folder and log."""
_TAKEN_IN_DRAW = re.compile(r"cache|teacher\d+|seed\d+")
"""Other names used next to the students in the folder of a draw."""


class Recipe(ABC):
    """How the students of a run are trained."""

    name: str

    @abstractmethod
    def main_arm(self, method: str) -> str:
        """The arm whose student is exported.

        Args:
            method: name of the run's.
        """

    @abstractmethod
    def batch_sizes(
        self, train: TrainSettings, *, baseline: bool, stages: bool
    ) -> list[tuple[str, int]]:
        """The rows of a step of every training that batch norm learns in, by their settings.

        Args:
            baseline: the run trains one.  stages: it trains by the recipe's own stages.
        """

    @abstractmethod
    def shortened(self, steps: int) -> Self:
        """The same with at most so many steps of a student's training."""

    @abstractmethod
    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        """The same in the fewest steps, on a handful of images.

        Args:
            num_labelled: labelled rows of a batch, at most.
        """

    @property
    def other_arms(self) -> list[str]:
        """The arms other than the baseline and the main arm."""
        return []

    @property
    def trained(self) -> Mapping[str, TrainingStage]:
        """The stages that train the student, by name."""
        return {}

    @property
    def distils(self) -> dict[str, DistilStage]:
        """The stages with teachers."""
        return {}

    @property
    def adaptation(self) -> Adaptation | None:
        """How its own stage adapts the teachers; None: as ``teacher.adapt``."""
        return None

    @property
    def reads_transfer_set(self) -> bool:
        """Whether a stage trains on transfer images."""
        return False

    @property
    def upstream_images(self) -> str | None:
        """Where images are that the student was pretrained on; None: nothing compares with them."""
        return None

    @property
    def most_compared(self) -> int:
        """Images of each set that are compared, at most."""
        return 0

    def ends_on_labels(self, length: object, on_labels: int) -> bool:
        """Whether the student learns from labels alone at the end, and could answer before it.

        Args:
            length: steps or epochs of a stage that names none.
            on_labels: steps of such a stage where it learns from labels alone.
        """
        return False

    def trained_as(self, arm: str) -> str:
        """The arm whose student another one takes over; itself where it trains its own."""
        return arm

    def tests_on_reconstructions(self, arms: Sequence[str]) -> bool:
        """Whether the student of one of these arms is tested on re-represented images."""
        return False

    def re_represents(self, finetune_recipe: str) -> bool:
        """Whether something trains on re-represented images.

        Args:
            finetune_recipe: of the run, for stages that say nothing else.
        """
        return False


@dataclass(frozen=True)
class StagedRecipe(Recipe):
    """A list of stages, in order.

    Args:
        name: of the recipe; of its students too, where it is not ``distil``.
        stages: name of a stage (its folder) -> what it does.
    """

    name: str
    stages: dict[str, StageSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be a list of stages.

        Raises:
            UserError: one line per fault.
        """
        faults = [
            Fault(
                "stages",
                f'"{name}": expected letters, digits and any of _ . + - (it names a folder)',
            )
            for name in self.stages
            if not _NAME.fullmatch(name)
        ]
        faults += [
            Fault(
                "stages",
                f'"{name}": the run itself has something of that name (teachers, search, keep, '
                "synthesize, retrieve, re-represent, adapt-teacherN); give the stage another",
            )
            for name in self.stages
            if _TAKEN_BY_RUN.fullmatch(name)
        ]
        if _TAKEN_IN_DRAW.fullmatch(self.name):
            text = f"{self.name} is a folder of the run itself; give another name"
            faults.append(Fault("name", text))
        if not self.trained:
            faults.append(Fault("stages", "expected at least one stage that trains the student"))
        adapted = [name for name, stage in self.stages.items() if stage.adapts]
        if len(adapted) > 1:
            text = f"expected at most one that adapts, got {', '.join(adapted)}"
            faults.append(Fault("stages", text))
        if self.name == BASELINE:
            text = f"{BASELINE} is the baseline's; give the recipe another name"
            faults.append(Fault("name", text))
        refuse(faults)

    def main_arm(self, method: str) -> str:
        return method if self.name == "distil" else self.name

    def batch_sizes(
        self, train: TrainSettings, *, baseline: bool, stages: bool
    ) -> list[tuple[str, int]]:
        found = [("train.batch_size", train.batch_size)] if baseline else []
        return found + [
            (f"{stage.batch_key(name)}.batch_size", stage.settings(train).batch_size)
            for name, stage in self.trained.items()
            if stages and stage.moves_batch_norm
        ]

    def shortened(self, steps: int) -> Self:
        return self._each(lambda stage: stage.shortened(steps))

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        return self._each(lambda stage: stage.shortened(1).in_small(batch_size, num_labelled))

    def _each(self, change: Callable[[StageSettings], StageSettings]) -> Self:
        stages = {name: change(stage) for name, stage in self.stages.items()}
        return replace(self, stages=stages)

    @property
    def trained(self) -> dict[str, TrainingStage]:
        each = ((name, stage.training) for name, stage in self.stages.items())
        return {name: stage for name, stage in each if stage is not None}

    @property
    def distils(self) -> dict[str, DistilStage]:
        each = ((name, stage.distillation) for name, stage in self.stages.items())
        return {name: stage for name, stage in each if stage is not None}

    @property
    def adaptation(self) -> Adaptation | None:
        own = (stage.adaptation for stage in self.stages.values())
        return next((how for how in own if how is not None), None)

    @property
    def reads_transfer_set(self) -> bool:
        return any(stage.reads_transfer_set for stage in self.stages.values())

    def ends_on_labels(self, length: object, on_labels: int) -> bool:
        each = self.trained.values()
        run = [stage for stage in each if stage.is_run(on_labels if stage.on_labels else length)]
        return len(run) > 1 and run[-1].on_labels and run[-2].trains_classifier

    def re_represents(self, finetune_recipe: str) -> bool:
        return any(stage.re_represents(finetune_recipe) for stage in self.stages.values())


@dataclass(frozen=True)
class IrfRecipe(Recipe):
    """``recipe=irf``: a pretrained student is transferred by re-represented images.

    Args:
        arms: settings of the paper's Table 4 to train in addition to ``irf`` and plain fine-tuning.
        steps: of every arm; two stages share them.
        lr: of stages that train everything.  batch_size: of all stages.
        upstream: folder of images the model was pretrained on, for the Frechet distance;
            auto: drawn glyphs where the generator is the shipped one, else none.
        num_frechet: images of each set that the distance compares, at most.
    """

    name: Literal["irf"]
    arms: list[IrfArm]
    steps: Count
    lr: Rate
    batch_size: BatchSize
    upstream: str | None
    num_frechet: Annotated[int, Range(2, 10**9)]

    def main_arm(self, method: str) -> str:
        return self.name

    def batch_sizes(
        self, train: TrainSettings, *, baseline: bool, stages: bool
    ) -> list[tuple[str, int]]:
        return [("recipe.batch_size", self.batch_size)]

    def shortened(self, steps: int) -> Self:
        return replace(self, steps=min(steps, self.steps))

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        few = replace(self, batch_size=batch_size, upstream=None, num_frechet=batch_size)
        return replace(few, steps=2)

    @property
    def other_arms(self) -> list[str]:
        return list(self.arms)

    @property
    def upstream_images(self) -> str | None:
        return self.upstream

    @property
    def most_compared(self) -> int:
        return self.num_frechet

    def trained_as(self, arm: str) -> str:
        return same_training(arm)

    def tests_on_reconstructions(self, arms: Sequence[str]) -> bool:
        return any(IRF_SETTINGS[arm].test_on == "reconstructions" for arm in arms)

    def re_represents(self, finetune_recipe: str) -> bool:
        return True


RecipeSettings = IrfRecipe | StagedRecipe
