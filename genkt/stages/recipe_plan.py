"""What the recipe of a run trains: the arms, and the steps of each student."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.config.irf_settings import BASELINE, IRF_SETTINGS
from genkt.config.recipe_settings import IrfRecipe, StagedRecipe
from genkt.config.transfer_settings import TransferConfig
from genkt.methods.build import beta_candidates
from genkt.runs.pool import Draw
from genkt.stages.arms import IrfSettingArm, PlainArm, StagedArm, StudentArm
from genkt.stages.build_stages import StageBuilder
from genkt.stages.distil import Distillation, distil_steps
from genkt.stages.keep import Keeper, judged_on
from genkt.types import counted


@dataclass(frozen=True)
class RecipePlan(ABC):
    """A recipe, built once for a run.

    Args:
        config: of the run.
        arms: by name, the one to export last.
    """

    config: TransferConfig
    arms: Mapping[str, StudentArm]

    @abstractmethod
    def num_steps(self, draw: Draw) -> int:
        """Steps of one student."""

    @abstractmethod
    def num_images(self, draw: Draw) -> int:
        """Images that one student sees."""

    @abstractmethod
    def lengths(self, draw: Draw) -> dict[str, int]:
        """Steps of every training whose weights may be averaged, by the name for messages."""

    def epochs(self, draw: Draw, num_samples: int) -> NDArray[np.int64]:
        """[num_samples] in how many epochs a student of the method shows each one to teachers."""
        return np.zeros(num_samples, dtype=np.int64)

    @abstractmethod
    def notes(self, draw: Draw, *, has_teachers: bool, compared: bool) -> list[str]:
        """The report's text about the recipe.

        Args:
            draw: the first one.
            compared: the distance from upstream images was measured.
        """

    @property
    def taught(self) -> Distillation | None:
        """The stage that a pilot may try: teachers teach a fresh student; None: there is none."""
        return None

    @property
    def baseline(self) -> PlainArm | None:
        """Plain fine-tuning, where it is an arm."""
        return None

    def searched_steps(self, draw: Draw) -> int:
        """Steps that a search for beta takes on a draw."""
        return 0

    def baseline_searched_steps(self, draw: Draw) -> int:
        """Steps that the search for the baseline's learning rate takes on a draw."""
        return 0

    def report_names(self) -> dict[str, Any]:
        """Names of the arms and the subject in the report; {}: the usual ones."""
        return {}


@dataclass(frozen=True)
class StagedPlan(RecipePlan):
    """A list of stages, and plain fine-tuning as the baseline."""

    staged: StagedArm
    plain: PlainArm
    first: Distillation | None

    @classmethod
    def of(cls, config: TransferConfig, recipe: StagedRecipe, builder: StageBuilder) -> StagedPlan:
        """Build from the settings; ``method=stl`` only has plain fine-tuning."""
        stages = tuple(builder.build(name, stage) for name, stage in recipe.stages.items())
        keeper = Keeper(judged_on(config, builder.splits))
        skips_last = config.finetune.keep == "never" and config.ends_on_labels
        staged = StagedArm(config.main_arm, stages, keeper, skips_last)
        number = config.num_searched if config.baseline_search else 0
        settings = replace(config.train, lr=config.plain_rate)
        plain = PlainArm(BASELINE, settings, staged, keeper, number)
        arms = {name: plain if name == BASELINE else staged for name in config.arms}
        return cls(config, arms, staged, plain, builder.taught())

    @property
    def taught(self) -> Distillation | None:
        return self.first

    @property
    def baseline(self) -> PlainArm | None:
        return self.plain if BASELINE in self.arms else None

    def num_steps(self, draw: Draw) -> int:
        return self.plain.num_steps(draw)

    def num_images(self, draw: Draw) -> int:
        return self.num_steps(draw) * self.config.train.batch_size

    def searched_steps(self, draw: Draw) -> int:
        return len(beta_candidates(self.config.method)) * distil_steps(draw, self.config.train)

    def baseline_searched_steps(self, draw: Draw) -> int:
        return self.plain.num_candidates * self.num_steps(draw) if BASELINE in self.arms else 0

    def lengths(self, draw: Draw) -> dict[str, int]:
        found: dict[str, int] = {}
        if not self.config.is_plain:
            for stage in self.staged.stages:
                found |= stage.lengths(draw)
        if BASELINE in self.arms:
            found["plain fine-tuning"] = self.num_steps(draw)
        return {name: steps for name, steps in found.items() if steps}

    def epochs(self, draw: Draw, num_samples: int) -> NDArray[np.int64]:
        found = super().epochs(draw, num_samples)
        for stage in () if self.config.is_plain else self.staged.stages:
            found = np.maximum(found, stage.epochs(draw, num_samples))
        return found

    def notes(self, draw: Draw, *, has_teachers: bool, compared: bool) -> list[str]:
        """Text on the images per step of each distillation and of the baseline."""
        config, notes = self.config, []
        for name, stage in config.distil_stages.items():
            settings = stage.settings(config.train)
            if stage.images == "all" and len(draw.transfer):
                count = settings.labelled_per_batch
                notes.append(
                    f"A step of {name} sees {count} labelled and "
                    f"{counted(settings.batch_size - count, 'transfer image')}."
                )
        if config.baseline and not config.is_plain:
            passes = " The teachers' own passes are extra (see Cost)." if has_teachers else ""
            images = counted(config.train.batch_size, "labelled image")
            notes.append(
                f"The baseline takes steps of {images}, "
                "with fresh random views, until it has seen as many as all stages "
                f"together.{passes}"
            )
        return notes


@dataclass(frozen=True)
class IrfPlan(RecipePlan):
    """The rows of Table 4 of the IRF paper, all of the same length."""

    recipe: IrfRecipe

    @classmethod
    def of(cls, config: TransferConfig, recipe: IrfRecipe, builder: StageBuilder) -> IrfPlan:
        """As the settings say."""
        settings = replace(
            config.train, steps=recipe.steps, lr=recipe.lr, batch_size=recipe.batch_size
        )
        arms = {
            name: IrfSettingArm(name, IRF_SETTINGS[name], settings, config.irf.head_lr)
            for name in config.arms
        }
        return cls(config, arms, recipe)

    def num_steps(self, draw: Draw) -> int:
        return self.recipe.steps

    def num_images(self, draw: Draw) -> int:
        return self.recipe.steps * self.recipe.batch_size

    def lengths(self, draw: Draw) -> dict[str, int]:
        return dict.fromkeys(self.arms, self.recipe.steps)

    def notes(self, draw: Draw, *, has_teachers: bool, compared: bool) -> list[str]:
        notes = [
            f"Every arm takes {counted(self.recipe.steps, 'step')} of "
            f"{counted(self.recipe.batch_size, 'image')}; "
            "two stages share them: the head alone (LP), then everything (FT). Letters are the "
            "rows of Table 4 in One to Transfer All; rec: trained on re-represented images."
        ]
        if any(arm.tested_on_reconstructions for arm in self.arms.values()):
            notes.append(
                "The students of (d) are those of (c), tested on re-represented test images."
            )
        if not compared:
            notes.append(
                "No upstream images were given (recipe.upstream), so there is no Frechet distance."
            )
        return notes

    def report_names(self) -> dict[str, Any]:
        names = {arm: setting.name for arm, setting in IRF_SETTINGS.items()}
        return {"arm_names": names, "subject": "Model transferred by IRF"}


_PLANS: Mapping[type, Callable[[TransferConfig, Any, StageBuilder], RecipePlan]] = {
    StagedRecipe: StagedPlan.of,
    IrfRecipe: IrfPlan.of,
}


def plan_of(builder: StageBuilder) -> RecipePlan:
    """What the recipe of a run trains."""
    config = builder.config
    return _PLANS[type(config.recipe)](config, config.recipe, builder)
