"""Typed settings of recipes: lists of stages in YAML, ``configs/recipe``.

Whatever a stage does not say is as the run says: ``train`` for distillation, ``finetune`` for
stages on labels, ``method``, ``teacher.adapt``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from genkt.methods.build import MethodChoice
from genkt.settings.bounds import BatchSize, Count, CountOrNone, Factor, Rate, Repeats, Width
from genkt.settings.faults import Fault, SettingsError, refuse
from genkt.training.train_settings import OptimizerName, TrainSettings
from genkt.types import Range

BASELINE = "stl"
"""The arm of plain fine-tuning."""

Adaptation = Literal["auto", "none", "linear_probe", "fine_tune", "better", "irf"]
"""What is done to a teacher on the few labels; "better": linear probe or fine-tuning, whichever
has the higher validation accuracy; "auto": a linear probe where a method needs logits."""

IrfArm = Literal["linear_probe", "lp_ft", "rec_rec", "rec_rec_on_rec", "mixed", "mixed_mixed"]
"""See ``genkt.stages.irf.SETTINGS``."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_TAKEN_BY_RUN = re.compile(
    r"teachers|search|synthesize|retrieve|re-represent|adapt-teacher\d+(-deliver|-calibrate)?"
)
"""What stands beside the stages in a student's costs, folder and log."""
_TAKEN_IN_DRAW = re.compile(r"cache|teacher\d+")
"""What stands beside the students in the folder of a draw."""


@dataclass(frozen=True, kw_only=True)
class AdaptStage:
    """``do: adapt``: the teachers meet the labels.

    Args:
        how: None: as ``teacher.adapt``.
    """

    do: Literal["adapt"]
    how: Adaptation | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
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


@dataclass(frozen=True, kw_only=True)
class FinetuneStage(TrainingStage):
    """``do: finetune``: everything learns from the labels.

    Args:
        how: None: as ``finetune.recipe``.
    """

    do: Literal["finetune"]
    how: Literal["fine_tune", "irf"] | None = None


@dataclass(frozen=True, kw_only=True)
class LinearProbeStage(TrainingStage):
    """``do: linear_probe``: the classifier alone learns from the labels."""

    do: Literal["linear_probe"]


@dataclass(frozen=True, kw_only=True)
class PseudoLabelStage(TrainingStage):
    """``do: pseudo_label``: the student's own sure answers on transfer images become labels.

    Args:
        rounds: how often they are answered anew; ``steps`` and ``epochs`` are those of one round.
        threshold: least probability of an answer that counts.
        restart: every round trains the student as it was before the stage; else the rounds go on
            from one another.
    """

    do: Literal["pseudo_label"]
    rounds: Repeats
    threshold: Annotated[float, Range(0, 1)]
    restart: bool


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


@dataclass(frozen=True)
class StagedRecipe:
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
            UserError: one line a fault.
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
                f'"{name}": the run itself has something of that name (teachers, search, '
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
        adapted = [name for name, stage in self.stages.items() if isinstance(stage, AdaptStage)]
        if len(adapted) > 1:
            text = f"expected at most one that adapts, got {', '.join(adapted)}"
            faults.append(Fault("stages", text))
        if self.name == BASELINE:
            text = f"{BASELINE} is the baseline's; give the recipe another name"
            faults.append(Fault("name", text))
        refuse(faults)

    @property
    def trained(self) -> dict[str, TrainingStage]:
        """The stages that train the student."""
        return {
            name: stage for name, stage in self.stages.items() if isinstance(stage, TrainingStage)
        }

    @property
    def adaptation(self) -> Adaptation | None:
        """How its own stage adapts the teachers; None: as ``teacher.adapt``."""
        own = [stage.how for stage in self.stages.values() if isinstance(stage, AdaptStage)]
        return own[0] if own else None

    @property
    def distils(self) -> dict[str, DistilStage]:
        """The stages in which teachers teach."""
        return {
            name: stage for name, stage in self.stages.items() if isinstance(stage, DistilStage)
        }

    @property
    def reads_transfer_set(self) -> bool:
        """Whether a stage trains on transfer images."""
        kinds = (PseudoLabelStage, SelfSupervisedStage)
        return any(
            isinstance(stage, kinds) or (isinstance(stage, DistilStage) and stage.images == "all")
            for stage in self.stages.values()
        )

    def shortened(self, steps: int) -> StagedRecipe:
        """The same with at most so many steps a stage."""

        def short(stage: StageSettings) -> StageSettings:
            if not isinstance(stage, TrainingStage) or (stage.steps is None and not stage.epochs):
                return stage
            fewer = steps if stage.steps is None else min(steps, stage.steps)
            return replace(stage, steps=fewer, epochs=None)

        return replace(self, stages={name: short(stage) for name, stage in self.stages.items()})


@dataclass(frozen=True)
class IrfRecipe:
    """``recipe=irf``: a pretrained student is transferred by re-represented images.

    Args:
        arms: settings of the paper's Table 4 to train beside ``irf`` and plain fine-tuning.
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


RecipeSettings = IrfRecipe | StagedRecipe
