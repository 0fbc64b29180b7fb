"""Candidates of an exact search: the pairs of query and row that quick scores cannot rule out.

Each query has a bar: the quick score below which a row cannot be among its K best. Blocks propose
the pairs that reach it, what was proposed raises it. Nothing else is ever stored, so memory is
that of the K best of each query, whatever the size of the gallery.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.retrieval.search.scoring import (
    Blend,
    Rounding,
    Stored,
    StoredRows,
    quick_dtype,
    rounding,
    units,
)
from genkt.types import UserError

_QUERIES = 1024
"""Queries scored at once."""
_ROOM = 1 << 18  # pairs that are kept before any are sorted out, beside 4 K per query


class CandidatePairs:
    """Pairs found so far and the bars of the queries.

    Args:
        num_queries: Q.
        k: K.
        rounding: of the quick scores.
    """

    def __init__(self, num_queries: int, k: int, rounding: Rounding) -> None:
        self.k, self.rounding = k, rounding
        self.bars = np.full(num_queries, -np.inf)
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._count = 0
        self._room = 4 * num_queries * k + _ROOM
        self.is_crowded = False
        """Whether many pairs stay that quick scores cannot tell apart: time for exact ones."""

    def add(self, queries: NDArray[Any], rows: NDArray[Any], scores: NDArray[Any]) -> None:
        """Take in pairs with their quick scores, [P] each."""
        if len(queries):
            parts = (queries.astype(np.int32), rows.astype(np.int64), scores.astype(np.float32))
            self._parts.append(parts)
            self._count += len(queries)
        if self._count > self._room:
            self._sort_out()

    def raise_bars(self, kth: NDArray[np.floating[Any]], first: int = 0, *, exact: bool) -> None:
        """Learn that queries from ``first`` on have K rows of at least these scores, [Q']."""
        bars = self.rounding.below(kth)
        part = self.bars[first : first + len(kth)]
        np.maximum(part, bars if exact else self.rounding.below(bars), out=part)

    def take(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Queries and rows of all pairs, by row; none are left here."""
        self._sort_out()
        queries, rows, _ = self._parts[0]
        order = np.argsort(rows, kind="stable")
        self._parts, self._count, self.is_crowded = [], 0, False
        return queries[order].astype(np.int64), rows[order]

    def _sort_out(self) -> None:
        """Raise the bars to what the pairs allow, drop pairs below."""
        empty = (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))
        queries, rows, scores = (np.concatenate(p) for p in zip(empty, *self._parts, strict=True))
        order = np.argsort(queries * 4.0 - scores)
        queries, rows, scores = queries[order], rows[order], scores[order]
        starts = np.searchsorted(queries, np.arange(len(self.bars) + 1))
        enough = np.flatnonzero(np.diff(starts) >= self.k)
        kth = np.full(len(self.bars), -np.inf)
        kth[enough] = scores[starts[enough] + self.k - 1]
        self.raise_bars(kth, exact=False)
        keep = scores >= self.bars[queries]
        self._parts, self._count = [(queries[keep], rows[keep], scores[keep])], int(keep.sum())
        self.is_crowded = self._count > self._room // 2


class Proposer(Protocol):
    """Finds the pairs of a block that reach the bars."""

    rounding: Rounding

    def propose(self, block: Stored, start: int, candidates: CandidatePairs) -> None:
        """Add the pairs of rows start, start + 1 .. of the gallery."""
        ...


class ProductProposer:
    """Blocked matrix products: in bfloat16 where that is fast, else in float32."""

    def __init__(self, queries: StoredRows, blend: Blend) -> None:
        self._dtype = quick_dtype()
        self._reduce = blend.reduce
        weighted = blend.on_queries([units(part) for part in queries.stored])
        quick = [part.to(self._dtype) for part in weighted]
        lost = [
            float(torch.linalg.vector_norm(part - low.float(), dim=1).max()) if len(part) else 0.0
            for part, low in zip(weighted, quick, strict=True)
        ]
        self._widths = [part.shape[1] for part in quick]
        self._queries = torch.cat(quick, dim=1)
        error = sum(lost) if blend.reduce == "mean" else max(lost)
        self.rounding = rounding(sum(self._widths), self._dtype, error)

    def propose(self, block: Stored, start: int, candidates: CandidatePairs) -> None:
        """As ``Proposer.propose``."""
        rows = torch.cat([units(part).to(self._dtype) for part in block], dim=1)
        for first in range(0, len(self._queries), _QUERIES):
            scores = self._scores(self._queries[first : first + _QUERIES], rows)
            bars = candidates.bars[first : first + _QUERIES]
            if len(rows) >= candidates.k and np.isneginf(bars).any():
                kth = scores.topk(candidates.k, dim=1).values[:, -1]
                candidates.raise_bars(kth.float().numpy(), first, exact=False)
            queries, found = reaching(scores, bars)
            quick = scores[torch.from_numpy(queries), torch.from_numpy(found)].float().numpy()
            candidates.add(first + queries, start + found, quick)

    def _scores(self, queries: Tensor, rows: Tensor) -> Tensor:
        if self._reduce == "mean":
            return queries @ rows.T
        parts = (torch.split(side, self._widths, dim=1) for side in (queries, rows))
        return torch.stack([a @ b.T for a, b in zip(*parts, strict=True)]).amax(dim=0)


def reaching(
    scores: Tensor, bars: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each element of [Q, N] that is at least its row's bar, or slightly less."""
    floors = np.nextafter(bars.astype(np.float32), np.float32(-np.inf))
    if scores.dtype == torch.bfloat16:
        # Positive floats are ordered as the integers of the same bits, and integers are compared
        # six times faster. Where the bar is not above 0 every element is let through.
        bits = floors.view(np.int32) >> 16
        limits = np.where(floors > 0, bits, np.iinfo(np.int16).min).astype(np.int16)
        hits = scores.view(torch.int16).numpy() >= limits[:, None]
    else:
        hits = scores.numpy() >= floors[:, None]
    flat = np.flatnonzero(hits)
    rows, columns = np.divmod(flat, max(1, scores.shape[1]))
    return rows, columns


class FaissProposer:
    """``faiss.knn`` in float32 on every block, asked for more where rounding could matter."""

    def __init__(self, queries: StoredRows, blend: Blend) -> None:
        try:
            import faiss
        except ImportError as error:
            raise UserError(
                "backend=faiss: expected the package faiss; pip install 'genkt[faiss]', "
                "or use backend=torch, which gives the same"
            ) from error
        if blend.reduce != "mean":
            raise UserError.of("backend=faiss", "reduce=mean", blend.reduce)
        self._faiss = faiss
        weighted = blend.on_queries([units(part) for part in queries.stored])
        self._queries = torch.cat(weighted, dim=1).numpy()
        self.rounding = rounding(self._queries.shape[1], torch.float32)

    def propose(self, block: Stored, start: int, candidates: CandidatePairs) -> None:
        """As ``Proposer.propose``."""
        rows = torch.cat([units(part) for part in block], dim=1).numpy()
        below, k = self.rounding.below, min(candidates.k, len(rows))
        wanted = min(len(rows), k + 16)
        while True:
            scores, found = self._faiss.knn(
                self._queries, rows, wanted, metric=self._faiss.METRIC_INNER_PRODUCT
            )
            needed = np.maximum(candidates.bars, below(below(scores[:, k - 1])))
            if wanted == len(rows) or (scores[:, -1] < needed).all():
                break
            wanted = min(len(rows), 2 * wanted)
        queries, places = np.nonzero(scores >= needed[:, None])
        candidates.add(queries, start + found[queries, places], scores[queries, places])
