"""Flips between two classifiers, against a slow count sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.metrics.flips import confusion, flips, histogram_entropy
from genkt.types import Prediction


def answers(labels: list[int], predicted: list[int], num_classes: int) -> Prediction:
    probabilities = torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).float()
    ids = tuple(f"sample/{index}" for index in range(len(labels)))
    return Prediction(ids, torch.tensor(labels), probabilities)


def test_flips_by_hand() -> None:
    labels = [0, 0, 1, 1, 2]
    change = flips(answers(labels, [0, 1, 0, 1, 2], 3), answers(labels, [0, 0, 1, 0, 2], 3))
    assert change.gained.tolist() == [False, True, True, False, False]
    assert change.lost.tolist() == [False, False, False, True, False]
    assert (change.positive, change.negative) == (0.4, 0.2)
    assert change.gained_by_class.tolist() == [1, 1, 0]
    assert change.lost_by_class.tolist() == [0, 1, 0]


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_flips_match_a_slow_count(num_samples: int, num_classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, a, b = generator.integers(0, num_classes, (3, num_samples)).tolist()
    first, second = answers(labels, a, num_classes), answers(labels, b, num_classes)
    change = flips(first, second)
    for index in range(num_classes):
        rows = [row for row in range(num_samples) if labels[row] == index]
        gained = sum(a[row] != labels[row] and b[row] == labels[row] for row in rows)
        lost = sum(a[row] == labels[row] and b[row] != labels[row] for row in rows)
        assert (change.gained_by_class[index], change.lost_by_class[index]) == (gained, lost)
    assert change.net == pytest.approx(second.accuracy - first.accuracy)
    back = flips(second, first)
    assert (back.positive, back.negative) == (change.negative, change.positive)


def test_confusion_rows_are_true_classes() -> None:
    matrix = confusion(answers([0, 0, 1, 2], [0, 2, 1, 0], 3))
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_entropy_of_histograms() -> None:
    assert histogram_entropy(np.array([7, 0, 0])) == 0
    assert histogram_entropy(np.array([3, 3, 3])) == pytest.approx(math.log(3))
    assert histogram_entropy(np.zeros(3, np.int64)) == 0


def test_different_samples_are_refused() -> None:
    first = answers([0, 1], [0, 1], 2)
    other = Prediction(("x", "y"), first.labels, first.probabilities)
    with refused(key="flips"):
        flips(first, other)
    with refused(key="flips"):
        empty = Prediction((), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
        flips(empty, empty)
