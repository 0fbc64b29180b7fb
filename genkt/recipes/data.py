"""From the data and transfer-set settings to image sets and the rows of one label draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from genkt.data.folders import read_folder, read_unlabelled
from genkt.data.images import ImageSet, Skipped, concat, overlap
from genkt.data.sources import read_torchvision
from genkt.data.splits import Splits, draw_labels
from genkt.data.transfer_set import TransferSet, read_transfer_set
from genkt.data.views import ViewSpec
from genkt.io import derive_seed
from genkt.recipes.config import (
    DiggSet,
    EmbeddedData,
    FolderData,
    FolderSet,
    LabelledSet,
    SavedSet,
    TorchvisionData,
    TransferSettings,
    UnlabelledSet,
)
from genkt.types import UNLABELLED, UserError

DataSettings = EmbeddedData | FolderData | TorchvisionData


class PoolSettings(Protocol):
    """What decides which images a run needs (read-only)."""

    @property
    def data(self) -> DataSettings: ...
    @property
    def transfer_set(self) -> TransferSettings: ...
    @property
    def seed(self) -> int: ...
    @property
    def draws(self) -> int: ...


@dataclass(frozen=True)
class Draw:
    """One label draw: which rows of a set of images are labelled, which are transfer images.

    Args:
        images: what the rows are of; for the draws of a run that is the pool.
        labels: [N] int64 over the images, ``UNLABELLED`` where this draw hides or lacks them.
        labelled, transfer: row indices.
    """

    index: int
    seed: int
    images: ImageSet
    labels: np.ndarray
    labelled: np.ndarray
    transfer: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The images that some draw of a run needs, in one order: one teacher cache serves all draws.

    Args:
        images: training images, then the transfer images that came from elsewhere.
        draws: the run's label draws, rows of these images.
        splits: the data they come from.
        notes: what the user should know, e.g. test images that are also training images.
    """

    images: ImageSet
    draws: tuple[Draw, ...]
    splits: Splits
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every file left out of the data or the transfer images, once."""
        return tuple(dict.fromkeys([*self.splits.skipped, *self.images.skipped]))

    def with_sets(self, sets: Sequence[ImageSet]) -> Pool:
        """The pool with a set of transfer images more for each draw, their labels left behind."""
        own = [without_classes(images) for images in sets]
        images = concat(self.images, *own)
        starts = np.cumsum([len(self.images), *map(len, own)])
        draws = tuple(
            replace(
                draw,
                images=images,
                labels=np.pad(
                    draw.labels, (0, len(images) - len(draw.labels)), constant_values=UNLABELLED
                ),
                transfer=np.concatenate([draw.transfer, np.arange(start, stop)]),
            )
            for draw, (start, stop) in zip(self.draws, pairwise(starts.tolist()), strict=True)
        )
        return replace(self, images=images, draws=draws)


def without_classes(images: ImageSet) -> ImageSet:
    """The same samples without labels or class names, which fit beside any others."""
    labels = np.full(len(images), UNLABELLED)
    return ImageSet(images.ids, labels, (), images.items, images.open_item, images.skipped)


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


def stored_views(settings: PoolSettings) -> ViewSpec:
    """The views that are stored of every image of the pool: each is a pass of every teacher.

    Synthesized images come in numbers, and every one is a variation already, so such transfer
    sets bring a number of views of their own.
    """
    views = settings.data.views.spec(derive_seed(settings.seed, "views"))
    if isinstance(settings.transfer_set, (DiggSet, SavedSet)) and views.is_random:
        return replace(views, num_views=settings.transfer_set.num_views or views.num_views)
    return views


def build_pool(settings: PoolSettings, splits: Splits) -> Pool:
    """The run's label draws and their images, with the warnings a careful colleague would give.

    Raises:
        UserError: label settings that the data cannot meet, or nothing to transfer on.
    """
    extra = _elsewhere(settings.transfer_set, splits)
    train = splits.train
    images = train if extra is None else concat(train, extra.without_labels())
    chosen = [_choose(settings, splits, images, index) for index in range(settings.draws)]
    needed = np.unique(np.concatenate([rows for draw in chosen for rows in draw]))
    kept = images.select(needed)
    draws = []
    for index, (labelled, transfer) in enumerate(chosen):
        labels = np.full(len(kept), UNLABELLED, dtype=np.int64)
        rows = np.searchsorted(needed, labelled)
        labels[rows] = train.labels[labelled]
        others = np.searchsorted(needed, transfer)
        draws.append(Draw(index, _draw_seed(settings, index), kept, labels, rows, others))
    pool = Pool(kept, tuple(draws), splits)
    notes = _warnings(pool)
    if isinstance(settings.transfer_set, SavedSet):
        notes += _made_of_test_images(read_transfer_set(settings.transfer_set.root), splits)
    return replace(pool, notes=tuple(notes))


def _draw_seed(settings: PoolSettings, index: int) -> int:
    return derive_seed(settings.seed, "draw", index)


def _elsewhere(transfer_set: TransferSettings, splits: Splits) -> ImageSet | None:
    """Transfer images that are no training images."""
    if isinstance(transfer_set, FolderSet):
        roots = transfer_set.root
        return read_unlabelled([roots] if isinstance(roots, str) else roots)
    if isinstance(transfer_set, SavedSet):
        return without_classes(read_transfer_set(transfer_set.root).images)
    return splits.unlabelled if isinstance(transfer_set, UnlabelledSet) else None


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


def _made_of_test_images(saved: TransferSet, splits: Splits) -> list[str]:
    """A warning where a saved set was made from images that the run is tested on."""
    if splits.test is None:
        return []
    parents = {record.parent.rpartition("#")[2] for record in saved.records() if record.parent}
    tested = parents.intersection(each.rpartition("#")[2] for each in splits.test.ids)
    if not tested:
        return []
    return [
        f"The saved transfer set was made from {len(tested)} of the test images: accuracies say "
        "less about new images."
    ]


def _choose(
    settings: PoolSettings, splits: Splits, images: ImageSet, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """(labelled, transfer) rows of one draw among training images and those from elsewhere."""
    data, seed, transfer_set = settings.data, _draw_seed(settings, index), settings.transfer_set
    labelled, rest = draw_labels(
        splits.train,
        per_class=data.labels_per_class,
        fraction=data.label_fraction,
        list_file=data.label_list,
        seed=seed,
    )
    if isinstance(transfer_set, (LabelledSet, DiggSet)):  # a synthesized set is made in the run
        return labelled, np.empty(0, dtype=np.int64)
    elsewhere = np.arange(len(splits.train), len(images))
    if not isinstance(transfer_set, UnlabelledSet):
        return labelled, _capped(elsewhere, images, transfer_set.max_images, seed)
    available = np.concatenate([rest, elsewhere])
    if not len(available):
        raise UserError(
            "transfer_set=unlabelled: all training images are labelled and there are no "
            "unlabelled ones; give data.unlabelled=[FOLDER], transfer_set=folder, or "
            "transfer_set=labelled to distil on the labelled images alone"
        )
    return labelled, _capped(available, images, transfer_set.max_images, seed)


def _capped(indices: np.ndarray, images: ImageSet, most: int | None, seed: int) -> np.ndarray:
    """At most ``most`` of the rows, by a seeded priority of their ids."""
    if most is None or len(indices) <= most:
        return indices
    order = sorted(indices, key=lambda i: derive_seed(seed, images.ids[int(i)], "transfer"))
    return np.sort(np.array(order[:most], dtype=np.int64))
