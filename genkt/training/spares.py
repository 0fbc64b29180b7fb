"""Pictures that can no longer be read: another one in their place, or a blank one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genkt.data.images import LostImage
from genkt.data.views import ViewDataset, ViewSpec, stacked
from genkt.io import derive_seed
from genkt.training.probe import OutputRows
from genkt.types import UserError

_MOST_TRIED = 64
"""Images that are tried in place of a lost one: if none can be read, a disk is gone."""


def blanked(
    dataset: ViewDataset, keys: Sequence[tuple[int, int]]
) -> tuple[tuple[Tensor, ...], dict[int, LostImage]]:
    """The pictures of ``ViewDataset.batch``, blank where one can no longer be read.

    Returns:
        The pictures, and the error of each place among the keys that is blank.
    """
    try:
        return dataset.batch(keys), {}
    except LostImage:  # rare: one by one
        rows: list[tuple[Tensor, ...]] = []
        lost: dict[int, LostImage] = {}
    nothing = Image.new("RGB", (32, 32))
    blank = tuple(transform.to_uint8(nothing) for transform in dataset.transforms)
    for place, key in enumerate(keys):
        try:
            rows.append(dataset[key])
        except LostImage as error:
            rows.append(blank)
            lost[place] = error
    return tuple(map(stacked, zip(*rows, strict=True))), lost


def lost_samples(stores: Sequence[OutputRows], views: ViewSpec) -> dict[int, LostImage]:
    """The samples that some teacher could not see, with the errors of their images."""
    num_views = max(1, views.num_views)
    return {row // num_views: error for store in stores for row, error in store.lost.items()}


@dataclass(frozen=True)
class Spares:
    """Transfer images that take the places of those that can no longer be read.

    Which one it is depends only on the seed, the lost image and on what can be read. So it is the
    same at any batch size, in every process and after any interruption. It keeps its own id, label
    and stored outputs, and is shown under the view that was asked of the other one.

    Args:
        dataset: renders the pictures.
        labelled: samples that nothing can replace.
        groups: samples that can replace each other: the transfer images, or each part of them.
        seed: of the choice.
        lost: samples that a teacher could not see: they are replaced even if they can be read.
    """

    dataset: ViewDataset
    labelled: NDArray[np.int64]
    groups: tuple[NDArray[np.int64], ...]
    seed: int
    lost: Mapping[int, LostImage]

    def batch(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Tensor, ...]]:
        """The pictures of the keys or of their spares.

        Args:
            keys: [B, 2] (sample, view).

        Returns:
            The keys that are shown, and the pictures as from ``ViewDataset.batch``.

        Raises:
            LostImage: a labelled picture can no longer be read.
            UserError: nor can what might replace one.
        """
        if not self.lost or self.lost.keys().isdisjoint(keys[:, 0].tolist()):
            try:
                return keys, self.dataset.batch([(sample, view) for sample, view in keys.tolist()])
            except LostImage:  # rare: row by row
                pass
        rows = [self._row(sample, view) for sample, view in keys.tolist()]
        pictures = tuple(map(stacked, zip(*(row for _, row in rows), strict=True)))
        shown = np.stack([np.array([s for s, _ in rows], dtype=np.int64), keys[:, 1]], axis=1)
        return shown, pictures

    def error(self, sample: int) -> LostImage:
        """Why a sample is replaced."""
        if sample in self.lost:
            return self.lost[sample]
        images = self.dataset.images
        try:
            images.load(sample, self.dataset.spec.least_side)
        except LostImage as error:
            return error
        return LostImage(images.ids[sample].rpartition("#")[0], "could not be read for a moment")

    def _row(self, sample: int, view: int) -> tuple[int, tuple[Tensor, ...]]:
        """The sample that is shown, and its pictures."""
        first: LostImage | None = None
        for each in (sample, *self._others(sample)):
            try:
                if each in self.lost:
                    raise self.lost[each]
                return each, self.dataset[each, view]
            except LostImage as error:
                first = first or error
                if sample in self._kept:
                    raise
        raise UserError(f"{first}; nor can other transfer images be read in its place") from first

    def _others(self, sample: int) -> Iterator[int]:
        """What may replace a transfer image, in the order in which it is tried."""
        group = next((rows for rows in self.groups if sample in rows), np.empty(0, dtype=np.int64))
        group = group[~np.isin(group, self.labelled)]
        sample_id = self.dataset.images.ids[sample]
        for number in range(_MOST_TRIED if len(group) else 0):
            place = derive_seed(self.seed, sample_id, number, "spare") % len(group)
            yield int(group[place])

    @cached_property
    def _kept(self) -> frozenset[int]:
        return frozenset(self.labelled.tolist())
