"""Typed settings of a transfer run; the YAML files in ``configs/`` hold the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.config.data_settings import DataSettings, label_faults
from genkt.config.irf_settings import BASELINE
from genkt.config.model_settings import StudentSettings, TeacherSettings
from genkt.config.pilot_settings import PilotSettings, PlainSettings
from genkt.config.recipe_settings import RecipeSettings
from genkt.config.set_settings import LabelledSet, TransferSettings
from genkt.config.stage_settings import Adaptation, DistilStage, TrainingStage
from genkt.config.task_settings import TaskSettings
from genkt.execution.tasks import ExecutorSettings
from genkt.methods.base import MethodOptions
from genkt.methods.build import METHODS, MethodChoice, beta_candidates
from genkt.settings.bounds import BatchSize, CountOrNone, Positive, Rate, Repeats, Seed
from genkt.settings.faults import Fault, refuse
from genkt.training.train_settings import TrainSettings
from genkt.types import Range

Validation = Literal["images", "cross", "none"]
"""What choices are made on: validation images, folds of the labelled images, or nothing."""

KEEP = "finetune.keep=better"

NO_LABEL_LOSS = ("l2_feature", "contrastive", "cosine_patch")
"""Methods whose loss never reads labels."""

NumFolds = Literal["auto"] | Annotated[int, Range(2, 1000)]
"""Parts that the labelled images are divided into; auto: see ``genkt.data.folds.num_folds``."""


@dataclass(frozen=True)
class IrfOptions:
    """``irf``: what image re-representation fine-tuning needs, wherever it is asked for.

    Args:
        generator: re-represents the labelled images.
        head_lr: learning rate of the steps that train the head alone.
    """

    generator: str
    head_lr: Rate


@dataclass(frozen=True)
class FinetuneSettings:
    """``finetune``: the last stage; other settings as in ``train``.

    Args:
        keep: the student after the last stage on labels, always or unless it is worse than before
            it ("better", see ``genkt.stages.keep``); "never": the stage is left out.
    """

    steps: CountOrNone
    lr: Rate
    recipe: Literal["fine_tune", "irf"]
    keep: Literal["better", "always", "never"]


@dataclass(frozen=True)
class AdaptSettings:
    """``adapt``: how a teacher is trained on the few labels (``teacher.adapt=fine_tune | irf``)."""

    steps: CountOrNone
    lr: Rate
    batch_size: BatchSize


@dataclass(frozen=True)
class TransferConfig:
    """Everything ``genkt transfer`` needs; see ``configs/transfer.yaml`` for each key."""

    data: DataSettings
    student: StudentSettings
    teacher: TeacherSettings
    method: MethodChoice
    transfer_set: TransferSettings
    recipe: RecipeSettings
    out: str
    plan: str
    seed: Seed
    draws: Repeats | Literal["auto"]
    first_draw: CountOrNone
    seeds_per_draw: Repeats
    task: TaskSettings
    validation: Validation
    folds: NumFolds
    cross_validate: bool
    baseline: bool
    baseline_search: bool
    overwrite: bool
    dry_run: bool
    smoke: bool
    device: Literal["auto", "cpu", "cuda"]
    executor: ExecutorSettings
    cache: str | None
    cache_dtype: Literal["float16", "float32"]
    minutes: Positive | None
    train: TrainSettings
    plain: PlainSettings
    finetune: FinetuneSettings
    adapt: AdaptSettings
    irf: IrfOptions
    pilot: PilotSettings

    def __post_init__(self) -> None:
        """Refuse settings that are right one by one, but not together.

        Raises:
            UserError: one line per fault.
        """
        faults = label_faults(self.data) + _stage_faults(self) + _choice_faults(self)
        if self.executor.name == "ray":
            text = "expected auto | pool | inline for a transfer, got ray"
            faults.append(Fault("executor", text, "together"))
        refuse(faults)

    @property
    def num_students(self) -> int:
        """Students of every arm."""
        return self.num_draws * self.seeds_per_draw

    @property
    def num_draws(self) -> int:
        """Label draws of a run that trains."""
        assert self.draws != "auto", "a pilot decides them before any training"
        return self.draws

    @property
    def plain_rate(self) -> float | Literal["auto"]:
        """The baseline's learning rate."""
        return self.train.lr if self.plain.lr is None else self.plain.lr

    @property
    def undecided(self) -> tuple[str, ...]:
        """Settings that a pilot decides before the run; (): all of them are numbers."""
        is_open = {
            "train.steps": self.train.steps == "auto" or self.minutes is not None,
            "train.lr": self.train.lr == "auto",
            "plain.lr": self.plain.lr == "auto",
            "draws": self.draws == "auto",
        }
        return tuple(key for key, wanted in is_open.items() if wanted)

    @property
    def main_arm(self) -> str:
        """The arm whose student is exported: the method's name for ``recipe=distil``."""
        return self.recipe.main_arm(self.method.name)

    @property
    def arms(self) -> list[str]:
        """All arms of the run: the baseline first, the one to export last."""
        first = [BASELINE] if self.baseline else []
        return list(dict.fromkeys([*first, *self.recipe.other_arms, self.main_arm]))

    @property
    def is_plain(self) -> bool:
        """Whether plain fine-tuning is the method, so that no stage of the recipe is run."""
        return self.main_arm == BASELINE

    @property
    def distil_stages(self) -> dict[str, DistilStage]:
        """Where a method teaches: nowhere in plain fine-tuning and ``recipe=irf``."""
        return {} if self.is_plain else self.recipe.distils

    @property
    def methods(self) -> list[MethodOptions]:
        """The methods that teach, stage by stage."""
        return [stage.method or self.method for stage in self.distil_stages.values()]

    @property
    def num_searched(self) -> int:
        """Values of beta that are searched, over all stages."""
        return sum(len(beta_candidates(method)) for method in self.methods)

    @property
    def searches_beta(self) -> bool:
        """Whether some method's beta is to be chosen."""
        return any(map(beta_candidates, self.methods))

    @property
    def head_untaught(self) -> bool:
        """Whether no loss of a one-stage distillation reads labels or predictions."""
        if len(self.methods) != 1 or "logits" in self.needs:
            return False
        in_set = self.transfer_set.mixes_in_labelled or not self.transfer_set.has_images
        reads_labels = in_set or self.train.labelled_per_batch
        return self.methods[0].name in NO_LABEL_LOSS or not reads_labels

    @property
    def ends_on_labels(self) -> bool:
        """Whether there is a last stage on labels that can be taken back."""
        if self.head_untaught:  # nothing else teaches it to answer
            return False
        train = self.train
        length = train.epochs if train.steps is None else train.steps
        return self.recipe.ends_on_labels(length or self.minutes, self.finetune.steps)

    @property
    def keeps_better(self) -> bool:
        """Whether a last stage on labels is taken back where it did harm."""
        return self.finetune.keep == "better" and self.ends_on_labels

    @property
    def chooses(self) -> dict[str, bool]:
        """Settings that ask for a choice between trainings -> whether it is asked for."""
        return {
            "method.beta=search": self.searches_beta,
            "teacher.adapt=better": bool(self.needs) and self.adaptation == "better",
            "cross_validate=true": self.cross_validate,
            KEEP: self.keeps_better,
        }

    @property
    def needs(self) -> frozenset[str]:
        """What the methods read of teachers."""
        return frozenset().union(*(METHODS[method.name].needs for method in self.methods))

    @property
    def adaptation(self) -> Adaptation:
        """What is done to the teachers on the few labels; never "auto"."""
        how = self.recipe.adaptation or self.teacher.adapt
        if how != "auto":
            return how
        return "linear_probe" if "logits" in self.needs else "none"

    @property
    def adapts_by_training(self) -> bool:
        """Whether teachers are trained on the labels, and so differ from draw to draw."""
        return self.adaptation in ("fine_tune", "better", "irf")

    @property
    def reads_transfer_set(self) -> bool:
        """Whether some student is trained on transfer images."""
        return not self.is_plain and self.recipe.reads_transfer_set

    @property
    def read_set(self) -> TransferSettings:
        """The transfer set that a run opens: none where no stage can read it."""
        return self.transfer_set if self.recipe.reads_transfer_set else LabelledSet("labelled")

    @property
    def re_represents(self) -> bool:
        """Whether some stage trains on re-represented images."""
        return self.adaptation == "irf" or self.recipe.re_represents(self.finetune.recipe)

    @property
    def batch_sizes(self) -> list[tuple[str, int]]:
        """The rows of a step of every training of a student that batch norm learns in."""
        return self.recipe.batch_sizes(
            self.train, baseline=BASELINE in self.arms, stages=not self.is_plain
        )

    @property
    def weights_files(self) -> list[str | None]:
        """The files of weights that are named: the student's, then the teachers'."""
        return [self.student.weights, *self.teacher.weights_files]

    @property
    def generators(self) -> list[str]:
        """The generators of a run, each once."""
        names = [self.irf.generator] if self.re_represents else []
        names += self.transfer_set.generators if self.reads_transfer_set else []
        return list(dict.fromkeys(names))


def _choice_faults(config: TransferConfig) -> list[Fault]:
    """Choices that there is nothing to make on."""
    faults, how = [], config.validation
    if config.train.select == "best" and how != "images":
        text = (
            f"best is chosen on validation images, which validation={how} does not read; expected "
            "last (steps can be chosen by a study's tuning), or validation=images"
        )
        faults.append(Fault("train.select", text, "together"))
    asked = [setting for setting, is_asked in config.chooses.items() if is_asked]
    asked = [setting for setting in asked if setting != KEEP]  # the run goes on without it
    if how == "none" and asked:
        text = f"none makes no choice, but {' and '.join(asked)} asks for one; give images or cross"
        faults.append(Fault("validation", text, "together"))
    if config.cross_validate and how == "images":
        text = "expected false, or validation=cross; the folds are those of its choices"
        faults.append(Fault("cross_validate", text, "together"))
    return faults


def _stage_faults(config: TransferConfig) -> list[Fault]:
    """What does not fit in the stages."""
    faults = []
    steps, epochs = config.train.steps, config.train.epochs
    if steps is None and not epochs:
        text = "null counts in epochs: give train.epochs above 0 too"
        faults.append(Fault("train.steps", text, "together"))
    if steps is not None and epochs is not None:
        text = (
            f"expected one of them, got {steps} and {epochs:g}; "
            "train.steps=null counts in epochs, train.epochs=null in steps"
        )
        faults.append(Fault("train.steps", text, "together", also=("train.epochs",)))
    for name, stage in config.recipe.trained.items() if not config.is_plain else ():
        faults += _row_faults(config, name, stage)
    for name, stage in config.distil_stages.items():
        faults += _distil_faults(config, name, stage)
    return faults


def _row_faults(config: TransferConfig, name: str, stage: TrainingStage) -> list[Fault]:
    """One where labelled rows leave no room for transfer images in a stage that mixes both."""
    settings = stage.settings(config.train)
    count, size = settings.labelled_per_batch, settings.batch_size
    mixes = _mixes(config, stage)
    if not stage.mixes_in_labels or count < size or (count == size and not mixes):
        return []
    room = "less than" if mixes else "at most"
    text = (
        f"expected {room} {stage.batch_key(name)}.batch_size ({size}), got {count}; the rest of a "
        "batch are transfer images"
    )
    return [Fault(f"{stage.labelled_key(name)}.labelled_per_batch", text, "together")]


def _mixes(config: TransferConfig, stage: TrainingStage) -> bool:
    """Whether labelled and transfer images share the batches of a stage."""
    return stage.mixes_in_labels and config.transfer_set.has_images


def _distil_faults(config: TransferConfig, name: str, stage: DistilStage) -> list[Fault]:
    """What does not fit in one stage in which a method teaches."""
    method, settings, faults = stage.method or config.method, stage.settings(config.train), []
    unlabelled = _mixes(config, stage) and not settings.labelled_per_batch
    if unlabelled and (why := method.needs_labels):
        text = f"{why} reads labelled rows of every batch, got 0 of them"
        key = f"{stage.labelled_key(name)}.labelled_per_batch"
        faults.append(Fault(key, text, "together"))
    if method.weight_rule is not None and config.train.ema is not None:
        text = (
            f"method {method.name} averages the weights by its own rule; expected null, "
            f"got {config.train.ema:g}"
        )
        faults.append(Fault("train.ema", text, "together"))
    if stage.one_by_one and not METHODS[method.name].needs:
        text = (
            f"method {method.name} reads no teacher, so there is none to learn from one by one; "
            "take another method, or do=distil with teachers=all"
        )
        faults.append(Fault(f"recipe.stages.{name}", text, "together"))
    return faults
