"""The search is exact: the same as plain arithmetic, whatever it is cut into."""

from __future__ import annotations

import builtins
import importlib
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused
from search_cases import Case, case, cosine, draw, unit

from genkt.retrieval.search import candidates
from genkt.retrieval.search.candidates import CandidatePairs
from genkt.retrieval.search.nearest import ArrayGallery, Ranked, merge, nearest
from genkt.retrieval.search.scoring import Blend, Rounding, StoredRows, rounding, unit_rows, units

search = importlib.import_module("genkt.retrieval.search.nearest")  # not its function
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module", autouse=True)
def small_rooms() -> Any:
    """Queries in small groups, candidates sorted out and scored all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_QUERIES", 3)
        patch.setattr(candidates, "_ROOM", 8)
        patch.setattr(search, "_BETWEEN", 40)
        yield


def equal(found: Ranked, of: Case, k: int, reduce: str = "mean") -> bool:
    lists = np.array([row[:k] for row in of.lists(reduce)])
    scores = np.take_along_axis(of.scores(reduce), lists, axis=1)
    return np.array_equal(found.rows, lists) and np.array_equal(found.scores, scores)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 120), num_queries=st.integers(1, 8), k=st.integers(1, 30),
    seed=st.integers(0, 999), levels=st.sampled_from([None, 1, 2]), num_encoders=st.integers(1, 3),
    block_rows=st.integers(1, 130), dtype=st.sampled_from(DTYPES),
    reduce=st.sampled_from(["mean", "max"]),
)  # fmt: skip
def test_it_equals_sorting_all_scores(
    num_rows: int, num_queries: int, k: int, seed: int, levels: int | None, num_encoders: int,
    block_rows: int, dtype: torch.dtype, reduce: Any,
) -> None:  # fmt: skip
    small = case(num_rows, num_queries, seed, levels, num_encoders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "quick_dtype", lambda: dtype)
        found = nearest(
            small.gallery, small.queries, k, weights=small.weights, reduce=reduce,
            block_rows=block_rows,
        )  # fmt: skip
    assert found.rows.shape == (num_queries, min(k, num_rows)) and found.rows.dtype == np.int64
    assert equal(found, small, k, reduce)


@settings(max_examples=25, deadline=None)
@given(
    num_rows=st.integers(1, 120), k=st.integers(1, 30), seed=st.integers(0, 999),
    levels=st.sampled_from([None, 1]), num_encoders=st.integers(1, 2),
    block_rows=st.integers(1, 130),
)  # fmt: skip
def test_faiss_finds_the_same(
    num_rows: int, k: int, seed: int, levels: int | None, num_encoders: int, block_rows: int
) -> None:
    pytest.importorskip("faiss")
    small = case(num_rows, 5, seed, levels, num_encoders)
    found = nearest(
        small.gallery, small.queries, k, weights=small.weights, block_rows=block_rows,
        backend="faiss",
    )  # fmt: skip
    assert equal(found, small, k)


@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(2, 100), k=st.integers(1, 20), seed=st.integers(0, 999),
    cuts=st.lists(st.integers(0, 100), max_size=5), data=st.data(),
)  # fmt: skip
def test_ranges_merge_in_any_order_and_grouping(
    num_rows: int, k: int, seed: int, cuts: list[int], data: st.DataObject
) -> None:
    small = case(num_rows, 4, seed)
    edges = sorted({0, num_rows, *(cut % num_rows for cut in cuts)})
    parts = [
        nearest(small.gallery, small.queries, k, weights=small.weights, start=a, stop=b)
        for a, b in pairwise(edges)
    ]
    parts = data.draw(st.permutations(parts))
    while len(parts) > 1:
        count = data.draw(st.integers(2, len(parts)))
        parts = [merge(small.gallery, parts[:count], k), *parts[count:]]
        parts = data.draw(st.permutations(parts))
    assert equal(parts[0], small, k)


def test_threads_change_nothing() -> None:
    small = case(3000, 50, 0, None, 2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(nearest(small.gallery, small.queries, 20, weights=small.weights))
    finally:
        torch.set_num_threads(before)
    assert equal(found[0], small, 20) and equal(found[1], small, 20)


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_a_crowd_of_copies_is_ordered_by_id(backend: Any) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    rows = np.concatenate([draw(50, [8], 1)[0], np.repeat(draw(1, [8], 0)[0], 900, axis=0)])
    names = tuple(f"{number:04d}" for number in np.random.default_rng(0).permutation(950))
    crowded = Case((rows,), names, (rows[-1:],), (1.0,))
    found = nearest(crowded.gallery, crowded.queries, 30, block_rows=64, backend=backend)
    assert equal(found, crowded, 30) and (found.scores == 1.0).all()
    chosen = [names[row] for row in found.rows[0]]
    assert chosen == sorted(names[50:])[:30]


def test_the_order_of_the_rows_changes_nothing() -> None:
    small = case(80, 5, 3)
    found = nearest(small.gallery, small.queries, 20)
    order = np.random.default_rng(1).permutation(80)
    names = tuple(small.names[row] for row in order)
    moved = nearest(ArrayGallery((small.arrays[0][order],), names), small.queries, 20)
    ids = [[[of[row] for row in rows] for rows in each.rows]
           for of, each in ((small.names, found), (names, moved))]  # fmt: skip
    assert ids[0] == ids[1] and np.array_equal(found.scores, moved.scores)


def test_a_row_is_nearest_to_itself_and_zeros_to_none() -> None:
    rows = np.concatenate([draw(40, [16], 0)[0], np.zeros((2, 16), np.float16)])
    found = nearest(ArrayGallery((rows,), [f"{row:02d}" for row in range(42)]), (rows,), 1)
    assert found.rows[:40, 0].tolist() == list(range(40)) and (found.scores[:40] == 1.0).all()
    assert (found.scores[40:] == 0.0).all()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 300), seed=st.integers(0, 999), dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["normal", "few large", "all equal", "just above a power of two"]),
)  # fmt: skip
def test_quick_scores_err_less_than_their_bound(
    width: int, seed: int, dtype: torch.dtype, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(20, width))
    if kind == "few large":
        values *= 10 ** rng.uniform(-3, 0, size=values.shape)
    elif kind == "all equal":
        values = np.abs(rng.normal(size=(20, 1))) + np.zeros((20, width))
    elif kind == "just above a power of two":  # where bfloat16 rounds worst
        values = np.sign(values) * 2.0 ** rng.integers(-4, 0, values.shape) * (1 + 2.0**-8)
    rows = unit(values)
    low = units(rows).to(dtype)
    quick = (low @ low.T).float().numpy().astype(np.float64)
    exact = cosine(rows, rows)
    known = float(torch.linalg.vector_norm(units(rows) - low.float(), dim=1).max())
    for bound in (rounding(width, dtype), rounding(width, dtype, known)):
        assert (bound.below(exact) <= quick).all() and (bound.below(quick) <= exact).all()


@settings(max_examples=40, deadline=None)
@given(k=st.integers(1, 6), seed=st.integers(0, 999), step=st.integers(1, 30))
def test_no_candidate_is_lost_whatever_the_errors_within_the_bound(
    k: int, seed: int, step: int
) -> None:
    rng, bound = np.random.default_rng(seed), Rounding(0.1, 0.05)
    exact = rng.uniform(0, 1, (3, 60))
    error = 0.1 + 0.05 * exact
    quick = exact + rng.choice([-1, 1], exact.shape) * error * rng.choice([0.999, 0.5])
    pool = CandidatePairs(3, k, bound)
    for start in range(0, 60, step):
        for query in range(3):
            rows = np.arange(start, min(start + step, 60))
            rows = rows[quick[query, rows] >= pool.bars[query]]
            pool.add(np.full(len(rows), query), rows, quick[query, rows])
    queries, rows = pool.take()
    left = set(zip(queries.tolist(), rows.tolist(), strict=True))
    assert len(left) < 180 or k > 2
    for query in range(3):
        assert {(query, row) for row in np.argsort(-exact[query])[:k].tolist()} <= left


def test_exact_scores_do_not_depend_on_the_company() -> None:
    rows, blend = StoredRows(draw(700, [33, 20], 0)), Blend.of(2, [1, 2])
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, 700, (2, 2000))
    together = blend.exact(rows, i, rows, j)
    order = rng.permutation(2000)
    assert np.array_equal(blend.exact(rows, i[order], rows, j[order]), together[order])
    alone = [blend.exact(rows, i[n : n + 1], rows, j[n : n + 1])[0] for n in range(20)]
    assert alone == together[:20].tolist()


class Recorded:
    """A gallery that makes its rows when asked and remembers who asked for what."""

    num_rows = 200_000

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []

    def features(self, start: int, stop: int) -> tuple[NDArray[np.float16], ...]:
        self.reads.append((start, stop))
        return draw(stop - start, [16], start)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        return [str(row) for row in rows]


def test_memory_is_that_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_ROOM", 1 << 12)
    monkeypatch.setattr(search, "_BETWEEN", 1 << 16)
    gallery, peaks = Recorded(), []
    for stop in (50_000, gallery.num_rows):
        tracemalloc.start()
        nearest(gallery, draw(3, [16], 5), 5, stop=stop, block_rows=2048)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert max(stop - start for start, stop in gallery.reads) == 2048


def test_rows_of_any_length_are_made_unit() -> None:
    values = np.array([[3.0, -4.0], [0.0, 0.0], [6e4, 6e4]], dtype=np.float16)
    assert unit_rows(values).dtype == np.float16
    assert unit_rows(values) == pytest.approx(
        np.array([[0.6, -0.8], [0, 0], [0.5**0.5] * 2]), abs=4e-4
    )
    for wrong in (np.inf, np.nan):
        with refused(key="features"):
            unit_rows(np.array([[wrong, 1.0]]))


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    small = case(10, 2, 0, None, 2)
    gallery, queries = small.gallery, small.queries
    with refused(key="nearest", got="0 and 2048"):
        nearest(gallery, queries, 0)
    with refused(key="nearest", got=[4, 3]):
        nearest(gallery, queries[::-1], 1)
    with refused(key="nearest", got=[3]):
        nearest(gallery, queries[:1], 1)
    for weights in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        with refused(key="weights"):
            nearest(gallery, queries, 1, weights=weights)
    with refused(key="features", got="2"):
        nearest(gallery, [2 * queries[0], queries[1]], 1)
    with refused(key="features", got="nan"):
        nearest(ArrayGallery((small.arrays[0] * np.float16(np.nan),), small.names), queries[:1], 1)
    with refused(key="features", got=[[2, 3], [1, 4]]):
        nearest(gallery, [queries[0], queries[1][:1]], 1)
    pytest.importorskip("faiss")
    with refused(key="backend=faiss", got="max"):
        nearest(gallery, queries, 1, reduce="max", backend="faiss")
    one, two = (nearest(gallery, [q[:n] for q in queries], 3) for n in (1, 2))
    with refused("merge"):
        merge(gallery, [one, two], 3)
    with refused("merge"):
        merge(gallery, [one, one], 3)
    real = builtins.__import__

    def without_faiss(name: str, *rest: Any) -> Any:
        if name == "faiss":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with refused("genkt[faiss]"):
        nearest(gallery, queries, 1, backend="faiss")
