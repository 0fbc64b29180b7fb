"""Typed settings of a transfer run; the YAML files in ``configs/`` hold the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from genkt.data.views import ViewSpec
from genkt.methods.base import MethodOptions
from genkt.training.settings import TrainSettings
from genkt.types import Range, UserError

Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Pair = tuple[float, float]

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
    adapt: Literal["auto", "none", "linear_probe", "fine_tune"]
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
    """``transfer_set=folder``: images of any folders."""

    name: Literal["folder"]
    root: str | list[str]
    max_images: Count | None


@dataclass(frozen=True)
class StageLength:
    """The settings in which a short stage differs from ``train``."""

    steps: Annotated[int, Range(0)]
    lr: Annotated[float, Range(0)]


@dataclass(frozen=True)
class AdaptSettings:
    """``adapt``: how a teacher is fine-tuned on the few labels (``teacher.adapt=fine_tune``)."""

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
    transfer_set: UnlabelledSet | LabelledSet | FolderSet
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
    finetune: StageLength
    adapt: AdaptSettings

    def __post_init__(self) -> None:
        """Refuse settings that are right one by one, but not together.

        Raises:
            UserError: one line a fault.
        """
        faults = _label_faults(self.data) + _batch_faults(self)
        if faults:
            raise UserError("\n".join(faults))


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
    return faults
