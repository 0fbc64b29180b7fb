"""How deep to search: the K for which the nearest rows of all queries have N different ones.

K only decides how long a search takes, never what is selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from genkt.retrieval.search.nearest import Gallery, Ranked, nearest
from genkt.retrieval.search.ordering import Ordering
from genkt.retrieval.search.scoring import Features, Reduce, Stored
from genkt.types import UserError

MARGIN = 1.3
"""How much deeper than guessed a search goes."""
_RANGES = 64  # where a pilot looks: a gallery may be sorted by class
_LEAST = 8  # a deeper search than this costs more, a shallower one hardly less


def guess_k(
    gallery: Gallery, queries: Features, num_images: int, *,
    weights: Sequence[float] | None = None, reduce: Reduce = "mean", fraction: float = 1 / 16,
) -> int:  # fmt: skip
    """Guess from a part of the gallery how many rows per query are needed for N different ones.

    A part p of the gallery holds p N of the N rows, at about p times their rank.

    Args:
        gallery, queries, weights, reduce: as for ``nearest``.
        num_images: N.
        fraction: p, the part that is searched, or a little more.

    Returns:
        K with a margin, between ceil(N / Q) and the number of rows.

    Raises:
        UserError: an empty gallery, or as ``nearest``.
    """
    if not gallery.num_rows:
        raise UserError("gallery: expected images, found none")
    sample, num_queries = _Sample(gallery, fraction), len(queries[0])
    part = sample.num_rows / gallery.num_rows
    wanted = num_images * part
    k = 2 * math.ceil(wanted / num_queries) + 1
    while True:
        counts = count_different(nearest(sample, queries, k, weights=weights, reduce=reduce))
        if counts[-1] >= wanted or k >= sample.num_rows:
            break
        k *= 2
    depth = float(np.interp(wanted, np.append(0, counts), np.arange(len(counts) + 1)))
    least = max(_LEAST, math.ceil(num_images / num_queries))
    return min(gallery.num_rows, max(least, math.ceil(MARGIN * depth / part)))


class _Sample:
    """The first part of each of many equal ranges of a gallery, which may be sorted by class."""

    def __init__(self, gallery: Gallery, fraction: float) -> None:
        self._gallery = gallery
        self._stride = max(1, gallery.num_rows // _RANGES)
        self._length = math.ceil(self._stride * fraction)
        self.num_rows = gallery.num_rows // self._stride * self._length

    def features(self, start: int, stop: int) -> Stored:
        """As ``Gallery.features``."""
        cuts = sorted({start, stop, *range(start - start % self._length, stop, self._length)})
        parts = [
            self._gallery.features(self._row(a), self._row(a) + b - a)
            for a, b in pairwise(cuts) if a >= start
        ]  # fmt: skip
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """As ``Gallery.ids``."""
        return self._gallery.ids(rows // self._length * self._stride + rows % self._length)

    def _row(self, place: int) -> int:
        return place // self._length * self._stride + place % self._length


def count_different(ranked: Ranked) -> NDArray[np.int64]:
    """How many different rows the queries' k nearest ones have, for k = 1 .. K.

    Returns:
        [K] int64.
    """
    _, first = np.unique(ranked.rows.T, return_index=True)
    counts = np.bincount(first // len(ranked.rows), minlength=ranked.k)
    found: NDArray[np.int64] = counts.cumsum()
    return found


def select(
    num_rows: int, num_images: int, k: int,
    scan: Callable[[int], Ranked], order: Callable[[Ranked], Ordering],
) -> Ordering:  # fmt: skip
    """Search deep enough for N rows, deeper where a guess was too small.

    Args:
        num_rows: of the gallery.
        num_images: N.
        k: the first depth, of ``guess_k``.
        scan: searches the whole gallery: K to the K nearest rows of each query.
        order: makes an ordering of what was found.

    Returns:
        At least N rows, fewer only where the gallery has no more.
    """
    k = min(k, num_rows)
    while True:
        found = order(scan(k))
        if len(found) >= num_images or k >= num_rows:
            return found
        k = min(num_rows, math.ceil(MARGIN * k * max(1.0, num_images / max(1, len(found)))) + 1)
