"""A teacher's pictures in row order, rendered ahead while the teacher runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from genkt.data.images import LostImage
from genkt.data.views import ViewDataset
from genkt.training.loading import loaded
from genkt.training.spares import blanked

_MOST_THREADS = 8
_BATCHES_AHEAD = 2


class RowBatch(NamedTuple):
    """Pictures of some rows.

    Args:
        pictures: [B, 3, H, W] uint8.  lost: rows that are blank, with the errors of their images.
    """

    pictures: Tensor
    lost: dict[int, LostImage]


class RowPictures(Dataset[RowBatch]):
    """Batches of pictures, addressed by the first one's place.

    Args:
        rows: sample index * K + view index of each picture.
        survives: pictures that can no longer be read are blank; else they are an error.
    """

    def __init__(
        self, dataset: ViewDataset, rows: range | NDArray[np.int64], batch_size: int,
        *, survives: bool = False,
    ) -> None:  # fmt: skip
        self.dataset, self.rows, self.batch_size = dataset, rows, batch_size
        self.num_views, self.survives = max(1, dataset.spec.num_views), survives

    def __getitem__(self, start: int) -> RowBatch:
        rows = [int(row) for row in self.rows[start : start + self.batch_size]]
        keys = [divmod(row, self.num_views) for row in rows]
        if not self.survives:
            return RowBatch(self.dataset.batch(keys)[0], {})
        pictures, lost = blanked(self.dataset, keys)
        return RowBatch(pictures[0], {rows[place]: error for place, error in lost.items()})

    def starts(self, done: int = 0) -> range:
        """Where the batches begin, behind some pictures."""
        return range(done, len(self.rows), self.batch_size)


def row_pictures(
    rows: RowPictures, starts: range, num_workers: int, device: torch.device
) -> Iterator[RowBatch]:
    """Batches in order, rendered ahead while the model runs."""
    if num_workers:
        yield from loaded(rows, starts, num_workers, pin_memory=device.type == "cuda")
        return

    def render(start: int) -> RowBatch:
        found = rows[start]
        if device.type != "cuda":
            return found
        return found._replace(pictures=found.pictures.pin_memory())

    # Decoding, resizing and the forward pass all release the interpreter lock.
    num_threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="pictures") as pool:
        queue: deque[Future[RowBatch]] = deque()
        try:
            for start in starts:
                queue.append(pool.submit(render, start))
                if len(queue) > num_threads * _BATCHES_AHEAD:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()
