"""Which rows a step sees, as a pure function of (seed, step), and the loader that fetches them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from genkt.data.cache import OutputStore
from genkt.data.images import ImageSet
from genkt.data.views import ViewDataset, view_index_for
from genkt.io import derive_seed
from genkt.types import Batch, UserError


@dataclass(frozen=True)
class Stream:
    """An endless shuffled walk over some rows of a set: epoch after epoch, each row once.

    Position p of the stream depends on (seed, p) alone, so a resumed run, another batch size of
    micro-batches or another number of workers reads the same rows.
    """

    indices: np.ndarray
    seed: int
    _orders: dict[int, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def take(self, start: int, count: int) -> np.ndarray:
        """Rows [count, 2] (sample index, epoch) at positions start .. start + count."""
        positions = np.arange(start, start + count)
        epochs, offsets = np.divmod(positions, len(self.indices))
        rows = np.empty((count, 2), dtype=np.int64)
        rows[:, 1] = epochs
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here, 0] = self._order(int(epoch))[offsets[here]]
        return rows

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            for old in [known for known in self._orders if known < epoch - 1]:
                del self._orders[old]
            generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "order", epoch)))
            self._orders[epoch] = self.indices[generator.permutation(len(self.indices))]
        return self._orders[epoch]


@dataclass(frozen=True)
class BatchPlan:
    """The rows of every step: so many labelled ones, the rest from the transfer images.

    Args:
        labelled, transfer: sample indices into one image set; either may be empty, not both.
        batch_size: rows a step.
        labelled_per_batch: labelled rows a step where both kinds are there.
        seed: of both shuffles.
    """

    labelled: np.ndarray
    transfer: np.ndarray
    batch_size: int
    labelled_per_batch: int
    seed: int

    def __post_init__(self) -> None:
        if not len(self.labelled) and not len(self.transfer):
            raise UserError("nothing to train on: no labelled and no transfer images")
        if len(self.labelled) and len(self.transfer):
            if not 0 <= self.labelled_per_batch <= self.batch_size:
                raise UserError(
                    f"train.labelled_per_batch: expected 0 .. batch_size ({self.batch_size}), "
                    f"got {self.labelled_per_batch}"
                )

    @property
    def counts(self) -> tuple[int, int]:
        """(labelled, transfer) rows a step."""
        if not len(self.transfer):
            return self.batch_size, 0
        if not len(self.labelled):
            return 0, self.batch_size
        return self.labelled_per_batch, self.batch_size - self.labelled_per_batch

    def rows(self, step: int) -> np.ndarray:
        """[batch_size, 2] (sample index, epoch), both kinds spread evenly along the batch.

        Even spreading gives every process and micro-batch its share of labelled rows.
        """
        num_labelled, num_transfer = self.counts
        parts, places = [], []
        for count, indices, name in (
            (num_labelled, self.labelled, "labelled"),
            (num_transfer, self.transfer, "transfer"),
        ):
            if count:
                parts.append(self._stream(indices, name).take(step * count, count))
                places.append((np.arange(count) + 0.5) / count)
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(parts)[order]

    def _stream(self, indices: np.ndarray, name: str) -> Stream:
        streams: dict[str, Stream] = self.__dict__.setdefault("_streams", {})
        if name not in streams:
            streams[name] = Stream(indices, derive_seed(self.seed, name))
        return streams[name]


class Batches:
    """Loads the rows of a plan: views, labels, ids and cached teacher outputs.

    Args:
        dataset: renders views for the student first, then for each online teacher.
        labels: [N] int64; ``UNLABELLED`` hides a label from the task loss.
        plan: which rows a step sees.
        stores: one cache a cached teacher, over the same samples and views.
        rank, world_size: this process reads its contiguous share of every batch.
    """

    def __init__(
        self,
        dataset: ViewDataset,
        labels: np.ndarray,
        plan: BatchPlan,
        stores: Sequence[OutputStore] = (),
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        if plan.batch_size % world_size:
            raise UserError(
                f"train.batch_size: expected a multiple of the {world_size} processes, "
                f"got {plan.batch_size}"
            )
        self.dataset, self.labels, self.plan, self.stores = dataset, labels, plan, tuple(stores)
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers

    def iterate(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of steps start .. stop, in order."""
        loader = DataLoader(
            self.dataset,
            batch_sampler=_Steps(self, start, stop),
            collate_fn=_stack,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.num_workers else None,
        )
        for step, pictures in zip(range(start, stop), loader, strict=True):
            yield self._batch(self.step_rows(step), pictures)

    def step_rows(self, step: int) -> np.ndarray:
        """[B, 2] (sample index, view index) of this process at a step."""
        rows = self.plan.rows(step)
        share = len(rows) // self.world_size
        rows = rows[self.rank * share : (self.rank + 1) * share].copy()
        spec, ids = self.dataset.spec, self.dataset.images.ids
        rows[:, 1] = [view_index_for(spec, ids[int(i)], int(epoch)) for i, epoch in rows]
        return rows

    def _batch(self, rows: np.ndarray, pictures: tuple[torch.Tensor, ...]) -> Batch:
        samples, views = rows[:, 0], rows[:, 1]
        num_views = max(1, self.dataset.spec.num_views)
        stored = samples * num_views + views
        return Batch(
            images=pictures[0],
            labels=torch.from_numpy(self.labels[samples]),
            ids=tuple(self.dataset.images.ids[int(i)] for i in samples),
            teachers=tuple(store.rows(stored) for store in self.stores),
            teacher_images=pictures[1:],
        )


class _Steps:
    """A batch sampler: the rows of each step, as (sample, view) pairs."""

    def __init__(self, batches: Batches, start: int, stop: int) -> None:
        self.batches, self.start, self.stop = batches, start, stop

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.stop):
            yield [(int(i), int(view)) for i, view in self.batches.step_rows(step)]

    def __len__(self) -> int:
        return self.stop - self.start


def _stack(items: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.stack(column) for column in zip(*items, strict=True))


def loader_workers(setting: int | Literal["auto"], images: ImageSet, in_memory: bool) -> int:
    """Loader processes: none for pictures in memory, else one a spare core, at most 8."""
    if setting != "auto":
        return setting
    return 0 if in_memory else min(8, (os.cpu_count() or 1) - 1)
