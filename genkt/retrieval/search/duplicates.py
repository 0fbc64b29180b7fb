"""Near copies among rows of features: which row stands for which, found by comparing all pairs.

The comparison is exact: a quick product rules out nearly all pairs, what it cannot rule out gets
an exact score. Where the score is a mean over encoders, that of the first one alone rules out:
a mean of t needs at least (t - (1 - w)) / w of an encoder of weight w, as cosines are at most 1.
Whole clusters are never kept as pairs, of which a picture repeated 10^4 times has 5 * 10^7: rows
carry the number of their cluster, and a pair within one needs no score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from genkt.retrieval.search.candidates import reaching
from genkt.retrieval.search.scoring import (
    Blend,
    Features,
    Rounding,
    StoredRows,
    quick_dtype,
    rounding,
    scaled,
    units,
)
from genkt.types import UserError

Mode = Literal["components", "leader"]
BLOCK, WIDE_BLOCK = 1024, 4096
"""Rows compared at once with how many: the largest temporary is [BLOCK, WIDE_BLOCK]."""
_SLACK = 1e-6  # rounding to float16 gives multiples of one row a similarity of 1 - 1e-7
_MANY = 4  # pairs per row of a block that the quick product leaves, above which a better one pays
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Cluster:
    """Rows that show the same.

    Args:
        row: the one that is kept.
        size: how many they are, with it, at least 2.
        smallest: similarity of the two least alike: a chain of near copies may go far.
    """

    row: int
    size: int
    smallest: float


@dataclass(frozen=True)
class NearCopies:
    """Which rows are kept.

    Args:
        kept_for: [N] the row that is kept for each one: itself where it is kept.
        clusters: of two or more rows, by the row that is kept.
    """

    kept_for: Indices
    clusters: tuple[Cluster, ...]

    @property
    def keep(self) -> NDArray[np.bool_]:
        """[N], True for the rows to keep."""
        keep: NDArray[np.bool_] = self.kept_for == np.arange(len(self.kept_for))
        return keep


def near_duplicates(
    features: Features, threshold: float, *, weights: Sequence[float] | None = None,
    mode: Mode = "components",
) -> NearCopies:  # fmt: skip
    """Find rows that show the same; of each cluster the first row is kept.

    O(N^2 D) time, O(N D) memory.

    Args:
        features: one [N, D_e] array of unit rows per encoder, in the order of preference, rounded
            to float16 as stores are; rows of zeros are like no other.
        threshold: mean cosine similarity in (0, 1] from which two are the same (up to 1e-6).
        weights: of the encoders; None: all the same.
        mode: "components": rows that are joined by a chain of near copies are one cluster, and no
            two kept rows are near copies. "leader": a row goes only if it is a near copy of a kept
            earlier one.

    Raises:
        UserError: a threshold outside (0, 1], or features that do not fit.

    Example:
        >>> rows = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], dtype=np.float16)
        >>> near_duplicates((rows,), 0.9).kept_for.tolist()
        [0, 1, 2, 2]
        >>> near_duplicates((rows,), 0.75).clusters
        (Cluster(row=0, size=4, smallest=0.0),)
        >>> near_duplicates((rows,), 0.75, mode="leader").keep.tolist()
        [True, True, False, False]
    """
    if not 0 < threshold <= 1:
        raise UserError.of("duplicates", "a threshold above 0 and at most 1", threshold)
    join = _Join(StoredRows(features), Blend.of(len(features), weights), threshold - _SLACK)
    kept_for = _components(join) if mode == "components" else _leaders(join)
    return NearCopies(kept_for, tuple(_clusters(join, kept_for)))


class _Join:
    """The pairs of rows that reach a threshold."""

    def __init__(self, rows: StoredRows, blend: Blend, threshold: float) -> None:
        self.rows, self.blend, self.threshold = rows, blend, threshold
        dtype, (first, *_), width = quick_dtype(), rows.stored, rows.stored[0].shape[1]
        self._quick = torch.empty(len(rows), width, dtype=dtype)
        lost = 0.0
        for start in range(0, len(rows), WIDE_BLOCK):
            exact = units(first[start : start + WIDE_BLOCK])
            low = self._quick[start : start + WIDE_BLOCK].copy_(exact)
            lost = max(lost, float(torch.linalg.vector_norm(exact - low.float(), dim=1).max()))
        weight = blend.weights[0]
        least = (threshold - (1 - weight)) / weight
        self._least = _floor(rounding(width, dtype, lost), least)
        total = sum(part.shape[1] for part in rows.stored)
        self._least_of_all = _floor(rounding(total, torch.float32), threshold)

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self, a: Indices, b: Indices) -> tuple[Indices, Indices]:
        """Pairs of rows ``a`` with later rows ``b`` that may reach the threshold, by first row."""
        quick = self._quick[torch.from_numpy(a)] @ self._quick[torch.from_numpy(b)].T
        rows, columns = reaching(quick, np.full(len(a), self._least))
        i, j = a[rows], b[columns]
        return i[i < j], j[i < j]

    def fewer(self, i: Indices, j: Indices) -> tuple[Indices, Indices]:
        """Candidates that are still some after all encoders' product in float32."""
        (a, x), (b, y) = (np.unique(side, return_inverse=True) for side in (i, j))
        score = torch.zeros(len(a), len(b))
        for stored, weight in zip(self.rows.stored, self.blend.weights, strict=True):
            score.addmm_(units(stored[a]), units(stored[b]).T, alpha=weight)
        keep = score.numpy()[x, y] >= self._least_of_all
        return i[keep], j[keep]

    def reach(self, i: Indices, j: Indices) -> NDArray[np.bool_]:
        """Whether pairs of rows reach the threshold, [P]."""
        found: NDArray[np.bool_] = self.blend.exact(self.rows, i, self.rows, j) >= self.threshold
        return found


def _floor(error: Rounding, least: float) -> float:
    return float(error.below(np.array(least)))


def _components(join: _Join) -> Indices:
    """The first row of each row's connected component."""
    labels = np.arange(len(join))
    for start in range(0, len(join), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(join)))
        for other in range(start, len(join), WIDE_BLOCK):
            i, j = join.candidates(rows, np.arange(other, min(other + WIDE_BLOCK, len(join))))
            labels = _unite(join, labels, i, j)
    return labels


def _unite(join: _Join, labels: Indices, i: Indices, j: Indices) -> Indices:
    """Labels after those of the pairs that reach the threshold have been joined."""
    for turn in count():
        a, b = labels[i], labels[j]
        apart = a != b
        i, j, a, b = i[apart], j[apart], a[apart], b[apart]
        if not len(i):
            break
        if turn == 1 and len(i) > _MANY * BLOCK:
            i, j = join.fewer(i, j)
            a, b = labels[i], labels[j]
        # One pair of each cluster at a time: it may make all others needless.
        now = np.zeros(len(i), bool)
        for side in (a, b):
            one = np.full(len(labels), -1)
            one[side] = np.arange(len(side))
            now[one[one >= 0]] = True
        same = join.reach(i[now], j[now])
        labels = _joined(labels, a[now][same], b[now][same])
        i, j = i[~now], j[~now]
    return labels


def _joined(labels: Indices, a: Indices, b: Indices) -> Indices:
    """Labels where each a is the same as its b: the least one of all that are the same."""
    old, places = np.unique(np.stack([a, b]), return_inverse=True)
    x, y = places.reshape(2, -1)
    graph = scipy.sparse.coo_matrix((np.ones(len(x), bool), (x, y)), shape=(len(old), len(old)))
    num_groups, groups = scipy.sparse.csgraph.connected_components(graph, directed=False)
    least = np.full(num_groups, len(labels))
    np.minimum.at(least, groups, old)
    new = np.arange(len(labels))
    new[old] = least[groups]
    found: Indices = new[labels]
    return found


def _leaders(join: _Join) -> Indices:
    """The first kept row that each row is a near copy of."""
    kept_for = np.arange(len(join))
    kept = np.zeros(0, np.int64)
    for start in range(0, len(join), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(join)))
        for first in range(0, len(kept), WIDE_BLOCK):
            i, j = join.candidates(kept[first : first + WIDE_BLOCK], rows)
            i, j = i[kept_for[j] == j], j[kept_for[j] == j]
            if len(i) > _MANY * BLOCK:
                i, j = join.fewer(i, j)
            same = join.reach(i, j)
            np.minimum.at(kept_for, j[same], i[same])
        i, j = join.candidates(rows, rows)
        if len(i) > _MANY * BLOCK:
            i, j = join.fewer(i, j)
        for row, others in _by_row(i, j):
            if kept_for[row] == row:
                others = others[kept_for[others] == others]
                kept_for[others[join.reach(np.full(len(others), row), others)]] = row
        kept = np.concatenate([kept, rows[kept_for[rows] == rows]])
    return kept_for


def _by_row(i: Indices, j: Indices) -> Iterator[tuple[int, Indices]]:
    """Each of the rows i, which are together, with its partners."""
    starts = np.flatnonzero(np.diff(i, prepend=-1))
    yield from zip(i[starts].tolist(), np.split(j, starts[1:]), strict=False)


def _clusters(join: _Join, kept_for: Indices) -> Iterator[Cluster]:
    sizes = np.bincount(kept_for, minlength=len(kept_for))
    order = np.argsort(kept_for, kind="stable")
    order = order[sizes[kept_for[order]] > 1]
    for row, others in _by_row(kept_for[order], order):
        yield Cluster(row, len(others), _smallest(join, others))


def _smallest(join: _Join, members: Indices) -> float:
    """Exact similarity of the two rows that are least alike."""
    least = np.inf
    for start in range(0, len(members), BLOCK):
        for other in range(start, len(members), BLOCK):
            sides = (members[start : start + BLOCK], members[other : other + BLOCK])
            score = np.zeros([len(side) for side in sides])
            parts = zip(join.rows.stored, join.rows.squares, join.blend.weights, strict=True)
            for stored, squares, weight in parts:
                x, y = (stored[side].astype(np.float64) for side in sides)
                a, b = (squares[side] for side in sides)
                score += weight * scaled(x @ y.T, a[:, None], b)
            least = min(least, float(score.min()))
    return least
