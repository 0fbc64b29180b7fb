"""Near copies against brute force over the full matrix."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused
from scipy.sparse.csgraph import connected_components
from search_cases import cosine, draw, unit

from genkt.retrieval.search import duplicates
from genkt.retrieval.search.duplicates import NearCopies, near_duplicates

CASES: dict[str, Any] = dict(
    num_rows=st.integers(0, 50), num_encoders=st.integers(1, 3), seed=st.integers(0, 999),
    levels=st.sampled_from([None, 1]), threshold=st.sampled_from([0.3, 0.8, 0.95, 1.0]),
    blocks=st.tuples(st.integers(1, 60), st.integers(1, 60)), many=st.sampled_from([0, 1, 99]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip


def scores(features: tuple[NDArray[np.float16], ...], weights: list[float]) -> NDArray[np.float64]:
    shares = np.array(weights) / np.sum(weights)
    return sum(w * cosine(part, part) for w, part in zip(shares, features, strict=True))  # type: ignore[return-value]


def found_in_blocks(
    features: tuple[NDArray[np.float16], ...], weights: list[float], threshold: float, mode: Any,
    blocks: tuple[int, int], many: int, dtype: torch.dtype,
) -> NearCopies:  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", blocks[0])
        patch.setattr(duplicates, "WIDE_BLOCK", blocks[1])
        patch.setattr(duplicates, "_MANY", many)
        patch.setattr(duplicates, "quick_dtype", lambda: dtype)
        return near_duplicates(features, threshold, weights=weights, mode=mode)


def world(
    num_rows: int, num_encoders: int, seed: int, levels: int | None
) -> tuple[tuple[NDArray[np.float16], ...], list[float]]:
    weights = np.random.default_rng(seed).uniform(0.3, 1, num_encoders).tolist()
    return draw(num_rows, [2 + encoder for encoder in range(num_encoders)], seed, levels), weights


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_components_equal_those_of_the_full_matrix(
    num_rows: int, num_encoders: int, seed: int, levels: int | None, threshold: float,
    blocks: tuple[int, int], many: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    features, weights = world(num_rows, num_encoders, seed, levels)
    found = found_in_blocks(features, weights, threshold, "components", blocks, many, dtype)
    alike = scores(features, weights)
    _, labels = connected_components(alike >= threshold - 1e-6)
    heads = [int(np.flatnonzero(labels == label)[0]) for label in labels]
    assert found.kept_for.tolist() == heads
    assert found.keep.tolist() == [head == row for row, head in enumerate(heads)]
    clusters = {head: np.flatnonzero(found.kept_for == head) for head in sorted(set(heads))}
    expected = [
        (head, len(rows), alike[np.ix_(rows, rows)].min())
        for head, rows in clusters.items() if len(rows) > 1
    ]  # fmt: skip
    assert [(each.row, each.size) for each in found.clusters] == [each[:2] for each in expected]
    smallest = [each.smallest for each in found.clusters]
    assert smallest == pytest.approx([each[2] for each in expected], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_leaders_equal_the_slow_ones(
    num_rows: int, num_encoders: int, seed: int, levels: int | None, threshold: float,
    blocks: tuple[int, int], many: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    features, weights = world(num_rows, num_encoders, seed, levels)
    found = found_in_blocks(features, weights, threshold, "leader", blocks, many, dtype)
    alike = scores(features, weights) >= threshold - 1e-6
    expected, kept = [], list[int]()
    for row in range(num_rows):
        earlier = [other for other in kept if alike[row, other]]
        expected.append(earlier[0] if earlier else row)
        kept += [] if earlier else [row]
    assert found.kept_for.tolist() == expected


@pytest.mark.parametrize("mode", ["components", "leader"])
def test_copies_are_near_copies_and_zeros_are_not(mode: Any) -> None:
    rows = draw(50, [8], 0)[0].astype(np.float64)
    doubled = unit(np.concatenate([rows, 3 * rows]))
    kept = near_duplicates((doubled,), 1.0, mode=mode).keep
    assert kept.tolist() == [True] * 50 + [False] * 50
    zeros = np.zeros((3, 4), np.float16)
    assert near_duplicates((zeros,), 0.5, mode=mode).keep.all()


def test_a_chain_is_one_component_but_not_one_leader() -> None:
    angles = np.deg2rad(np.arange(0, 90, 5))
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    chain = near_duplicates((rows,), np.cos(np.deg2rad(7)))
    (cluster,) = chain.clusters
    assert (cluster.row, cluster.size) == (0, 18)
    assert cluster.smallest == pytest.approx(np.cos(np.deg2rad(85)), abs=1e-3)
    leaders = near_duplicates((rows,), np.cos(np.deg2rad(7)), mode="leader")
    assert np.flatnonzero(leaders.keep).tolist() == list(range(0, 18, 2))


def test_the_first_of_a_cluster_is_kept_whatever_the_weights_add_up_to() -> None:
    features = draw(30, [4, 5], 0)
    order = np.concatenate([np.arange(30), np.arange(30)[::-1]])
    again = tuple(part[order] for part in features)
    for weights in ([1.0, 1.0], [0.1, 0.2], [5.0, 3.0]):
        found = near_duplicates(again, 1.0, weights=weights)
        assert found.kept_for.tolist() == [*range(30), *range(29, -1, -1)]


def test_a_crowd_of_copies_needs_little_memory_and_few_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.concatenate([np.repeat(draw(1, [16], 0)[0], 3000, axis=0), draw(500, [16], 1)[0]])
    scored = list[int]()
    real = duplicates._Join.reach

    def counted(self: Any, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.bool_]:
        scored.append(len(i))
        return real(self, i, j)

    monkeypatch.setattr(duplicates._Join, "reach", counted)
    monkeypatch.setattr(duplicates, "BLOCK", 256)
    monkeypatch.setattr(duplicates, "WIDE_BLOCK", 256)
    for mode in ("components", "leader"):
        scored.clear()
        tracemalloc.start()
        found = near_duplicates((rows,), 0.99, mode=mode)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.clusters[0].size == 3000 and found.clusters[0].smallest == 1.0
        assert peak < 8e6  # all pairs of the crowd would be 7e7 bytes
        assert sum(scored) < 20_000 and len(scored) < 500  # of 4.5 million pairs


def test_threads_change_nothing() -> None:
    features = draw(3000, [4, 5], 0)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(near_duplicates(features, 0.99))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0].kept_for, found[1].kept_for)
    assert found[0].clusters == found[1].clusters and found[0].clusters


def test_errors() -> None:
    (rows,) = draw(4, [3], 0)
    for threshold in (0.0, 1.1, float("nan")):
        with refused(key="duplicates"):
            near_duplicates((rows,), threshold)
    with refused(key="features", got="2"):
        near_duplicates((2 * rows,), 0.9)
    with refused(key="weights", got=[1.0, 2.0]):
        near_duplicates((rows,), 0.9, weights=[1.0, 2.0])
