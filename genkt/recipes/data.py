"""From the data and transfer-set settings to image sets and the rows of one label draw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from genkt.data.folders import read_folder, read_unlabelled
from genkt.data.images import ImageSet, Skipped, concat, overlap
from genkt.data.sources import read_torchvision
from genkt.data.splits import Splits, draw_labels
from genkt.io import derive_seed
from genkt.recipes.config import (
    EmbeddedData,
    FolderData,
    FolderSet,
    LabelledSet,
    TorchvisionData,
    TransferConfig,
    UnlabelledSet,
)
from genkt.types import UNLABELLED, UserError

TransferSettings = UnlabelledSet | LabelledSet | FolderSet
DataSettings = EmbeddedData | FolderData | TorchvisionData


@dataclass(frozen=True)
class Pool:
    """All training images of a run in one fixed order, so that one teacher cache serves all draws.

    Args:
        images: the training images, then the transfer images that came from elsewhere.
        num_train: how many of them are training images (their labels may be drawn).
        splits: the data they come from.
        notes: what the user should know, e.g. test images that are also training images.
    """

    images: ImageSet
    num_train: int
    splits: Splits
    notes: tuple[str, ...]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every file left out of the data or the transfer images, once."""
        return tuple(dict.fromkeys([*self.splits.skipped, *self.images.skipped]))


@dataclass(frozen=True)
class Draw:
    """One label draw: which rows of the pool are labelled, and which are transfer images.

    Args:
        labels: [N] int64 over the pool, ``UNLABELLED`` where this draw hides or lacks them.
        labelled, transfer: row indices.
    """

    index: int
    seed: int
    labels: np.ndarray
    labelled: np.ndarray
    transfer: np.ndarray


def load_splits(data: DataSettings, seed: int) -> Splits:
    """Read the data the settings name.

    Raises:
        UserError: nothing there, a wrong shape, too many unreadable files.
    """
    if isinstance(data, EmbeddedData):
        from genkt.data.embedded import digits, digits_on_photos

        return digits() if data.name == "digits" else digits_on_photos()
    if isinstance(data, TorchvisionData):
        return read_torchvision(
            data.dataset,
            data.root,
            download=data.download,
            test_fraction=data.test_fraction,
            validation_fraction=data.validation_fraction,
            seed=seed,
            max_skipped=_limit(data.max_skipped),
        )
    limit = _limit(data.max_skipped)
    splits = read_folder(
        data.root,
        test_fraction=data.test_fraction,
        validation_fraction=data.validation_fraction,
        seed=seed,
        max_skipped=limit,
    )
    if data.unlabelled:
        extra = read_unlabelled(data.unlabelled, max_skipped=limit)
        known = splits.unlabelled
        splits = replace(splits, unlabelled=extra if known is None else concat(known, extra))
    return splits


def _limit(max_skipped: float) -> int | float:
    """A share below 1, else a count."""
    return max_skipped if max_skipped < 1 else int(max_skipped)


def build_pool(transfer_set: TransferSettings, splits: Splits) -> Pool:
    """The run's images in one order, with the warnings a careful colleague would give."""
    extra: ImageSet | None = None
    if isinstance(transfer_set, FolderSet):
        roots = transfer_set.root
        extra = read_unlabelled([roots] if isinstance(roots, str) else roots)
    elif isinstance(transfer_set, UnlabelledSet):
        extra = splits.unlabelled
    images = splits.train if extra is None else concat(splits.train, extra.without_labels())
    pool = Pool(images, len(splits.train), splits, ())
    return replace(pool, notes=tuple(_warnings(pool)))


def _warnings(pool: Pool) -> list[str]:
    notes, splits, images = [], pool.splits, pool.images
    if splits.test is not None and (same := overlap(images, splits.test)):
        notes.append(
            f"{len(same)} test images are also training or transfer images "
            f"(e.g. {same[0][1]}): accuracies are too high by as much."
        )
    if skipped := pool.skipped:
        first = f"{skipped[0].path}: {skipped[0].reason}"
        notes.append(f"{len(skipped)} files were left out (first: {first}); the report lists them.")
    return notes


def draw_of(config: TransferConfig, pool: Pool, index: int) -> Draw:
    """The label draw number ``index``: its seed is derived from the run's."""
    data, seed = config.data, derive_seed(config.seed, "draw", index)
    labelled, rest = draw_labels(
        pool.splits.train,
        per_class=data.labels_per_class,
        fraction=data.label_fraction,
        list_file=data.label_list,
        seed=seed,
    )
    labels = np.full(len(pool.images), UNLABELLED, dtype=np.int64)
    labels[labelled] = pool.splits.train.labels[labelled]
    elsewhere = np.arange(pool.num_train, len(pool.images))
    if isinstance(config.transfer_set, LabelledSet):
        transfer = np.empty(0, dtype=np.int64)
    elif isinstance(config.transfer_set, FolderSet):
        transfer = _capped(elsewhere, pool.images, config.transfer_set.max_images, seed)
    else:
        available = np.concatenate([rest, elsewhere])
        transfer = _capped(available, pool.images, config.transfer_set.max_images, seed)
        if not len(transfer):
            raise UserError(
                "transfer_set=unlabelled: all training images are labelled and there are no "
                "unlabelled ones; give data.unlabelled=[FOLDER], transfer_set=folder, or "
                "transfer_set=labelled to distil on the labelled images alone"
            )
    return Draw(index, seed, labels, labelled.astype(np.int64), transfer)


def _capped(indices: np.ndarray, images: ImageSet, most: int | None, seed: int) -> np.ndarray:
    """At most ``most`` of the rows, by a seeded priority of their ids."""
    if most is None or len(indices) <= most:
        return indices
    order = sorted(indices, key=lambda i: derive_seed(seed, images.ids[int(i)], "transfer"))
    return np.sort(np.array(order[:most], dtype=np.int64))
