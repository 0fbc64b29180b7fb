"""Exact nearest neighbours of a few queries in a gallery that is read as a stream.

The score of a gallery row is the weighted mean over encoders (or the largest) of the cosine with
the query. Results are those of float64 arithmetic on the stored float16 values, ordered by
(score descending, id ascending), whatever the block size, threads, backend, or cuts into ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genkt.retrieval.search.candidates import CandidatePairs, FaissProposer, ProductProposer
from genkt.retrieval.search.scoring import Blend, Features, Reduce, StoredRows
from genkt.types import UserError

Backend = Literal["torch", "faiss"]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Query, row and score, [P] each."""
_BETWEEN = 1 << 20
"""Rows scanned between two rounds of exact scores: these are read again, from the page cache."""


class Gallery(Protocol):
    """Rows of stored features, read in ranges."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        ...

    def features(self, start: int, stop: int) -> tuple[NDArray[np.float16], ...]:
        """Rows start .. stop: one [stop - start, D_e] array of unit rows per encoder."""
        ...

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The sample ids of some rows."""
        ...


@dataclass(frozen=True)
class ArrayGallery:
    """A gallery in memory.

    Args:
        arrays: one [N, D_e] array per encoder.
        names: N sample ids.
    """

    arrays: tuple[NDArray[np.float16], ...]
    names: Sequence[str]

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.names)

    def features(self, start: int, stop: int) -> tuple[NDArray[np.float16], ...]:
        """Rows start .. stop of every encoder."""
        return tuple(array[start:stop] for array in self.arrays)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The sample ids of some rows."""
        return [self.names[row] for row in rows]


@dataclass(frozen=True)
class Ranked:
    """The best K gallery rows of each of Q queries, by (score descending, id ascending).

    Args:
        rows: [Q, K] int64.
        scores: [Q, K] float64, cosines.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def k(self) -> int:
        """K: fewer than asked for where the range had fewer rows."""
        return int(self.rows.shape[1])

    def pairs(self) -> Pairs:
        """Query, row and score of every entry, [Q K] each."""
        queries = np.repeat(np.arange(len(self.rows)), self.k)
        return queries, self.rows.ravel(), self.scores.ravel()


def nearest(
    gallery: Gallery, queries: Features, k: int, *, weights: Sequence[float] | None = None,
    reduce: Reduce = "mean", start: int = 0, stop: int | None = None, block_rows: int = 2048,
    backend: Backend = "torch",
) -> Ranked:  # fmt: skip
    """Find the k best gallery rows of each query, exactly.

    For the nearest references of suspected leaks, the references are the gallery and the suspects
    the queries, with reduce="max".

    Args:
        gallery: rows to search; it is read in order, once, and its candidates a second time.
        queries: one [Q, D_e] array of unit rows per encoder, rounded to float16 as stores are.
        k: rows wanted per query, >= 1.
        weights: of the encoders, > 0, of any sum; None: all the same.
        reduce: "mean" over the encoders, or "max", which needs no weights.
        start, stop: the range of rows to search; None: to the end.
        block_rows: rows scored at once.
        backend: what proposes candidates: "torch", or "faiss" (optional).

    Returns:
        [Q, min(k, stop - start)] rows, counted from the gallery's first.

    Raises:
        UserError: k below 1, features that do not fit, rows that are not unit rows.

    Example:
        >>> rows = np.eye(3, dtype=np.float16)
        >>> found = nearest(ArrayGallery((rows,), ["a", "b", "c"]), (rows[2:],), 2)
        >>> found.rows.tolist(), found.scores.tolist()
        ([[2, 0]], [[1.0, 0.0]])
    """
    stop = gallery.num_rows if stop is None else stop
    if k < 1 or block_rows < 1:
        raise UserError.of("nearest", "k and block_rows >= 1", f"{k} and {block_rows}")
    asked, blend = StoredRows(queries), Blend.of(len(queries), weights, reduce)
    proposer = (FaissProposer if backend == "faiss" else ProductProposer)(asked, blend)
    candidates = CandidatePairs(len(asked), k, proposer.rounding)
    best = Ranked(np.zeros((len(asked), 0), np.int64), np.zeros((len(asked), 0)))
    scored = start
    for first in range(start, stop, block_rows):
        last = min(first + block_rows, stop)
        block = gallery.features(first, last)
        _require_same_widths(asked.stored, block)
        proposer.propose(block, first, candidates)
        if last == stop or last - scored >= _BETWEEN or candidates.is_crowded:
            new = candidates.take()
            scores = _exact(gallery, asked, blend, new, scored, last, block_rows)
            best = _best(gallery, len(asked), [best.pairs(), (*new, scores)], k)
            scored = last
            if best.k == k:
                candidates.raise_bars(best.scores[:, -1], exact=True)
    return best


def merge(gallery: Gallery, parts: Sequence[Ranked], k: int) -> Ranked:
    """The best k rows of each query over parts that searched different ranges.

    Parts may come in any order and be merged in any grouping.

    Args:
        gallery: knows the ids, by which rows of equal score are ordered.
        parts: of the same queries, each with the best k rows of its range, or all of them.
        k: rows wanted per query.

    Raises:
        UserError: parts of different queries, none, or of ranges that overlap.
    """
    if len({len(part.rows) for part in parts}) != 1:
        raise UserError("merge: expected one or more parts of the same queries")
    rows = np.sort(np.concatenate([part.rows for part in parts], axis=1), axis=1)
    if (rows[:, 1:] == rows[:, :-1]).any():
        raise UserError("merge: expected parts of ranges that do not overlap")
    return _best(gallery, len(rows), [part.pairs() for part in parts], k)


def _best(gallery: Gallery, num_queries: int, parts: Sequence[Pairs], k: int) -> Ranked:
    """The best k pairs of each query; all queries have so many, or the same number of less."""
    queries, rows, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = order_by(gallery, rows, queries, -scores)
    starts = np.searchsorted(queries[order], np.arange(num_queries))
    places = np.arange(len(order)) - starts[queries[order]]
    order = order[places < k].reshape(num_queries, -1)
    return Ranked(rows[order], scores[order])


def _exact(
    gallery: Gallery, asked: StoredRows, blend: Blend,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]], start: int, stop: int, block_rows: int,
) -> NDArray[np.float64]:  # fmt: skip
    """Exact scores of pairs (queries, rows), by row, whose rows are within start .. stop."""
    queries, rows = pairs
    scores = np.empty(len(rows))
    for first in range(start, stop, block_rows):
        last = min(first + block_rows, stop)
        part = slice(*np.searchsorted(rows, [first, last]))
        used, place = np.unique(rows[part], return_inverse=True)
        if len(used):
            block = gallery.features(first, last)
            found = StoredRows(tuple(features[used - first] for features in block))
            scores[part] = blend.exact(asked, queries[part], found, place)
    return scores


def _require_same_widths(queries: Features, block: Features) -> None:
    widths = [[part.shape[1] for part in parts] for parts in (queries, block)]
    if widths[0] != widths[1]:
        raise UserError.of(
            "nearest", f"queries of the widths of the gallery, {widths[1]}", widths[0]
        )


def order_by(
    gallery: Gallery, rows: NDArray[np.int64], *keys: NDArray[np.generic]
) -> NDArray[np.int64]:
    """Indices that sort rows by keys, the first key first, then by id, then by row.

    Args:
        gallery: asked for the ids of rows whose keys are all equal to another's.
        rows: [M].
        keys: each [M].
    """
    order = np.lexsort((rows, *reversed(keys)))
    same = np.ones(max(0, len(rows) - 1), bool)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    if not same.any():
        return order
    tied = order[np.append(same, False) | np.insert(same, 0, False)]
    different, place = np.unique(rows[tied], return_inverse=True)
    names = gallery.ids(different)
    by_name = np.argsort(np.array(names, dtype=object), kind="stable")
    rank = np.zeros(len(rows), np.int64)
    rank[tied] = np.argsort(by_name)[place]
    return np.lexsort((rank, *reversed(keys)))
