"""How many views of images a student asks its teachers about, counted from the seeds alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class AskedViews:
    """What a student has asked each of its teachers so far, so that no view is counted twice."""

    _seen: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, teacher: str, epochs: NDArray[np.int64], num_views: int) -> int:
        """The number of views that are new.

        A sample's first K epochs show K different views, so epochs count views.

        Args:
            teacher: its fingerprint.
            epochs: [N] in how many epochs a training sees each sample of a draw's images.
            num_views: K stored views of each.
        """
        views = np.minimum(epochs, num_views)
        before = self._seen.get(teacher, np.zeros_like(views))
        after = self._seen[teacher] = np.maximum(before, views)
        return int((after - before).sum())


def views_of_draws(
    epochs: list[NDArray[np.int64]], num_views: int, *, students: int = 1, shared: bool = True
) -> int:
    """Views that the students of several draws ask about, over the same samples.

    Args:
        epochs: of each draw, [N] as for ``AskedViews``.
        num_views: K stored views of each sample.
        students: of a draw; each begins an order of the views of its own, so that their number is
            the expected one.
        shared: all draws read the same answers; else each has teachers of its own.
    """
    shares = [np.minimum(each, num_views) / num_views for each in epochs]
    asked = [num_views * (1 - (1 - share) ** students) for share in shares]
    if not asked:
        return 0
    return round(float(np.max(asked, axis=0).sum() if shared else np.sum(asked)))
