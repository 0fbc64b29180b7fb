"""Which rows a step sees, as a pure function of (seed, step), and the loader that fetches them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from genkt.data.images import ImageSet
from genkt.data.views import ViewDataset, view_index_for
from genkt.io import derive_seed
from genkt.training.loading import loaded
from genkt.training.lost_images import LostImages
from genkt.training.probe import OutputRows
from genkt.training.spares import Spares, lost_samples
from genkt.training.walk import Stream
from genkt.types import Batch, UserError

_BATCHES_AHEAD = 4
_ROWS_AT_ONCE = 1024
"""Of a teacher's outputs: a signal is looked for between them."""

STEPS_AHEAD = 100
"""Teacher outputs are computed for so many steps at once, where they are not kept already."""


@dataclass(frozen=True)
class TransferPart:
    """Transfer rows that have a share of the transfer rows of every batch.

    Args:
        rows: sample indices, at least one.
        share: its weight among the parts, above 0; they need not add up to 1.
    """

    rows: np.ndarray
    share: float


def shared_counts(total: int, shares: Sequence[float]) -> list[int]:
    """How many of any ``total`` first rows each part has: its share to within a row or two.

    Each part takes its share of what the earlier parts left, rounded. So the counts add up,
    none shrinks as ``total`` grows by one, and wherever all shares of ``total`` are whole numbers
    the counts are exactly these.

    >>> [shared_counts(total, [0.6, 0.3, 0.1]) for total in (1, 4, 10)]
    [[1, 0, 0], [2, 2, 0], [6, 3, 1]]

    Args:
        total: rows, at least 0.
        shares: weights above 0.
    """
    weights = [Fraction(str(share)) for share in shares]  # 0.1 is a tenth, not its nearest float
    counts, left, weight_left = [], total, sum(weights, Fraction())
    for weight in weights:
        counts.append(int(left * weight / weight_left + Fraction(1, 2)))
        left, weight_left = left - counts[-1], weight_left - weight
    return counts


@dataclass(frozen=True)
class BatchPlan:
    """The rows of every step: so many labelled ones, the rest from the transfer images.

    Args:
        labelled, transfer: sample indices into one image set; either may be empty, not both.
        batch_size: rows per step.
        labelled_per_batch: labelled rows per step where both kinds are there.
        seed: of the shuffles.
        first_epoch: number of the first epoch, which chooses the views.
        parts: what ``transfer`` is made of where parts of it have shares; empty: all its rows
            are drawn equally often.
        blocks: of the image set (``ImageSet.blocks``); given by the loader.
    """

    labelled: np.ndarray
    transfer: np.ndarray
    batch_size: int
    labelled_per_batch: int
    seed: int
    parts: tuple[TransferPart, ...] = ()
    blocks: np.ndarray | None = None
    first_epoch: int = 0

    def __post_init__(self) -> None:
        if not len(self.labelled) and not len(self.transfer):
            raise UserError.of("images", "labelled or transfer images to train on", "none")
        if any(not len(part.rows) or part.share <= 0 for part in self.parts):
            found = [(len(part.rows), part.share) for part in self.parts]
            raise UserError.of(
                "parts of the transfer images", "images and a share above 0 in each", found
            )
        both = len(self.labelled) and len(self.transfer)
        if both and not 0 <= self.labelled_per_batch < self.batch_size:
            raise UserError.of(
                "train.labelled_per_batch",
                (
                    f"0 .. {self.batch_size - 1}, which leaves room for transfer images in a batch "
                    f"of {self.batch_size}"
                ),
                self.labelled_per_batch,
            )

    @property
    def counts(self) -> tuple[int, int]:
        """(labelled, transfer) rows per step."""
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
        kinds = []
        if num_labelled:
            kinds.append(self._rows("labelled", self.labelled, step * num_labelled, num_labelled))
        if num_transfer:
            kinds.append(self._transfer_rows(step * num_transfer, num_transfer))
        rows = _interleaved(kinds)
        rows[:, 1] += self.first_epoch
        return rows

    def _transfer_rows(self, start: int, count: int) -> np.ndarray:
        if not self.parts:
            return self._rows("transfer", self.transfer, start, count)
        shares = [part.share for part in self.parts]
        bounds = zip(
            shared_counts(start, shares), shared_counts(start + count, shares), strict=True
        )
        return _interleaved(
            [
                self._rows(f"transfer {number}", part.rows, first, last - first)
                for number, (part, (first, last)) in enumerate(zip(self.parts, bounds, strict=True))
            ]
        )

    def epochs(self, num_steps: int, num_samples: int) -> np.ndarray:
        """[num_samples] in how many epochs so many steps see each sample of the set."""
        found = np.zeros(num_samples, dtype=np.int64)
        for name, rows, count in self._walks(num_steps):
            whole, rest = divmod(count, len(rows))
            found[rows] = np.maximum(found[rows], whole)
            also = self._rows(name, rows, whole * len(rows), rest)[:, 0]
            found[also] = np.maximum(found[also], whole + 1)
        return found

    def _walks(self, num_steps: int) -> Iterator[tuple[str, np.ndarray, int]]:
        """Every stream, the rows that it walks over, and how many of them in so many steps."""
        num_labelled, num_transfer = (num_steps * count for count in self.counts)
        if num_labelled:
            yield "labelled", self.labelled, num_labelled
        if num_transfer and not self.parts:
            yield "transfer", self.transfer, num_transfer
        elif num_transfer:
            counts = shared_counts(num_transfer, [part.share for part in self.parts])
            for number, (part, count) in enumerate(zip(self.parts, counts, strict=True)):
                yield f"transfer {number}", part.rows, count

    def _rows(self, name: str, indices: np.ndarray, start: int, count: int) -> np.ndarray:
        return self._stream(indices, name).take(start, count)

    def _stream(self, indices: np.ndarray, name: str) -> Stream:
        streams: dict[str, Stream] = self.__dict__.setdefault("_streams", {})
        if name not in streams:
            blocks = None if self.blocks is None else self.blocks[indices]
            streams[name] = Stream(indices, derive_seed(self.seed, name), blocks)
        return streams[name]


def _interleaved(kinds: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of all kinds, each kind spread evenly along the whole."""
    places = [(np.arange(len(rows)) + 0.5) / max(1, len(rows)) for rows in kinds]
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(kinds)[order]


class Batches:
    """Loads the rows of a plan: views, labels, ids and cached teacher outputs.

    Attributes:
        samples: rows of the data set that the plan reads, ascending; ``Batch.samples`` counts them.
        fill_seconds: of ``iterate`` so far, for teacher outputs that were missing.

    Args:
        dataset: renders views for the student first, then for each online teacher.
        labels: [N] int64; ``UNLABELLED`` hides a label from the task loss.
        plan: which rows a step sees.
        stores: one cache per cached teacher, over the same samples and views.
        rank, world_size: this process reads its contiguous share of every batch.
        num_workers: loader processes; with 0 the pictures are rendered between the steps.
        steps_ahead: as ``STEPS_AHEAD``.
        lost: counts transfer images that can no longer be read; others take their places (see
            ``Spares``). None: they are an error, as labelled ones are.
        labelled: more samples that nothing can replace than those of the plan.

    Raises:
        UserError: the batch cannot be shared evenly, or a store holds other samples or views.
    """

    def __init__(
        self,
        dataset: ViewDataset,
        labels: np.ndarray,
        plan: BatchPlan,
        stores: Sequence[OutputRows] = (),
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        steps_ahead: int = STEPS_AHEAD,
        lost: LostImages | None = None,
        labelled: np.ndarray | None = None,
    ) -> None:
        if plan.batch_size % world_size:
            raise UserError.of(
                "train.batch_size", f"a multiple of the {world_size} processes", plan.batch_size
            )
        for store in stores:
            store.require_samples(dataset.images.ids, dataset.spec)
        if plan.blocks is None and (blocks := dataset.images.blocks) is not None:
            plan = replace(plan, blocks=blocks)
        self.dataset, self.labels, self.plan, self.stores = dataset, labels, plan, tuple(stores)
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers
        self.samples = np.union1d(plan.labelled, plan.transfer)
        self.steps_ahead, self.fill_seconds = steps_ahead, 0.0
        self.lost = lost
        fixed = plan.labelled if labelled is None else np.union1d(plan.labelled, labelled)
        groups = tuple(part.rows for part in plan.parts) or (plan.transfer,)
        spares = Spares(dataset, fixed, groups, plan.seed, lost_samples(self.stores, dataset.spec))
        self.spares = spares if lost is not None else None

    def iterate(
        self, start: int, stop: int, *, pin_memory: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> Iterator[Batch]:  # fmt: skip
        """Batches of steps start .. stop, in order; pinned pictures reach a GPU sooner.

        Args:
            between: called from time to time while missing teacher outputs are computed.
        """
        steps = range(start, stop)
        if not self.num_workers or not steps:
            for step, (rows, *pictures) in zip(steps, self._one_ahead(steps), strict=True):
                self._fill(step, steps, between)
                yield self._batch(rows, [p.pin_memory() if pin_memory else p for p in pictures])
            return
        read = loaded(
            _StepRows(self), steps, self.num_workers, ahead=_BATCHES_AHEAD, pin_memory=pin_memory
        )
        for step, (rows, *pictures) in zip(steps, read, strict=True):
            self._fill(step, steps, between)
            yield self._batch(rows, pictures)

    def _fill(self, step: int, steps: range, between: Callable[[], None]) -> None:
        """Have the teachers' outputs of the next steps computed, as far as they are missing.

        Each process asks for the rows of all; those that come second find them there.
        """
        ahead = self.steps_ahead
        if (step != steps.start and step % ahead) or all(store.is_whole for store in self.stores):
            return
        started, stop = time.perf_counter(), min(steps.stop, step - step % ahead + ahead)
        rows = np.unique([self.stored_rows(each) for each in range(step, stop)])
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            for store in self.stores:
                store.fill(rows[first : first + _ROWS_AT_ONCE])
            between()
        self.fill_seconds += time.perf_counter() - started

    def _one_ahead(self, steps: range) -> Iterator[tuple[torch.Tensor, ...]]:
        """Load the next step in a thread while this one trains: pictures need no Python lock."""
        with ThreadPoolExecutor(max_workers=1) as executor:
            coming = [executor.submit(self.load, step) for step in steps[:1]]
            for step in steps:
                loaded = coming.pop().result()
                if step + 1 < steps.stop:
                    coming.append(executor.submit(self.load, step + 1))
                yield loaded

    def load(self, step: int) -> tuple[torch.Tensor, ...]:
        """This process's rows of a step, then its pictures.

        Returns:
            Rows [B, 3] (sample index, view index, the sample that the plan asked for), and
            [B, 3, H, W] uint8 for each transform.
        """
        rows = shown = self.step_rows(step)
        if self.spares is None:
            pictures = self.dataset.batch([(index, view) for index, view in rows.tolist()])
        else:
            shown, pictures = self.spares.batch(rows)
        return torch.from_numpy(np.column_stack([shown, rows[:, 0]])), *pictures

    def step_rows(self, step: int) -> np.ndarray:
        """[B, 2] (sample index, view index) of this process at a step."""
        rows = self.plan.rows(step)
        share = len(rows) // self.world_size
        return self._viewed(rows[self.rank * share : (self.rank + 1) * share])

    def stored_rows(self, step: int) -> np.ndarray:
        """Rows of a store, sample index * K + view index, that a step of all processes reads."""
        samples, views = self._viewed(self.plan.rows(step)).T
        stored: np.ndarray = samples * self.dataset.spec.num_views + views
        return stored

    def _viewed(self, rows: np.ndarray) -> np.ndarray:
        """The same rows with view indices in place of epochs."""
        spec, ids = self.dataset.spec, self.dataset.images.ids
        if spec.num_views == 1:
            rows[:, 1] = 0
        elif spec.num_views > 1:
            rows[:, 1] = [view_index_for(spec, ids[index], epoch) for index, epoch in rows.tolist()]
        return rows

    def step_ids(self, step: int) -> list[str]:
        """Sample ids of a step, those of all processes."""
        return [self.dataset.images.ids[index] for index in self.plan.rows(step)[:, 0].tolist()]

    def _seen(
        self, samples: np.ndarray, views: np.ndarray, asked: np.ndarray,
        pictures: Sequence[torch.Tensor],
    ) -> tuple[np.ndarray, Sequence[torch.Tensor]]:  # fmt: skip
        """Samples that all teachers could see too, and their pictures; what is lost is counted."""
        assert self.spares is not None and self.lost is not None
        for store in self.stores:
            store.fill(samples * self.dataset.spec.num_views + views)
        unseen = lost_samples(self.stores, self.dataset.spec)
        if not unseen.keys().isdisjoint(samples.tolist()):
            self.spares = replace(self.spares, lost=unseen)
            keys, pictures = self.spares.batch(np.stack([asked, views], axis=1))
            return self._seen(keys[:, 0], views, asked, pictures)
        for sample in np.unique(asked[asked != samples]).tolist():
            if (sample_id := self.dataset.images.ids[sample]) not in self.lost:
                self.lost.add(sample_id, self.spares.error(sample), len(self.plan.transfer))
        return samples, pictures

    def _batch(self, rows: torch.Tensor, pictures: Sequence[torch.Tensor]) -> Batch:
        samples, views, asked = rows.numpy().T
        if self.spares is not None:
            samples, pictures = self._seen(samples, views, asked, pictures)
        stored = samples * self.dataset.spec.num_views + views
        return Batch(
            images=pictures[0],
            labels=torch.from_numpy(self.labels[samples]),
            ids=tuple(self.dataset.images.ids[index] for index in samples.tolist()),
            samples=torch.from_numpy(np.searchsorted(self.samples, samples)),
            teachers=tuple(store.rows(stored) for store in self.stores),
            teacher_images=tuple(pictures[1:]),
        )


class _StepRows(Dataset[tuple[torch.Tensor, ...]]):
    """What a loader process fetches for one step."""

    def __init__(self, batches: Batches) -> None:
        # Without the stores: their rows are read where they are used; a memory map cannot be sent.
        self.batches = Batches(
            batches.dataset,
            batches.labels,
            batches.plan,
            rank=batches.rank,
            world_size=batches.world_size,
        )
        self.batches.spares = batches.spares

    def __getitem__(self, step: int) -> tuple[torch.Tensor, ...]:
        return self.batches.load(step)


def loader_workers(setting: int | Literal["auto"], images: ImageSet, in_memory: bool) -> int:
    """Loader processes: none for pictures in memory, else one per spare core, at most 8."""
    if setting != "auto":
        return setting
    return 0 if in_memory else min(8, (os.cpu_count() or 1) - 1)
