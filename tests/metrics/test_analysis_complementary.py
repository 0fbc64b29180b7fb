"""Complementary knowledge, against slow counts sample by sample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.metrics.complementary import (
    TransferChange,
    class_means,
    flips_matrix,
    mean_cosine,
    top_classes,
    transfer_change,
)
from genkt.metrics.flips import flips_of, histogram_entropy

seeds = st.integers(0, 2**31)


def drawn(num_models: int, num_samples: int, num_classes: int, seed: int) -> tuple[np.ndarray, ...]:
    """Whether each model is right, and the labels."""
    generator = np.random.default_rng(seed)
    right = generator.random((num_models, num_samples)) < generator.random((num_models, 1))
    return right, generator.integers(0, num_classes, num_samples)


@given(st.integers(1, 5), st.integers(1, 40), seeds)
@settings(max_examples=40, deadline=None)
def test_the_matrix_of_flips_is_a_slow_count(num_models: int, num_samples: int, seed: int) -> None:
    right, _ = drawn(num_models, num_samples, 2, seed)
    found = flips_matrix(right)
    for a, b in itertools.product(range(num_models), repeat=2):
        slow = sum(not right[a, i] and right[b, i] for i in range(num_samples)) / num_samples
        assert found[a, b] == pytest.approx(slow, abs=1e-15)
        difference = right[b].mean() - right[a].mean()
        assert found[a, b] - found[b, a] == pytest.approx(difference, abs=1e-12)
    assert not found.diagonal().any()
    assert (found + right.mean(axis=1)[:, None] <= 1 + 1e-12).all()  # within what is wrong


def test_the_matrix_by_hand_and_what_it_refuses() -> None:
    right = np.array([[1, 0, 0, 0], [0, 1, 1, 0]], bool)
    assert flips_matrix(right).tolist() == [[0.0, 0.5], [0.25, 0.0]]
    for wrong in (np.ones((2, 0), bool), np.ones(3, bool)):
        with refused("[models, samples >= 1]", key="flips"):
            flips_matrix(wrong)


@given(st.integers(1, 40), st.integers(1, 6), seeds)
@settings(max_examples=40, deadline=None)
def test_entropy_lies_between_one_class_and_all(n: int, num_classes: int, seed: int) -> None:
    right, labels = drawn(2, n, num_classes, seed)
    counts = flips_of(right[0], right[1], labels, num_classes).gained_by_class
    found = histogram_entropy(counts)
    shares = [count / counts.sum() for count in counts.tolist() if count]
    assert found == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-12)
    assert 0 <= found <= math.log(num_classes) + 1e-12
    assert counts.sum() == pytest.approx(flips_matrix(right)[0, 1] * n)


def slow_top(flips: list[int], sizes: list[int], percent: float) -> list[int]:
    """Classes one after the other, until they hold enough."""
    rest = [index for index in range(len(flips)) if flips[index]]
    taken: list[int] = []
    while rest and sum(flips[index] for index in taken) < percent / 100 * sum(flips) - 1e-9:
        best = max(rest, key=lambda index: (flips[index] / sizes[index], flips[index], -index))
        rest.remove(best)
        taken.append(best)
    return taken


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    st.sampled_from([0.0, 2.0, 5.0, 12.5, 50.0, 80.0, 100.0]),
)
@settings(max_examples=80, deadline=None)
def test_top_classes_are_the_fewest_that_hold_so_many(
    classes: list[tuple[int, int]], percent: float
) -> None:
    flips = [count for count, _ in classes]
    sizes = [max(count + more, 1) for count, more in classes]
    found = top_classes(np.array(flips), np.array(sizes), percent).tolist()
    assert found == slow_top(flips, sizes, percent)
    held = sum(flips[index] for index in found)
    assert 100 * held >= percent * sum(flips)
    if found:
        assert 100 * (held - flips[found[-1]]) < percent * sum(flips)


def test_ties_go_to_more_flips_then_to_the_smaller_index() -> None:
    flips, sizes = np.array([2, 2, 4, 0]), np.array([4, 4, 8, 4])
    assert top_classes(flips, sizes, 100).tolist() == [2, 0, 1]
    assert top_classes(flips, sizes, 50).tolist() == [2]
    assert top_classes(flips, sizes, 51).tolist() == [2, 0]
    assert top_classes(np.zeros(3, np.int64), np.ones(3, np.int64), 100).size == 0
    assert top_classes(np.array([0, 1]), np.array([0, 1]), 100).tolist() == [1]  # a class without
    with refused("top classes"):
        top_classes(np.array([3]), np.array([2]), 50)
    with refused(key="top classes", got="101"):
        top_classes(flips, sizes, 101)


@given(st.integers(2, 6), st.integers(1, 5), seeds)
@settings(max_examples=40, deadline=None)
def test_mean_cosine_is_the_mean_over_pairs(rows: int, width: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, width))
    slow = [
        float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
        for a, b in itertools.combinations(values, 2)
    ]
    found = mean_cosine(values)
    assert found == pytest.approx(sum(slow) / len(slow), abs=1e-12)
    stretched = values * np.random.default_rng(seed).uniform(0.1, 9, (rows, 1))
    assert mean_cosine(stretched) == pytest.approx(found, abs=1e-12)
    assert mean_cosine(np.repeat(values[:1], rows, axis=0)) == pytest.approx(1)


def test_mean_cosine_where_there_is_little() -> None:
    assert math.isnan(mean_cosine(np.ones((1, 3)))) and math.isnan(mean_cosine(np.ones((0, 3))))
    assert mean_cosine(np.array([[0.0, 0.0], [1.0, 1.0]])) == 0
    with refused("finite", key="class similarity"):
        mean_cosine(np.array([[math.nan], [1.0]]))


def test_class_means_with_a_class_that_has_no_samples() -> None:
    found = class_means(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]]), np.array([0, 0, 2]), 3)
    assert found[[0, 2]].tolist() == [[2.0, 3.0], [5.0, 5.0]] and np.isnan(found[1]).all()


def changed(seed: int, n: int = 30, num_classes: int = 4) -> tuple[np.ndarray, TransferChange]:
    right, labels = drawn(3, n, num_classes, seed)
    return labels, transfer_change(right[0], right[1], right[2], labels, num_classes)


@given(st.integers(1, 40), st.integers(1, 5), seeds)
@settings(max_examples=40, deadline=None)
def test_a_transfer_is_a_slow_count(n: int, num_classes: int, seed: int) -> None:
    (before, after, teacher), labels = drawn(3, n, num_classes, seed)
    found = transfer_change(before, after, teacher, labels, num_classes)
    assert found.change.net == pytest.approx(after.mean() - before.mean(), abs=1e-12)
    for index in range(num_classes):
        mine = [i for i in range(n) if labels[i] == index]
        offered = [i for i in mine if not before[i] and teacher[i]]
        taken = [i for i in offered if after[i]]
        assert (found.offered[index], found.taken[index]) == (len(offered), len(taken))
        rate = found.rate_of(np.array([index]))
        if offered:
            assert rate == len(taken) / len(offered)
        else:
            assert math.isnan(rate)
    for percent in (2.0, 50.0, 100.0):
        rate = found.top_rate(percent)
        assert math.isnan(rate) if not found.offered.sum() else 0 <= rate <= 1
    if found.offered.sum():
        assert found.top_rate(100.0) == found.rate


def test_what_is_transferred_decides_the_rate() -> None:
    """Unlike the released script: nothing taken over is 0, also in the first classes."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    before, teacher = np.zeros(6, bool), np.array([1, 1, 1, 1, 0, 0], bool)
    none = transfer_change(before, before, teacher, labels, 2)
    assert none.rate == none.top_rate(2.0) == 0
    assert transfer_change(before, teacher, teacher, labels, 2).rate == 1
    first = np.array([1, 1, 0, 0, 1, 1], bool)  # and what the teacher has wrong is its own
    found = transfer_change(before, first, teacher, labels, 2)
    assert found.rate == 0.5 and found.top_rate(2.0) == pytest.approx(2 / 3)
    assert found.change.positive == pytest.approx(4 / 6)


def test_other_samples_are_refused() -> None:
    with refused(key="transfer", got=[2, 3]):
        transfer_change(np.ones(2, bool), np.ones(3, bool), np.ones(2, bool), np.zeros(2, int), 1)
    nothing = np.ones(0, bool)
    with refused(key="transfer", got=[0]):
        transfer_change(nothing, nothing, nothing, np.zeros(0, int), 1)
