"""Steps of two views of every image, for objectives that compare them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genkt.training.batches import BatchPlan
from genkt.types import UserError


@dataclass(frozen=True)
class PairPlan(BatchPlan):
    """A plan whose rows come in pairs: rows 2i and 2i + 1 are two fresh views of one image.

    Epoch e shows the views 2e and 2e + 1, so the data set draws fresh views (``num_views=0``).

    Args:
        batch_size: rows per step, two per image.

    Raises:
        UserError: an odd number of rows.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % 2:
            raise UserError.of(
                "batch_size", "an even number, two views of every image", self.batch_size
            )

    @property
    def counts(self) -> tuple[int, int]:
        """(labelled, transfer) images per step, each of them two rows; of one kind only."""
        assert not (len(self.labelled) and len(self.transfer)), "pairs are of one kind of images"
        half = self.batch_size // 2
        return (half, 0) if len(self.labelled) else (0, half)

    def rows(self, step: int) -> np.ndarray:
        """[batch_size, 2] (sample index, view index), views of one image side by side."""
        pairs = np.repeat(super().rows(step), 2, axis=0)
        pairs[:, 1] = 2 * pairs[:, 1] + np.arange(len(pairs)) % 2
        return pairs
