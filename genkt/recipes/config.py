"""Typed settings of a transfer run; the YAML files in ``configs/`` hold the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from genkt.methods.base import MethodOptions
from genkt.methods.build import METHODS
from genkt.recipes.data_config import DataSettings, label_faults
from genkt.recipes.recipe_config import (
    BASELINE,
    Adaptation,
    FinetuneStage,
    IrfRecipe,
    RecipeSettings,
)
from genkt.recipes.set_config import LabelledSet, TransferSettings
from genkt.training.settings import TrainSettings
from genkt.types import Range, UserError

Count = Annotated[int, Range(1)]

IN_PYTHON = "images given in Python"
"""The folder of a run whose images were given as an object."""


@dataclass(frozen=True)
class StudentSettings:
    """``student``: what to train."""

    model: str
    pretrained: bool
    weights: str | None
    args: dict[str, Any]
    transform: dict[str, Any]
    channels_last: bool


@dataclass(frozen=True)
class TeacherSettings:
    """``teacher``: one model or several, and what is done with them."""

    model: str | list[str]
    pretrained: bool
    weights: str | list[str | None] | None
    args: dict[str, Any]
    transform: dict[str, Any]
    channels_last: bool
    adapt: Adaptation
    outputs: Literal["cached", "online"]


@dataclass(frozen=True)
class IrfOptions:
    """``irf``: what image re-representation fine-tuning needs, wherever it is asked for.

    Args:
        generator: re-represents the labelled images.
        head_lr: learning rate of the steps that train the head alone.
    """

    generator: str
    head_lr: Annotated[float, Range(0)]


@dataclass(frozen=True)
class FinetuneSettings:
    """``finetune``: the last stage; other settings as in ``train``."""

    steps: Annotated[int, Range(0)]
    lr: Annotated[float, Range(0)]
    recipe: Literal["fine_tune", "irf"]


@dataclass(frozen=True)
class AdaptSettings:
    """``adapt``: how a teacher is trained on the few labels (``teacher.adapt=fine_tune | irf``)."""

    steps: Annotated[int, Range(0)]
    lr: Annotated[float, Range(0)]
    batch_size: Count


@dataclass(frozen=True)
class TransferConfig:
    """Everything ``genkt transfer`` needs; see ``configs/transfer.yaml`` for each key."""

    data: DataSettings
    student: StudentSettings
    teacher: TeacherSettings
    method: MethodOptions
    transfer_set: TransferSettings
    recipe: RecipeSettings
    out: str
    seed: int
    draws: Count
    baseline: bool
    overwrite: bool
    dry_run: bool
    device: Literal["auto", "cpu", "cuda"]
    cache: str | None
    cache_dtype: Literal["float16", "float32"]
    train: TrainSettings
    finetune: FinetuneSettings
    adapt: AdaptSettings
    irf: IrfOptions

    def __post_init__(self) -> None:
        """Refuse settings that are right one by one, but not together.

        Raises:
            UserError: one line a fault.
        """
        faults = label_faults(self.data) + _batch_faults(self)
        if faults:
            raise UserError("\n".join(faults))

    @property
    def main_arm(self) -> str:
        """The arm whose student is exported: the method's name for ``recipe=distil``."""
        return self.method.name if self.recipe.name == "distil" else self.recipe.name

    @property
    def arms(self) -> list[str]:
        """All arms of the run: the baseline first, the one to export last."""
        others = self.recipe.arms if isinstance(self.recipe, IrfRecipe) else []
        first = [BASELINE] if self.baseline else []
        return list(dict.fromkeys([*first, *others, self.main_arm]))

    @property
    def methods(self) -> list[MethodOptions]:
        """The methods that teach: none where the run is plain fine-tuning or ``recipe=irf``."""
        if isinstance(self.recipe, IrfRecipe) or self.main_arm == BASELINE:
            return []
        return self.recipe.methods(self.method)

    @property
    def needs(self) -> frozenset[str]:
        """What the methods read of teachers."""
        return frozenset().union(*(METHODS[method.name].needs for method in self.methods))

    @property
    def adaptation(self) -> Adaptation:
        """What is done to the teachers on the few labels; never "auto"."""
        own = None if isinstance(self.recipe, IrfRecipe) else self.recipe.adaptation
        how = own or self.teacher.adapt
        if how != "auto":
            return how
        return "linear_probe" if "logits" in self.needs else "none"

    @property
    def reads_transfer_set(self) -> bool:
        """Whether some student is trained on transfer images."""
        if isinstance(self.recipe, IrfRecipe) or self.main_arm == BASELINE:
            return False
        return self.recipe.reads_transfer_set

    @property
    def read_set(self) -> TransferSettings:
        """The transfer set that a run opens: none where no stage can read it."""
        if isinstance(self.recipe, IrfRecipe) or not self.recipe.reads_transfer_set:
            return LabelledSet("labelled")
        return self.transfer_set

    @property
    def re_represents(self) -> bool:
        """Whether some stage trains on re-represented images."""
        if isinstance(self.recipe, IrfRecipe):
            return True
        stages = [s for s in self.recipe.stages.values() if isinstance(s, FinetuneStage)]
        tuned = [stage.how or self.finetune.recipe for stage in stages]
        return self.adaptation == "irf" or "irf" in tuned


def _batch_faults(config: TransferConfig) -> list[str]:
    train, faults = config.train, []
    if train.steps is None and not train.epochs:
        faults.append("train.steps: null counts in epochs: give train.epochs above 0 too")
    mixes = config.reads_transfer_set and not isinstance(config.transfer_set, LabelledSet)
    if mixes and train.labelled_per_batch >= train.batch_size:
        faults.append(
            f"train.labelled_per_batch: expected less than train.batch_size ({train.batch_size}), "
            f"got {train.labelled_per_batch}; the rest of a batch are transfer images"
        )
    for method in config.methods:
        if mixes and not train.labelled_per_batch and (why := method.needs_labels):
            faults.append(
                f"train.labelled_per_batch: {why} reads labelled rows of every batch, got 0 of them"
            )
    return faults
