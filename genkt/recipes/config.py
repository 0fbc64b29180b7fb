"""Typed settings of a transfer run; the YAML files in ``configs/`` hold the defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from genkt.data.views import ViewSpec
from genkt.methods.base import MethodOptions
from genkt.recipes.retrieval.settings import SearchSettings
from genkt.recipes.synthesis.settings import DiggSettings
from genkt.training.settings import TrainSettings
from genkt.types import Range, UserError

Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Pair = tuple[float, float]

BASELINE = "stl"
"""The arm of plain fine-tuning."""

IrfArm = Literal["linear_probe", "lp_ft", "rec_rec", "rec_rec_on_rec", "mixed", "mixed_mixed"]
"""See ``genkt.recipes.irf.SETTINGS``."""

IN_PYTHON = "images given in Python"
"""The folder of a run whose images were given as an object."""


@dataclass(frozen=True)
class ViewSettings:
    """``data.views``: the random views of a training image (see ``ViewSpec``)."""

    num_views: Annotated[int, Range(0)]
    crop_scale: Pair
    crop_ratio: Pair
    hflip: bool
    rotate_degrees: float
    translate: float
    scale: Pair

    def __post_init__(self) -> None:
        self.spec(0)  # refuses what cannot be drawn

    def spec(self, seed: int) -> ViewSpec:
        """The views this run stores, from its seed."""
        return ViewSpec(
            num_views=self.num_views,
            seed=seed,
            crop_scale=self.crop_scale,
            crop_ratio=self.crop_ratio,
            hflip=self.hflip,
            rotate_degrees=self.rotate_degrees,
            translate=self.translate,
            scale=self.scale,
        )


@dataclass(frozen=True)
class LabelSettings:
    """What every ``data`` group has: which labels are used, and the views."""

    labels_per_class: Count | None
    label_fraction: Share | None
    label_list: str | None
    views: ViewSettings


@dataclass(frozen=True)
class CarvedData(LabelSettings):
    """Data that may lack a part, and may hold files that cannot be read."""

    root: str
    validation_fraction: Share
    test_fraction: Share
    max_skipped: Annotated[float, Range(0)]


@dataclass(frozen=True)
class EmbeddedData(LabelSettings):
    """``data=digits`` and ``data=digits_on_photos``."""

    name: Literal["digits", "digits_on_photos"]


@dataclass(frozen=True)
class FolderData(CarvedData):
    """``data=folder``: the user's own images."""

    name: Literal["folder"]
    unlabelled: list[str]


@dataclass(frozen=True)
class TorchvisionData(CarvedData):
    """``data=torchvision``: a data set by name."""

    name: Literal["torchvision"]
    dataset: str
    download: bool


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
    adapt: Literal["auto", "none", "linear_probe", "fine_tune", "irf"]
    outputs: Literal["cached", "online"]


@dataclass(frozen=True)
class UnlabelledSet:
    """``transfer_set=unlabelled``: the data's own unlabelled images."""

    name: Literal["unlabelled"]
    max_images: Count | None


@dataclass(frozen=True)
class LabelledSet:
    """``transfer_set=labelled``: nothing beside the labelled images."""

    name: Literal["labelled"]


@dataclass(frozen=True)
class FolderSet:
    """``transfer_set=folder``: images of any places (see ``open_images``), labels not read."""

    name: Literal["folder"]
    root: str | list[str]
    max_images: Count | None


@dataclass(frozen=True)
class DiggSet(DiggSettings):
    """``transfer_set=digg``: images that each draw synthesizes from its own labelled ones.

    Args:
        generator: a folder, or ``genkt:NAME`` for a shipped one.
        sources: what is completed: a draw's ``labelled`` images, or ``all`` training and
            unlabelled images (their labels are never used).
        num_views: stored views of an image in the distillation; each is a teacher's pass. None:
            as ``data.views``.
        batch_size: completions drawn at once; changes the speed alone.
    """

    generator: str
    sources: Literal["labelled", "all"]
    num_views: Count | None
    batch_size: Count

    @property
    def synthesis(self) -> DiggSettings:
        """What ``genkt synthesize`` calls these settings, without those of a transfer."""
        return DiggSettings(**{f.name: getattr(self, f.name) for f in fields(DiggSettings)})


@dataclass(frozen=True)
class RetrievedSet(SearchSettings):
    """``transfer_set=retrieved``: images that each draw retrieves with its own labelled ones.

    Args:
        num_views: stored views of an image in the distillation; each is a teacher's pass. None:
            as ``data.views``.
    """

    name: Literal["retrieved"]
    num_views: Count | None


@dataclass(frozen=True)
class SavedSet:
    """``transfer_set=saved``: sets that genkt wrote, one or several; their labels are not read."""

    name: Literal["saved"]
    root: str | list[str]
    max_images: Count | None
    num_views: Count | None


@dataclass(frozen=True)
class MixSet:
    """``transfer_set=mix``: several kinds of images, each with a share of every batch or all alike.

    Args:
        parts: each a saved set or any other place of images (see ``open_images``), or
            ``labelled`` / ``unlabelled``: the draw's own images of the data.
        shares: weights above 0, one a part: what it has of the transfer rows of every batch.
            None: every image comes equally often.
        max_images: of each part, at most: one number for all, or one a part.
        num_views: stored views of an image. None: as ``data.views``.
    """

    name: Literal["mix"]
    parts: list[str]
    shares: list[float] | None
    max_images: list[Count | None] | Count | None
    num_views: Count | None

    def __post_init__(self) -> None:
        """Refuse lists that do not fit together.

        Raises:
            UserError: one line a fault.
        """
        faults = []
        if not self.parts or len(set(self.parts)) < len(self.parts):
            faults.append(f"parts: expected different places, at least one, got {self.parts}")
        for key in ("shares", "max_images"):
            given = getattr(self, key)
            if isinstance(given, list) and len(given) != len(self.parts):
                faults.append(f"{key}: expected {len(self.parts)} values, one a part, got {given}")
        if any(not (share > 0 and share < float("inf")) for share in self.shares or ()):
            faults.append(f"shares: expected numbers above 0, got {self.shares}")
        if faults:
            raise UserError("\n".join(f"transfer_set.{fault}" for fault in faults))

    @property
    def limits(self) -> list[int | None]:
        """``max_images`` of every part."""
        most = self.max_images
        return list(most) if isinstance(most, list) else [most] * len(self.parts)


TransferSettings = (
    UnlabelledSet | LabelledSet | FolderSet | SavedSet | MixSet | DiggSet | RetrievedSet
)


@dataclass(frozen=True)
class DistilRecipe:
    """``recipe=distil``: a teacher teaches the student, which is then fine-tuned."""

    name: Literal["distil"]


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
    lr: Annotated[float, Range(0)]
    batch_size: Count
    upstream: str | None
    num_frechet: Annotated[int, Range(2)]


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

    data: EmbeddedData | FolderData | TorchvisionData
    student: StudentSettings
    teacher: TeacherSettings
    method: MethodOptions
    transfer_set: TransferSettings
    recipe: DistilRecipe | IrfRecipe
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
        faults = _label_faults(self.data) + _batch_faults(self)
        if faults:
            raise UserError("\n".join(faults))

    @property
    def main_arm(self) -> str:
        """The arm whose student is exported."""
        return "irf" if isinstance(self.recipe, IrfRecipe) else self.method.name

    @property
    def arms(self) -> list[str]:
        """All arms of the run: the baseline first, the one to export last."""
        others = self.recipe.arms if isinstance(self.recipe, IrfRecipe) else []
        first = [BASELINE] if self.baseline else []
        return list(dict.fromkeys([*first, *others, self.main_arm]))

    @property
    def read_set(self) -> TransferSettings:
        """The transfer set that a stage reads: none where no teacher teaches."""
        if isinstance(self.recipe, IrfRecipe):
            return LabelledSet("labelled")
        return self.transfer_set

    @property
    def re_represents(self) -> bool:
        """Whether some stage trains on re-represented images."""
        if isinstance(self.recipe, IrfRecipe):
            return True
        return "irf" in (self.teacher.adapt, self.finetune.recipe)


def _label_faults(data: EmbeddedData | FolderData | TorchvisionData) -> list[str]:
    ways = ("labels_per_class", "label_fraction", "label_list")
    given = [way for way in ways if getattr(data, way) is not None]
    if len(given) < 2:
        return []
    shown = ", ".join(f"{way}={getattr(data, way)}" for way in given)
    return [f"data.{given[-1]}: expected one way to choose labels, got {shown}; set others to null"]


def _batch_faults(config: TransferConfig) -> list[str]:
    train, faults = config.train, []
    if train.steps is None and not train.epochs:
        faults.append("train.steps: null counts in epochs: give train.epochs above 0 too")
    mixes = not isinstance(config.transfer_set, LabelledSet)
    if mixes and config.method.name != "stl" and train.labelled_per_batch >= train.batch_size:
        faults.append(
            f"train.labelled_per_batch: expected less than train.batch_size ({train.batch_size}), "
            f"got {train.labelled_per_batch}; the rest of a batch are transfer images"
        )
    if mixes and not train.labelled_per_batch and (why := config.method.needs_labels):
        faults.append(
            f"train.labelled_per_batch: {why} reads labelled rows of every batch, got 0 of them"
        )
    return faults
