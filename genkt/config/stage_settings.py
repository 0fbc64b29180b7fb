"""Typed settings of the stages of a recipe: one entry each in the lists of ``configs/recipe``.

Settings that a stage does not give are those of the run: ``train`` for distillation, ``finetune``
for stages on labels, ``method``, ``teacher.adapt``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from genkt.methods.build import MethodChoice
from genkt.settings.bounds import BatchSize, Count, CountOrNone, Factor, Rate, Repeats, Width
from genkt.settings.faults import Fault, SettingsError
from genkt.training.train_settings import OptimizerName, TrainSettings
from genkt.types import Range

Adaptation = Literal["auto", "none", "linear_probe", "fine_tune", "better", "irf"]
"""What is done to a teacher on the few labels; "better": linear probe or fine-tuning, as
``validation`` chooses; "auto": a linear probe where a method needs logits."""


@dataclass(frozen=True, kw_only=True)
class AnyStage:
    """The interface of every stage."""

    @property
    def training(self) -> TrainingStage | None:
        """Itself, where it trains the student."""
        return None

    @property
    def distillation(self) -> DistilStage | None:
        """Itself, where teachers teach in it."""
        return None

    @property
    def adapts(self) -> bool:
        """Whether it adapts the teachers to the labels."""
        return False

    @property
    def adaptation(self) -> Adaptation | None:
        """How it adapts them, if it says so."""
        return None

    @property
    def reads_transfer_set(self) -> bool:
        """Whether it trains on transfer images."""
        return False

    @property
    def mixes_in_labels(self) -> bool:
        """Whether labelled images share its batches with transfer images, where there are such."""
        return False

    def re_represents(self, finetune_recipe: str) -> bool:
        """Whether it trains on re-represented images.

        Args:
            finetune_recipe: of the run, for a stage that says nothing else.
        """
        return False

    def shortened(self, steps: int) -> Self:
        """The same with at most so many steps."""
        return self

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        """The same on a handful of images.

        Args:
            num_labelled: labelled rows of a batch, at most.
        """
        return self


@dataclass(frozen=True, kw_only=True)
class AdaptStage(AnyStage):
    """``do: adapt``: the teachers are adapted to the labels.

    Args:
        how: None: as ``teacher.adapt``.
    """

    do: Literal["adapt"]
    how: Adaptation | None = None

    @property
    def adapts(self) -> bool:
        return True

    @property
    def adaptation(self) -> Adaptation | None:
        return self.how


@dataclass(frozen=True, kw_only=True)
class TrainingStage(AnyStage):
    """What every stage that trains the student may say; None: as the run's settings."""

    steps: CountOrNone | None = None
    epochs: Rate | None = None
    batch_size: BatchSize | None = None
    lr: Rate | None = None
    optimizer: OptimizerName | None = None
    weight_decay: Rate | None = None

    def __post_init__(self) -> None:
        """Refuse two lengths. Raises: UserError."""
        if self.steps is not None and self.epochs is not None:
            text = f"expected one of them, got {self.steps} and {self.epochs:g}"
            raise SettingsError([Fault("steps", text, "together", also=("epochs",))])

    @property
    def training(self) -> TrainingStage:
        return self

    @property
    def moves_batch_norm(self) -> bool:
        """Whether batch norm learns in it, which needs several rows."""
        return True

    @property
    def on_labels(self) -> bool:
        """Whether labelled images are all that it trains on."""
        return False

    @property
    def trains_classifier(self) -> bool:
        """Whether the student's answers have meaning after it."""
        return True

    def is_run(self, length: object) -> bool:
        """Whether it trains at all.

        Args:
            length: steps or epochs where it names none.
        """
        own = self.epochs if self.steps is None else self.steps
        return bool(length if own is None else own)

    def shortened(self, steps: int) -> Self:
        if self.steps is None and not self.epochs:
            return self
        fewer = steps if self.steps is None else min(steps, self.steps)
        return replace(self, steps=fewer, epochs=None)

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        return replace(self, batch_size=None if self.batch_size is None else batch_size)

    def labelled_key(self, name: str) -> str:
        """The group of settings that says how many rows of a batch are labelled."""
        return "train"

    def batch_key(self, name: str) -> str:
        """The group of settings that says how many rows a step has."""
        return "train" if self.batch_size is None else f"recipe.stages.{name}"

    def settings(self, base: TrainSettings) -> TrainSettings:
        """``base`` with what the stage says; epochs take the place of steps."""
        names = ("steps", "epochs", "batch_size", "lr", "optimizer", "weight_decay")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.epochs is not None and self.steps is None:
            changes["steps"] = None
        return replace(base, **changes)


@dataclass(frozen=True, kw_only=True)
class DistilStage(TrainingStage):
    """``do: distil``: teachers teach the student.

    Args:
        method: None: the run's.
        images: ``all``, or the ``labelled`` ones alone.
        teachers: all at once; ``in_turn``: one after the other, the student of one is the frozen
            student of the next; or which ones, counted from 0.
        labelled_per_batch: labelled rows of a step.
    """

    do: Literal["distil"]
    method: MethodChoice | None = None
    images: Literal["all", "labelled"] = "all"
    teachers: Literal["all", "in_turn"] | list[Annotated[int, Range(0, 1000)]] = "all"
    labelled_per_batch: Annotated[int, Range(0, 2**20)] | None = None

    @property
    def distillation(self) -> DistilStage:
        return self

    @property
    def reads_transfer_set(self) -> bool:
        return self.images == "all"

    @property
    def mixes_in_labels(self) -> bool:
        return self.images == "all"

    @property
    def one_by_one(self) -> bool:
        """Whether students learn from one teacher at a time."""
        return self.teachers == "in_turn"

    def labelled_key(self, name: str) -> str:
        return "train" if self.labelled_per_batch is None else f"recipe.stages.{name}"

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        small = super().in_small(batch_size, num_labelled)
        if self.labelled_per_batch is None:
            return small
        return replace(small, labelled_per_batch=min(num_labelled, self.labelled_per_batch))

    def settings(self, base: TrainSettings) -> TrainSettings:
        """``base`` with what the stage says."""
        found = super().settings(base)
        if self.labelled_per_batch is None:
            return found
        return replace(found, labelled_per_batch=self.labelled_per_batch)


@dataclass(frozen=True, kw_only=True)
class SoupStage(DistilStage):
    """``do: soup``: a copy of the student learns from each teacher; their weights are averaged."""

    do: Literal["soup"]  # type: ignore[assignment]

    @property
    def one_by_one(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class FinetuneStage(TrainingStage):
    """``do: finetune``: everything learns from the labels.

    Args:
        how: None: as ``finetune.recipe``.
    """

    do: Literal["finetune"]
    how: Literal["fine_tune", "irf"] | None = None

    @property
    def on_labels(self) -> bool:
        return True

    def re_represents(self, finetune_recipe: str) -> bool:
        return (self.how or finetune_recipe) == "irf"


@dataclass(frozen=True, kw_only=True)
class LinearProbeStage(TrainingStage):
    """``do: linear_probe``: the classifier alone learns from the labels."""

    do: Literal["linear_probe"]

    @property
    def on_labels(self) -> bool:
        return True

    @property
    def moves_batch_norm(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class PseudoLabelStage(TrainingStage):
    """``do: pseudo_label``: the student's confident answers on transfer images become labels.

    Args:
        rounds: how often the answers are renewed; ``steps`` and ``epochs`` are those of one round.
        threshold: least probability of an answer that counts.
        restart: every round trains the student as it was before the stage; else the rounds go on
            from one another.
    """

    do: Literal["pseudo_label"]
    rounds: Repeats
    threshold: Annotated[float, Range(0, 1)]
    restart: bool

    @property
    def reads_transfer_set(self) -> bool:
        return True

    @property
    def mixes_in_labels(self) -> bool:
        return True

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        return replace(super().in_small(batch_size, num_labelled), rounds=1)


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedStage(TrainingStage):
    """``do: self_supervised``: the student's backbone learns from images without any label.

    Other settings of the views are those of ``data.views``. ``batch_size`` counts views.

    Args:
        objective: simclr.
        temperature: of the similarities.
        projection: width of the vectors that are compared.
        crop_scale: lowest and highest share of the picture's area that a view keeps; None: as
            ``data.views``.
        color_jitter: strength of random brightness, contrast, saturation and hue; 0: none.
    """

    do: Literal["self_supervised"]
    objective: Literal["simclr"]
    temperature: Annotated[float, Range(0.01, 1000)]
    projection: Width
    crop_scale: tuple[Factor, Factor] | None
    color_jitter: Annotated[float, Range(0, 1)]

    @property
    def reads_transfer_set(self) -> bool:
        return True

    @property
    def trains_classifier(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class PretrainStage(TrainingStage):
    """``do: pretrain``: the student's backbone learns the classes of another labelled set.

    Args:
        source: ``glyphs`` (drawn, built in), a folder with one folder a class, or any other place
            of labelled images.
        num_images: of the source, at most.
    """

    do: Literal["pretrain"]
    source: str
    num_images: Count

    @property
    def trains_classifier(self) -> bool:
        return False

    def in_small(self, batch_size: int, num_labelled: int) -> Self:
        small = super().in_small(batch_size, num_labelled)
        return replace(small, source="glyphs", num_images=4 * batch_size)


StageSettings = (
    AdaptStage
    | DistilStage
    | SoupStage
    | FinetuneStage
    | LinearProbeStage
    | PseudoLabelStage
    | SelfSupervisedStage
    | PretrainStage
)
