"""Pseudo-values: those of a mean are the scores; those of other metrics vary as the metric does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score

from genkt.metrics import (
    balanced_accuracy,
    blocked_pseudo_values,
    class_counts,
    macro_f1,
    mean_iou,
    paired_interval,
    pseudo_values,
)
from genkt.metrics.jackknife import ratio_pseudo_values
from genkt.types import UserError

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2, 5], [40, 30, 20, 10])
PREDICTED = np.where(RNG.random((4, 100)) < 0.8, LABELS, (LABELS + 1) % 3)


def test_pseudo_values_of_a_mean_are_the_scores() -> None:
    scores = RNG.random((3, 20))
    sums = np.stack([scores, np.ones_like(scores)], axis=-1)
    found = pseudo_values(sums, lambda each: each[..., 0] / each[..., 1])
    np.testing.assert_allclose(found, scores)
    by_block = blocked_pseudo_values(lambda draw, kept: scores[draw, kept].mean(), 3, 20)
    np.testing.assert_allclose(by_block, scores)


def test_class_metrics_are_those_of_scikit_learn() -> None:
    sums = class_counts(LABELS, PREDICTED).sum(axis=-2)
    for draw, predicted in enumerate(PREDICTED):
        answers = {"y_true": LABELS, "y_pred": predicted}
        assert balanced_accuracy(sums)[draw] == pytest.approx(balanced_accuracy_score(**answers))
        each = {"labels": np.unique(LABELS), "average": "macro"}
        assert macro_f1(sums)[draw] == pytest.approx(f1_score(**answers, **each))
        assert mean_iou(sums)[draw] == pytest.approx(jaccard_score(**answers, **each))


@pytest.mark.parametrize("metric", [balanced_accuracy, macro_f1, mean_iou])
def test_pseudo_values_leave_one_image_out(metric) -> None:  # type: ignore[no-untyped-def]
    counts = class_counts(LABELS, PREDICTED)
    found = pseudo_values(counts, metric)
    whole = metric(counts.sum(axis=-2))
    np.testing.assert_allclose(found.mean(axis=-1), whole)  # centred on the metric itself
    without = metric(np.delete(counts, 17, axis=-2).sum(axis=-2))
    others = np.mean([metric(np.delete(counts, i, axis=-2).sum(axis=-2)) for i in range(100)], 0)
    np.testing.assert_allclose(found[:, 17], whole + 99 * (others - without))


def test_the_spread_is_that_of_the_metric() -> None:
    # Balanced accuracy of one draw: variance sum over classes of acc (1 - acc) / n / C^2
    labels = np.repeat([0, 1], [300, 60])
    right = np.random.default_rng(3).random((1, 360)) < np.where(labels, 0.6, 0.9)
    values = pseudo_values(
        class_counts(labels, np.where(right, labels, 1 - labels)), balanced_accuracy
    )
    shares = [right[0, labels == each].mean() for each in (0, 1)]
    expected = sum(p * (1 - p) / n for p, n in zip(shares, (300, 60), strict=True)) / 4
    assert values.var(ddof=1) / 360 == pytest.approx(expected, rel=0.03)


def test_an_interval_of_balanced_accuracy() -> None:
    worse = np.where(RNG.random((4, 100)) < 0.7, PREDICTED, (LABELS + 1) % 3)
    values = [
        pseudo_values(class_counts(LABELS, each), balanced_accuracy) for each in (PREDICTED, worse)
    ]
    found = paired_interval(*values, pseudo=True)
    gap = np.mean([
        balanced_accuracy_score(LABELS, a) - balanced_accuracy_score(LABELS, b)
        for a, b in zip(PREDICTED, worse, strict=True)
    ])  # fmt: skip
    assert found.mean == pytest.approx(gap) and found.low < gap < found.high and found.p < 0.05


def test_blocks_are_spread_over_the_list() -> None:
    seen: list[np.ndarray] = []

    def metric(draw: int, kept: np.ndarray) -> float:
        seen.append(kept)
        return float(kept.size)

    assert blocked_pseudo_values(metric, 1, 100, blocks=40).shape == (1, 40)
    assert seen[0].size == 100
    assert set(np.arange(100)) - set(seen[1]) == {0, 40, 80}
    assert blocked_pseudo_values(metric, 2, 12, blocks=40).shape == (2, 12)
    assert blocked_pseudo_values(metric, 1, 6, groups=list("aabbcc")).shape == (1, 3)


def test_groups_of_different_sizes() -> None:
    scores = np.array([[1.0, 1, 0, 1, 0, 0]])
    found = ratio_pseudo_values(scores, list("xxxyyz"))
    # left out: x 1/3 of 3 left, y 2/4, z 3/5; the mean is 3/6
    left = np.array([1 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(found[0], 0.5 + 2 * (left.mean() - left))


def test_an_undefined_metric_is_told() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    counts = class_counts(labels, labels[None])
    with pytest.raises(UserError, match=r"without image .* 4 .*two or more of every class"):
        pseudo_values(counts, balanced_accuracy)
    with pytest.raises(UserError, match="finite metric"):
        blocked_pseudo_values(lambda draw, kept: math.nan, 1, 5)
    with pytest.raises(UserError, match=r"got \[5\] and \[1, 4\]"):
        class_counts(labels, labels[None, :4])
