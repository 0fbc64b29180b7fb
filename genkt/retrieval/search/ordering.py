"""Orders in which gallery rows are taken: a set of any size N is the first N rows of one order.

Source: Vemulapalli et al., "Knowledge Transfer from Vision Foundation Models for Efficient Training
of Small Task-specific Models", section 3.4 and appendix B.5. The paper takes the smallest k for
which the k nearest rows of all queries are at least N different ones, then drops the k-th
neighbour of random queries until N are left. With r(x) the best rank of row x over the queries,
the rows within rank k are those of r(x) <= k, so k is the N-th smallest r. A row of r(x) = k is
dropped with the last query that has it at rank k: its key is the largest priority of those queries,
and rows of small keys are dropped first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genkt.io import derive_seed
from genkt.retrieval.search.nearest import Gallery, Ranked, order_by
from genkt.types import UserError

OnShortage = Literal["error", "all"]
NO_QUERY = -1
"""The query of a row that no query chose."""
_BLOCK = 65536


@dataclass(frozen=True)
class Ordering:
    """Gallery rows, the first to be taken first.

    Args:
        rows: [M] int64, all different.
        ranks: [M] int64, place 1.. of the row in the list of its query; 0 where there is none.
        queries: [M] int64, the query that chose it, or ``NO_QUERY``.
        scores: [M] float64, its score with that query, NaN where there is none.
    """

    rows: NDArray[np.int64]
    ranks: NDArray[np.int64]
    queries: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def take(self, num_images: int, *, on_shortage: OnShortage = "error") -> Ordering:
        """The first ``num_images`` rows.

        Args:
            num_images: N.
            on_shortage: what to do where there are fewer: "error", or take "all" of them.

        Raises:
            UserError: too few rows.
        """
        if num_images > len(self) and on_shortage == "error":
            raise UserError(
                f"retrieval: expected {num_images} images, the gallery gave {len(self)}; "
                "ask for fewer, or for on_shortage=all"
            )
        parts = (self.rows, self.ranks, self.queries, self.scores)
        return Ordering(*(part[:num_images] for part in parts))  # type: ignore[arg-type]


def query_balanced(
    gallery: Gallery, ranked: Ranked, query_ids: Sequence[str], seed: int
) -> Ordering:
    """Take the rows that are nearest to any query first: every query gets the same share.

    Args:
        gallery: knows the ids, which decide between rows of equal rank and key.
        ranked: the K nearest rows of each of Q queries.
        query_ids: Q ids; the priority of a query is a hash of seed and id.
        seed: of the choice among rows of equal rank.

    Returns:
        All M rows that are among the K nearest of a query; ``ranks`` of the first N ends with the
        paper's k. Any larger K only adds rows at the end.

    Raises:
        UserError: not one id per query.

    Example:
        >>> from genkt.retrieval.search.nearest import ArrayGallery
        >>> gallery = ArrayGallery((np.eye(4, dtype=np.float16),), list("abcd"))
        >>> ranked = Ranked(np.array([[0, 1], [0, 2]]), np.array([[0.9, 0.8], [0.7, 0.6]]))
        >>> query_balanced(gallery, ranked, ["p", "q"], seed=0).ranks.tolist()
        [1, 2, 2]
    """
    if len(query_ids) != len(ranked.rows):
        raise UserError.of("query ids", f"{len(ranked.rows)}, one per query", len(query_ids))
    hashes = np.array([derive_seed(seed, "query", name) for name in query_ids], dtype=np.int64)
    _, priority = np.unique(hashes, return_inverse=True)
    queries, places = np.indices(ranked.rows.shape).reshape(2, -1)
    found = _first_of_each(ranked, places, -priority[queries])
    return _arrange(gallery, found, found.ranks, -priority[found.queries])


def best_matches(gallery: Gallery, ranked: Ranked) -> Ordering:
    """Take the rows with the best score with any query first, whichever query that is.

    Args:
        gallery: knows the ids, which decide between rows of equal score.
        ranked: the K nearest rows of each of Q queries.

    Returns:
        The M rows of which it is certain that no row outside these lists comes before them: a
        larger K gives more, K = ``gallery.num_rows`` all.
    """
    found = _first_of_each(ranked, -ranked.scores.ravel())
    ordering = _arrange(gallery, found, -found.scores)
    if ranked.k >= gallery.num_rows:
        return ordering
    # A row that a query does not list scores at most as high as its last one.
    certain = ordering.scores > ranked.scores[:, -1].max()
    return ordering.take(int(certain.sum()))


def random_order(gallery: Gallery, num_images: int, seed: int) -> Ordering:
    """Take rows at random, by a hash of seed and sample id.

    Args:
        gallery: knows the ids.
        num_images: N, how many rows are wanted.
        seed: of the order.

    Returns:
        min(N, ``gallery.num_rows``) rows.
    """
    rows, hashes = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, gallery.num_rows, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, gallery.num_rows))
        values = [derive_seed(seed, "random", name) for name in gallery.ids(block)]
        rows = np.concatenate([rows, block])
        hashes = np.concatenate([hashes, np.array(values, dtype=np.int64)])
        order = order_by(gallery, rows, hashes)[:num_images]
        rows, hashes = rows[order], hashes[order]
    none = np.zeros(len(rows), np.int64)
    return Ordering(rows, none, none + NO_QUERY, np.full(len(rows), np.nan))


def multiplied(num_queries: int, multiplier: int) -> int:
    """N = |Q| (2^j - 1): with the queries themselves, 2^j times as many images.

    Args:
        num_queries: |Q|.
        multiplier: j >= 1.

    Example:
        >>> multiplied(50, 3)
        350
    """
    return num_queries * ((1 << multiplier) - 1)


def _first_of_each(ranked: Ranked, *keys: NDArray[np.generic]) -> Ordering:
    """Of each gallery row the entry that is first by keys [Q K], the first key first."""
    queries, rows, scores = ranked.pairs()
    order = np.lexsort((queries, *reversed(keys), rows))
    first = order[np.diff(rows[order], prepend=-1) != 0]
    return Ordering(rows[first], first % ranked.k + 1, queries[first], scores[first])


def _arrange(gallery: Gallery, found: Ordering, *keys: NDArray[np.generic]) -> Ordering:
    order = order_by(gallery, found.rows, *keys)
    parts = (found.rows, found.ranks, found.queries, found.scores)
    return Ordering(*(part[order] for part in parts))  # type: ignore[arg-type]
