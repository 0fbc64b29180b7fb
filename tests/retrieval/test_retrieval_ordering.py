"""Orderings against the paper's words, and how deep a search must go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from search_cases import Case, case, draw

from genkt.io import derive_seed
from genkt.retrieval.search.nearest import ArrayGallery, Ranked, merge, nearest
from genkt.retrieval.search.ordering import (
    NO_QUERY,
    Ordering,
    best_matches,
    multiplied,
    query_balanced,
    random_order,
)
from genkt.retrieval.search.selection import count_different, guess_k, select

WORLDS = st.builds(
    case, num_rows=st.integers(1, 60), num_queries=st.integers(1, 6), seed=st.integers(0, 999),
    levels=st.sampled_from([None, 1, 2]), num_encoders=st.integers(1, 2),
)  # fmt: skip


def ids(num_queries: int) -> list[str]:
    return [f"query {number}" for number in range(num_queries)]


def ranked(small: Case, k: int) -> Ranked:
    return nearest(small.gallery, small.queries, k, weights=small.weights)


def balanced(small: Case, k: int, seed: int = 0) -> Ordering:
    return query_balanced(small.gallery, ranked(small, k), ids(len(small.queries[0])), seed)


def in_the_papers_words(
    lists: Sequence[Sequence[int]], num_images: int, priorities: Sequence[int]
) -> tuple[set[int], int]:
    """The retrieved set and k: 'find the smallest k for which the union of k-NN contains at least
    N unique images; if more, drop the k-th neighbor of randomly selected queries until the
    retrieved set has N images' - the queries being selected by ascending priority."""
    k = 1
    while len({row for rows in lists for row in rows[:k]}) < num_images:
        k += 1
    neighbours = [list(rows[:k]) for rows in lists]
    for query in sorted(range(len(lists)), key=lambda query: priorities[query]):
        if len({row for rows in neighbours for row in rows}) == num_images:
            break
        del neighbours[query][k - 1]
    return {row for rows in neighbours for row in rows}, k


@settings(max_examples=80, deadline=None)
@given(small=WORLDS, seed=st.integers(0, 9), data=st.data())
def test_query_balanced_is_what_the_paper_says(small: Case, seed: int, data: st.DataObject) -> None:
    num_rows, num_queries = len(small.names), len(small.queries[0])
    num_images = data.draw(st.integers(1, num_rows))
    priorities = [derive_seed(seed, "query", name) for name in ids(num_queries)]
    expected, k_star = in_the_papers_words(small.lists(), num_images, priorities)
    k = data.draw(st.integers(k_star, num_rows + 2))
    ordering = balanced(small, k, seed)
    taken = ordering.take(num_images)
    assert set(taken.rows.tolist()) == expected and len(taken) == num_images
    assert taken.ranks[-1] == k_star == ordering.ranks[num_images - 1]
    assert math.ceil(num_images / num_queries) <= k_star <= num_images
    inner = {row for rows in small.lists() for row in rows[: k_star - 1]}
    assert inner <= expected  # every query's nearest k - 1
    for row, rank, query, score in zip(
        taken.rows, taken.ranks, taken.queries, taken.scores, strict=True
    ):
        assert small.lists()[query][rank - 1] == row and small.scores()[query, row] == score


@settings(max_examples=40, deadline=None)
@given(small=WORLDS, data=st.data())
def test_a_deeper_search_only_adds_rows(small: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(small.names)))
    short, long = balanced(small, k), balanced(small, k + data.draw(st.integers(0, 9)))
    assert np.array_equal(short.rows, long.take(len(short)).rows)
    assert np.array_equal(count_different(ranked(small, k)), [
        int((short.ranks <= depth).sum()) for depth in range(1, ranked(small, k).k + 1)
    ])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(small=WORLDS, k=st.integers(1, 20), data=st.data())
def test_the_order_of_queries_and_the_cuts_change_nothing(
    small: Case, k: int, data: st.DataObject
) -> None:
    num_queries, num_rows = len(small.queries[0]), len(small.names)
    order = data.draw(st.permutations(range(num_queries)))
    cut = data.draw(st.integers(0, num_rows))
    queries = [part[list(order)] for part in small.queries]
    parts = [
        nearest(small.gallery, queries, k, weights=small.weights, start=a, stop=b)
        for a, b in ((cut, num_rows), (0, cut))
    ]
    names = [ids(num_queries)[query] for query in order]
    moved = query_balanced(small.gallery, merge(small.gallery, parts, k), names, seed=0)
    still = balanced(small, k)
    assert np.array_equal(moved.rows, still.rows) and np.array_equal(moved.ranks, still.ranks)
    assert [order[query] for query in moved.queries] == still.queries.tolist()


@settings(max_examples=30, deadline=None)
@given(small=WORLDS, k=st.integers(1, 20))
def test_growing_scores_are_as_good(small: Case, k: int) -> None:
    lists = ranked(small, k)
    grown = Ranked(lists.rows, np.exp(3 * lists.scores))
    one, two = (query_balanced(small.gallery, each, ids(len(each.rows)), 0)
                for each in (lists, grown))  # fmt: skip
    assert np.array_equal(one.rows, two.rows)


@settings(max_examples=40, deadline=None)
@given(small=WORLDS, k=st.integers(1, 20), data=st.data())
def test_a_query_twice_asks_for_no_more(small: Case, k: int, data: st.DataObject) -> None:
    again = data.draw(st.integers(0, len(small.queries[0]) - 1))
    queries = tuple(np.concatenate([part, part[again : again + 1]]) for part in small.queries)
    doubled = replace(small, queries=queries)
    assert balanced(doubled, k).ranks.tolist() == balanced(small, k).ranks.tolist()


@settings(max_examples=40, deadline=None)
@given(small=WORLDS, data=st.data())
def test_another_seed_changes_only_the_last_rank(small: Case, data: st.DataObject) -> None:
    num_images = data.draw(st.integers(1, len(small.names)))
    taken = [balanced(small, num_images, seed).take(num_images) for seed in (0, 1)]
    last = taken[0].ranks[-1]
    inner = [set(each.rows[each.ranks < last].tolist()) for each in taken]
    assert inner[0] == inner[1] and taken[1].ranks[-1] == last


def test_seeds_do_choose() -> None:
    small = case(200, 30, 0, None)
    sets = {tuple(sorted(balanced(small, 5, seed).take(40).rows)) for seed in range(5)}
    assert len(sets) == 5


def test_equal_priorities_are_decided_by_id() -> None:
    gallery = ArrayGallery(draw(4, [3], 0), ["d", "c", "b", "a"])
    lists = Ranked(np.array([[0, 1], [2, 3]]), np.array([[0.9, 0.8], [0.7, 0.6]]))
    assert query_balanced(gallery, lists, ["same", "same"], seed=0).rows.tolist() == [2, 0, 3, 1]


@settings(max_examples=60, deadline=None)
@given(small=WORLDS, k=st.integers(1, 70))
def test_best_matches_come_by_their_best_score(small: Case, k: int) -> None:
    scores = small.scores().max(axis=0)
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], small.names[row]))
    found = best_matches(small.gallery, ranked(small, k))
    assert found.rows.tolist() == expected[: len(found)]
    assert np.array_equal(found.scores, scores[found.rows])
    assert np.array_equal(small.scores()[found.queries, found.rows], found.scores)
    assert len(found) == len(expected) or k < len(expected)


def test_what_is_not_listed_may_come_before_a_listed_row_of_equal_score() -> None:
    rows = np.eye(2, dtype=np.float16)
    gallery = ArrayGallery((rows[[0, 1, 0]],), ["a", "z", "b"])
    assert best_matches(gallery, nearest(gallery, (rows,), 1)).rows.tolist() in ([], [0])
    assert best_matches(gallery, nearest(gallery, (rows,), 3)).rows.tolist() == [0, 2, 1]


def test_random_order_is_one_of_ids() -> None:
    gallery = case(300, 1, 0).gallery
    found = random_order(gallery, 300, seed=3)
    assert sorted(found.rows.tolist()) == list(range(300))
    assert (found.queries == NO_QUERY).all() and np.isnan(found.scores).all()
    assert np.array_equal(random_order(gallery, 40, seed=3).rows, found.rows[:40])
    moved = random_order(ArrayGallery(gallery.arrays, gallery.names[::-1]), 40, seed=3)
    chosen = [gallery.names[row] for row in found.rows[:40]]
    assert [gallery.names[::-1][row] for row in moved.rows] == chosen
    assert random_order(gallery, 40, seed=4).rows.tolist() != found.rows[:40].tolist()
    assert len(random_order(gallery, 999, seed=3)) == 300


@settings(max_examples=40, deadline=None)
@given(small=WORLDS, first=st.integers(1, 5), data=st.data())
def test_selection_goes_as_deep_as_needed(small: Case, first: int, data: st.DataObject) -> None:
    num_rows = len(small.names)
    num_images, depths = data.draw(st.integers(1, num_rows)), list[int]()

    def scan(k: int) -> Ranked:
        depths.append(k)
        return ranked(small, k)

    for order in (
        lambda lists: query_balanced(small.gallery, lists, ids(len(lists.rows)), 0),
        lambda lists: best_matches(small.gallery, lists),
    ):
        found = select(num_rows, num_images, first, scan, order)
        whole = order(ranked(small, num_rows))
        assert np.array_equal(found.take(num_images).rows, whole.take(num_images).rows)
    assert max(depths) <= num_rows


@pytest.mark.parametrize("sort", [False, True])
def test_the_guess_is_near(sort: bool) -> None:
    arrays = draw(20_000, [6], 0)
    if sort:  # as a folder of classes is
        arrays = (arrays[0][np.argsort(arrays[0][:, 0])],)
    gallery = ArrayGallery(arrays, [f"{row:05d}" for row in range(20_000)])
    queries = draw(40, [6], 1)
    for num_images in (500, 4000):
        k = guess_k(gallery, queries, num_images)
        found = query_balanced(gallery, nearest(gallery, queries, k), ids(40), 0)
        assert len(found) >= num_images
        assert k <= 1.8 * found.ranks[num_images - 1]


def test_the_guess_goes_deep_where_all_queries_want_the_same() -> None:
    arrays = draw(20_000, [6], 0)
    gallery = ArrayGallery(arrays, [f"{row:05d}" for row in range(20_000)])
    queries = (np.repeat(draw(1, [6], 1)[0], 40, axis=0),)
    assert 2000 <= guess_k(gallery, queries, 2000) <= 1.8 * 2000


def test_a_guess_is_within_its_bounds() -> None:
    small = case(30, 4, 0, None)
    assert guess_k(small.gallery, small.queries, 1, weights=small.weights) >= 1
    assert guess_k(small.gallery, small.queries, 30, weights=small.weights) <= 30
    with refused("gallery"):
        guess_k(ArrayGallery(draw(0, [3], 0), []), draw(2, [3], 0), 1)


def test_shortage_is_an_error_unless_all_are_wanted() -> None:
    ordering = balanced(case(12, 2, 0), 12)
    with refused(13, 12):
        ordering.take(13)
    assert len(ordering.take(13, on_shortage="all")) == 12 and len(ordering.take(5)) == 5


def test_the_rest() -> None:
    assert [multiplied(10, j) for j in (1, 2, 3)] == [10, 30, 70]
    with refused(key="query ids", got=1):
        query_balanced(case(5, 2, 0).gallery, ranked(case(5, 2, 0), 2), ["a"], 0)
