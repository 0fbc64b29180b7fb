"""torchvision data sets by name, and any map-style data set of (picture, class number)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet, Skipped, UnreadableImage, content_hash, decode
from genkt.data.looks import look_of
from genkt.data.separation import finished
from genkt.data.splits import Splits
from genkt.io import did_you_mean, home_path
from genkt.readers.scan import check_skipped, map_in_threads
from genkt.types import UNLABELLED, UserError


class PictureDataset(Protocol):
    """N pairs (picture, class number or -1), as torchvision's data sets without a transform."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class _Recipe:
    """The torchvision class and its arguments for each part it offers.

    ``generated`` pictures need no folder, and come from the process-wide random generator: one
    thread only.
    """

    class_name: str
    parts: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...] = ()
    generated: bool = False


@dataclass(frozen=True)
class _DatasetOpener:
    dataset: PictureDataset = field(repr=False)
    decoding: ClassVar[int] = 1  # the id is of the pixels

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        try:
            picture: Image.Image = self.dataset[item][0]
            return picture
        except OSError as error:  # the file behind it is gone or damaged
            raise UnreadableImage(" ".join(str(error).split())) from error


def _by_flag(class_name: str) -> _Recipe:
    return _Recipe(class_name, {"train": {"train": True}, "test": {"train": False}})


def _by_split(class_name: str, classes: tuple[str, ...] = (), **parts: str) -> _Recipe:
    return _Recipe(class_name, {part: {"split": name} for part, name in parts.items()}, classes)


_FAKE = {"size": 200, "image_size": (3, 32, 32), "num_classes": 10}
_DIGITS = tuple("0123456789")

_RECIPES: dict[str, _Recipe] = {
    "aircraft": _by_split("FGVCAircraft", train="train", validation="val", test="test"),
    "cifar10": _by_flag("CIFAR10"),
    "cifar100": _by_flag("CIFAR100"),
    "dtd": _by_split("DTD", train="train", validation="val", test="test"),
    "eurosat": _Recipe("EuroSAT", {"train": {}}),
    "fake": _Recipe(
        "FakeData",
        {"train": {**_FAKE, "random_offset": 0}, "test": {**_FAKE, "random_offset": 200}},
        classes=_DIGITS,
        generated=True,
    ),
    "fashion_mnist": _by_flag("FashionMNIST"),
    "flowers102": _by_split("Flowers102", train="train", validation="val", test="test"),
    "food101": _by_split("Food101", train="train", test="test"),
    "mnist": _by_flag("MNIST"),
    "oxford_pets": _by_split("OxfordIIITPet", train="trainval", test="test"),
    "places365": _Recipe(
        "Places365",
        {
            "train": {"split": "train-standard", "small": True},
            "test": {"split": "val", "small": True},
        },
    ),
    "stl10": _by_split("STL10", train="train", test="test", unlabelled="unlabeled"),
    "svhn": _by_split("SVHN", _DIGITS, train="train", test="test"),
}

TORCHVISION_NAMES = tuple(_RECIPES)
"""The names that ``read_torchvision`` knows."""


def read_torchvision(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = False,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> Splits:
    """Read a torchvision data set with its official parts; missing parts are split off train.

    >>> read_torchvision("fake").train
    ImageSet(200 images, 10 classes, 200 labelled)

    Args:
        name: one of ``TORCHVISION_NAMES``.
        root: the folder torchvision keeps it in; "fake" needs none.
        download: let torchvision download what is missing.
        test_fraction, validation_fraction, seed, max_skipped, num_threads, progress: as for
            ``read_folder``.

    Raises:
        UserError: an unknown name, no root, data that are missing or cannot be downloaded, more
            unusable images than allowed.
    """
    parts = {
        part: read_torchvision_part(
            name, root, part, download=download, max_skipped=max_skipped,
            num_threads=num_threads, progress=progress,
        )
        for part in _recipe(name).parts
    }  # fmt: skip
    return finished(
        Splits(**parts, notes=()),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def read_torchvision_part(
    name: str,
    root: str | Path | None,
    part: str = "train",
    *,
    download: bool = False,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """One official part of a torchvision data set, unchanged.

    Args:
        part: train, validation, test or unlabelled, where the data set has it.
        name, root, download, max_skipped, num_threads, progress: as for ``read_torchvision``.

    Raises:
        UserError: as ``read_torchvision``, or a part that the data set does not have.
    """
    recipe = _recipe(name)
    if root is None and not recipe.generated:
        raise UserError(f"{name}: expected root, the folder that torchvision keeps the data in")
    if part not in recipe.parts:
        raise UserError(
            f"{name}: has no part '{part}'.{did_you_mean(part, recipe.parts)} "
            f"It has: {', '.join(recipe.parts)}"
        )
    dataset = _build(name, recipe, root, download, recipe.parts[part])
    return from_dataset(
        dataset,
        recipe.classes or tuple(dataset.classes),
        f"{name}/{part}",
        labelled=part != "unlabelled",
        max_skipped=max_skipped,
        num_threads=1 if recipe.generated else num_threads,
        progress=progress,
    )


def _recipe(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise UserError(
            f"'{name}' is not a torchvision data set known here.{did_you_mean(name, _RECIPES)} "
            f"Known: {', '.join(_RECIPES)}"
        )
    return _RECIPES[name]


def _build(
    name: str,
    recipe: _Recipe,
    root: str | Path | None,
    download: bool,
    arguments: Mapping[str, Any],
) -> Any:
    import torchvision

    build = getattr(torchvision.datasets, recipe.class_name)
    if root is None or recipe.generated:
        return build(**arguments)
    folder = home_path(root)
    try:
        return build(str(folder), download=download, **arguments)
    except (RuntimeError, OSError, EOFError) as error:
        if not download:
            raise UserError(
                f"{name}: not found in {folder}, or not complete, and download is off: "
                "put it there or set download=true"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: could not be fetched into {folder}: {reason}") from error


def from_dataset(
    dataset: PictureDataset,
    classes: Sequence[str],
    prefix: str,
    *,
    labelled: bool = True,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """An ImageSet over any map-style data set; every picture is decoded and hashed once.

    Args:
        dataset: yields (PIL picture, class number); called from several threads.
        classes: C names.
        prefix: of the ids, which are ``prefix/index#content-hash``.
        labelled: False to leave the class numbers out.
        max_skipped, num_threads, progress: as for ``read_folder``.

    Raises:
        UserError: no pictures, class numbers outside the classes, too many unusable pictures.
    """
    results = map_in_threads(
        partial(_examine, dataset),
        range(len(dataset)),
        description=f"reading {prefix}",
        num_threads=num_threads,
        progress=progress,
    )
    ids, labels, items, skipped, looks = [], [], [], [], []
    for index, (digest, label, reason, look) in enumerate(results):
        if reason:
            skipped.append(Skipped(f"{prefix}/{index}", reason))
        else:
            ids.append(f"{prefix}/{index}#{digest}")
            labels.append(label if labelled else UNLABELLED)
            items.append(index)
            looks.append(look)
    check_skipped(skipped, len(dataset), max_skipped, prefix)
    if not ids:
        raise UserError(f"{prefix}: no usable pictures")
    opener = _DatasetOpener(dataset)
    return ImageSet(ids, labels, classes, np.asarray(items), opener, skipped, looks=looks)


def _examine(dataset: PictureDataset, index: int) -> tuple[str, int, str, int]:
    """(content hash, label, "", look) or ("", -1, reason, 0); of the pixels, whatever the file."""
    try:
        picture, label = dataset[index]
        image = decode(picture)
    except (OSError, UnreadableImage) as error:
        return "", UNLABELLED, " ".join(str(error).split()), 0
    digest = content_hash(str(image.size).encode() + image.tobytes())
    return digest, int(label), "", look_of(image)
