"""A teacher's pictures in row order, rendered ahead while the teacher runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from genkt.data.views import ViewDataset
from genkt.training.loading import loaded

_MOST_THREADS = 8
_BATCHES_AHEAD = 2


class RowPictures(Dataset[Tensor]):
    """Batches of a teacher's pictures, [B, 3, H, W] uint8, addressed by the first one's place.

    Args:
        rows: sample index * K + view index of each picture.
    """

    def __init__(
        self, dataset: ViewDataset, rows: range | NDArray[np.int64], batch_size: int
    ) -> None:
        self.dataset, self.rows, self.batch_size = dataset, rows, batch_size
        self.num_views = dataset.spec.num_views

    def __getitem__(self, start: int) -> Tensor:
        rows = self.rows[start : start + self.batch_size]
        return self.dataset.batch([divmod(int(row), self.num_views) for row in rows])[0]

    def starts(self, done: int = 0) -> range:
        """Where the batches begin, behind some pictures."""
        return range(done, len(self.rows), self.batch_size)


def row_pictures(
    rows: RowPictures, starts: range, num_workers: int, device: torch.device
) -> Iterator[Tensor]:
    """Batches in order, rendered ahead while the model runs."""
    if num_workers:
        yield from loaded(rows, starts, num_workers, pin_memory=device.type == "cuda")
        return

    def render(start: int) -> Tensor:
        return rows[start].pin_memory() if device.type == "cuda" else rows[start]

    # Decoding, resizing and the forward pass all release the interpreter lock.
    num_threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="pictures") as pool:
        queue: deque[Future[Tensor]] = deque()
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
