"""Typed settings of the data: where images and labels come from, and their random views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genkt.data.views import ViewSpec
from genkt.settings.bounds import Count, CountOrNone, Factor, NotNegative, Share
from genkt.settings.faults import Fault
from genkt.settings.objects import GivenObject, name_in

Pair = tuple[Factor, Factor]


@dataclass(frozen=True)
class ViewSettings:
    """``data.views``: the random views of a training image (see ``ViewSpec``)."""

    num_views: CountOrNone
    crop_scale: Pair
    crop_ratio: Pair
    hflip: bool
    rotate_degrees: Factor
    translate: Factor
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
    """Data that may lack a part, and may hold files that cannot be read.

    Args:
        root: where the images are; or ``Splits`` or an ``ImageSet``.
    """

    root: str | GivenObject
    validation_fraction: Share
    test_fraction: Share
    max_skipped: NotNegative


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
class SplitListData(CarvedData):
    """``data=split_list``: files that say which images train, validate and test."""

    name: Literal["split_list"]
    train: str
    validation: str | None
    test: str | None
    unlabelled: list[str]


DataSettings = EmbeddedData | FolderData | SplitListData | TorchvisionData


def title_of(data: DataSettings) -> str:
    """What reports call the data."""
    if isinstance(data, TorchvisionData):
        return data.dataset
    if isinstance(data, EmbeddedData):
        return data.name
    given = isinstance(data.root, GivenObject)
    return "images given in Python" if given else Path(name_in(data.root)).resolve().name


def label_faults(data: DataSettings) -> list[Fault]:
    """One where several ways to choose labels are given."""
    ways = ("labels_per_class", "label_fraction", "label_list")
    given = [way for way in ways if getattr(data, way) is not None]
    if len(given) < 2:
        return []
    shown = ", ".join(f"{way}={getattr(data, way)}" for way in given)
    text = f"expected one way to choose labels, got {shown}; set others to null"
    return [Fault(given[-1], text, "together").below("data")]
