"""``data=fashion_mnist``: 70,000 photographs of clothes, grey, 28 pixels, ten classes."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np

from genkt.data.images import ImageSet, from_arrays
from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.packages.package_parts import TestPart, confirmed
from genkt.data.separation import separated
from genkt.data.splits import Splits
from genkt.io import derive_seed
from genkt.types import UserError

PER_CLASS = {"train": 100, "validation": 100}
"""Pictures of every class that are drawn from the official training part."""

NUM_UNLABELLED = 58_000
"""The others of that part."""

_SEED = 20261130


def fashion_mnist(
    root: str | Path | None = None, *, num_unlabelled: int = 2000, part: TestPart = "test"
) -> Splits:
    """Fashion-MNIST with few labelled pictures, and a half of its test part kept for later.

    Of the official training part, a fixed draw has 100 of each class for validation and 100 for
    labels; the others are the unlabelled pool. Of the official test part, a fixed half of each
    class is the test, the other half the confirmation part.

    Args:
        root: where the package lies, see ``Package.find``.
        num_unlabelled: how many of the pool; the first of a larger number are the same.
        part: what the test images are: ``test``, or ``confirmation``, which is for one last look.

    Raises:
        UserError: the package is nowhere or its files are others; more than the pool has.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017; torchvision reads it.
    """
    folder = DATA_PACKAGES["fashion_mnist"].find(root)
    official, held_out = _read(folder)
    pool, taken = _shuffled(official), 0
    drawn = {}
    for name, count in PER_CLASS.items():
        rows = np.concatenate([own[taken : taken + count] for own in pool])
        drawn[name], taken = official.select(np.sort(rows)), taken + count
    others = _in_order(official, np.concatenate([own[taken:] for own in pool]))
    if num_unlabelled > len(others):
        raise UserError.of("data.num_unlabelled", f"at most {len(others):,}", num_unlabelled)
    halves = np.concatenate(
        [own[: len(own) // 2] if part == "test" else own[len(own) // 2 :]
         for own in _shuffled(held_out)]
    )  # fmt: skip
    splits = Splits(
        train=drawn["train"],
        validation=drawn["validation"],
        test=held_out.select(np.sort(halves)),
        unlabelled=official.select(others[:num_unlabelled]).without_labels(),
    )
    return confirmed(separated(splits), part)


def _read(folder: Path) -> list[ImageSet]:
    """The official parts, train and test, by torchvision, which wants its files unpacked."""
    from torchvision.datasets import FashionMNIST

    with tempfile.TemporaryDirectory(prefix="genkt-") as home:
        raw = Path(home, "FashionMNIST", "raw")
        raw.mkdir(parents=True)
        for packed in folder.glob("*-ubyte.gz"):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        parts = {name: FashionMNIST(home, train=name == "train") for name in ("train", "test")}
    return [
        from_arrays(each.data.numpy(), each.targets.numpy(), each.classes, f"fashion_mnist/{name}")
        for name, each in parts.items()
    ]


def _shuffled(images: ImageSet) -> list[np.ndarray]:
    """The rows of each class, in an order that depends on the ids alone."""
    return [
        _in_order(images, np.flatnonzero(images.labels == label))
        for label in range(len(images.classes))
    ]


def _in_order(images: ImageSet, rows: np.ndarray) -> np.ndarray:
    order = sorted(rows.tolist(), key=lambda row: derive_seed(_SEED, images.ids[row]))
    return np.array(order, dtype=np.int64)
