"""Typed settings of the data: where images and labels come from, and their random views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from genkt.data.groups import group_pattern
from genkt.data.packages.package_parts import TestPart
from genkt.data.views import ViewSpec
from genkt.settings.bounds import Count, CountOrNone, Factor, NotNegative, Share
from genkt.settings.faults import Fault, SettingsError
from genkt.settings.objects import GivenObject, name_in, object_in
from genkt.types import UserError

if TYPE_CHECKING:
    from genkt.data.splits import Splits

Pair = tuple[Factor, Factor]

HeldOut = Literal["test", "validation"]
"""The parts of the data that nothing is trained on."""


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
    least_side: CountOrNone = 0

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
            least_side=self.least_side,
        )


@dataclass(frozen=True)
class LabelSettings(ABC):
    """What every ``data`` group has: which labels are used, and the views."""

    labels_per_class: Count | None
    label_fraction: Share | None
    label_list: str | None
    views: ViewSettings

    @abstractmethod
    def read(self, seed: int) -> Splits:
        """The data, with missing parts split off; pictures may still be in two parts.

        Raises:
            UserError: no data, a wrong layout, too many unreadable files.
        """

    @property
    @abstractmethod
    def title(self) -> str:
        """What a report calls the data."""

    @property
    def built_in(self) -> bool:
        """Whether genkt draws them itself, in memory."""
        return False

    @property
    def in_python(self) -> bool:
        """Whether an object was given in their place."""
        return False

    @property
    def most_skipped(self) -> int | float:
        """How many files that cannot be used may be left out: a number, or a share (float)."""
        return 0

    @property
    def given(self) -> Any:
        """That object, or None."""
        return None

    def own_part(self, part: HeldOut) -> str:
        """How a user gives an existing part."""
        return {"test": "a test folder", "validation": "a val folder"}[part]

    @property
    def test_was_refused(self) -> bool:
        """Whether a test part was requested, though data with a validation part get none."""
        return False

    @property
    def splits_off_validation(self) -> bool:
        """Whether a missing validation part is taken from the training images."""
        return False


class Carving(TypedDict):
    """How parts that are missing are made, and how many files may be left out."""

    test_fraction: float
    validation_fraction: float
    seed: int
    max_skipped: int | float


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

    @property
    def title(self) -> str:
        return "images given in Python" if self.in_python else Path(self.place).resolve().name

    @property
    def place(self) -> str:
        """Where the images are.

        Raises:
            UserError: they were given as an object.
        """
        return name_in(self.root)

    @property
    def in_python(self) -> bool:
        return isinstance(self.root, GivenObject)

    @property
    def given(self) -> Any:
        return object_in(self.root)

    @property
    def test_was_refused(self) -> bool:
        return bool(self.test_fraction or not self.validation_fraction)

    @property
    def splits_off_validation(self) -> bool:
        return self.validation_fraction > 0

    def carving(self, seed: int) -> Carving:
        """What every reader of such data takes; files left out are a share of all, or a count."""
        return {
            "test_fraction": self.test_fraction,
            "validation_fraction": self.validation_fraction,
            "seed": seed,
            "max_skipped": self.most_skipped,
        }

    @property
    def most_skipped(self) -> int | float:
        return self.max_skipped if self.max_skipped < 1 else int(self.max_skipped)


@dataclass(frozen=True)
class EmbeddedData(LabelSettings):
    """``data=digits`` and ``data=digits_on_photos``."""

    name: Literal["digits", "digits_on_photos"]

    def read(self, seed: int) -> Splits:
        from genkt.data.builtin.digits import digits, digits_on_photos

        return digits() if self.name == "digits" else digits_on_photos()

    @property
    def title(self) -> str:
        return self.name

    @property
    def built_in(self) -> bool:
        return True


@dataclass(frozen=True)
class PackagedData(LabelSettings):
    """Pictures out of a package of a public registry.

    Args:
        root: where the package lies; None: where ``Package.find`` looks.
        num_unlabelled: pictures without a label.
        part: what the test images are; nothing reads the confirmation part but on request.
    """

    root: str | None
    num_unlabelled: Count
    part: TestPart


@dataclass(frozen=True)
class StampsData(PackagedData):
    """``data=stamps``: things on photographs.

    Args:
        size: side of the pictures, in pixels.
    """

    name: Literal["stamps"]
    size: Literal[64, 96]

    def read(self, seed: int) -> Splits:
        from genkt.data.packages.stamps import stamps

        return stamps(self.root, size=self.size, num_unlabelled=self.num_unlabelled, part=self.part)

    @property
    def title(self) -> str:
        return self.name


@dataclass(frozen=True)
class FashionData(PackagedData):
    """``data=fashion_mnist``: grey pictures of clothes."""

    name: Literal["fashion_mnist"]

    def read(self, seed: int) -> Splits:
        from genkt.data.packages.fashion_mnist import fashion_mnist

        return fashion_mnist(self.root, num_unlabelled=self.num_unlabelled, part=self.part)

    @property
    def title(self) -> str:
        return self.name


@dataclass(frozen=True)
class FolderData(CarvedData):
    """``data=folder``: the user's own images."""

    name: Literal["folder"]
    unlabelled: list[str]
    group: str | None

    def __post_init__(self) -> None:
        if self.group is not None:
            try:
                group_pattern(self.group)
            except UserError as error:
                text = str(error).removeprefix(f"{error.key}: ")
                raise SettingsError([Fault("group", text)]) from error

    def read(self, seed: int) -> Splits:
        from genkt.readers.folders import read_folder

        return read_folder(
            self.place, unlabelled=self.unlabelled, group=self.group, in_full="labelled",
            **self.carving(seed),
        )  # fmt: skip


@dataclass(frozen=True)
class TorchvisionData(CarvedData):
    """``data=torchvision``: a data set by name."""

    name: Literal["torchvision"]
    dataset: str
    download: bool

    def read(self, seed: int) -> Splits:
        from genkt.readers.torchvision_sets import read_torchvision

        carving = self.carving(seed)
        return read_torchvision(self.dataset, self.place, download=self.download, **carving)

    @property
    def title(self) -> str:
        return self.dataset

    def own_part(self, part: HeldOut) -> str:
        return f"a data set with a {part} part"


@dataclass(frozen=True)
class SplitListData(CarvedData):
    """``data=split_list``: files that say which images train, validate and test."""

    name: Literal["split_list"]
    train: str
    validation: str | None
    test: str | None
    unlabelled: list[str]
    group: str | None

    def read(self, seed: int) -> Splits:
        from genkt.readers.split_list import read_split_list

        return read_split_list(
            self.place,
            self.train,
            validation=self.validation,
            test=self.test,
            unlabelled=self.unlabelled,
            group=self.group,
            in_full="labelled",
            **self.carving(seed),
        )

    def own_part(self, part: HeldOut) -> str:
        return f"data.{part}=LIST"


DataSettings = (
    EmbeddedData | FashionData | FolderData | SplitListData | StampsData | TorchvisionData
)


def label_faults(data: DataSettings) -> list[Fault]:
    """One where several ways to choose labels are given."""
    ways = ("labels_per_class", "label_fraction", "label_list")
    given = [way for way in ways if getattr(data, way) is not None]
    if len(given) < 2:
        return []
    shown = ", ".join(f"{way}={getattr(data, way)}" for way in given)
    text = f"expected one way to choose labels, got {shown}; set others to null"
    return [Fault(given[-1], text, "together").below("data")]
