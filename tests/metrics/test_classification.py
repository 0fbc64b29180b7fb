"""Figures beyond accuracy: those of scikit-learn, and what each image brings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from genkt.metrics import (
    balanced_accuracy,
    class_counts,
    classification_metrics,
    macro_f1,
    majority,
    mean_interval,
    metric_values,
    pseudo_values,
    reliability,
    unbounded_interval,
    verdict,
)
from genkt.metrics.metric_values import CLASS_SCORES, class_mean_values
from genkt.metrics.scored_arms import DrawDesign, of_loss
from genkt.metrics.verdicts import spelled
from genkt.types import UserError

RNG = np.random.default_rng(0)
Array = NDArray[np.float64]


def answers(labels: NDArray[np.int64], num_classes: int, seed: int = 0) -> Array:
    """Probabilities that favour the true class."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), num_classes)) + 1.2 * np.eye(num_classes)[labels]
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def test_the_figures_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2, 3], [60, 30, 20, 10])
    shares = answers(labels, 4)
    found, predicted = classification_metrics(labels, shares), shares.argmax(axis=1)
    by_class = found.by_class
    assert by_class.accuracy == pytest.approx((predicted == labels).mean())
    assert by_class.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert by_class.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    np.testing.assert_allclose(by_class.precision, precision_score(labels, predicted, average=None))
    np.testing.assert_allclose(by_class.recall, recall_score(labels, predicted, average=None))
    assert by_class.images.tolist() == [60, 30, 20, 10]
    assert by_class.predicted.tolist() == np.bincount(predicted).tolist()
    assert found.nll == pytest.approx(log_loss(labels, shares))
    assert found.auroc is None


def test_two_classes_have_an_area_under_the_curve() -> None:
    labels = np.repeat([0, 1], [50, 20])
    shares = answers(labels, 2).round(1)  # with ties
    found = classification_metrics(labels, shares)
    assert found.auroc == pytest.approx(roc_auc_score(labels, shares[:, 1]))
    assert classification_metrics([0, 1], [[0.5, 0.5]] * 2).auroc == 0.5
    assert classification_metrics([0, 0], [[0.5, 0.5]] * 2).auroc is None  # one class only


def test_calibration_error_is_the_mean_gap_of_15_bins() -> None:
    labels = RNG.integers(0, 5, 300)
    shares = answers(labels, 5)
    sure, right, expected = shares.max(axis=1), shares.argmax(axis=1) == labels, 0.0
    for number in range(15):
        mine = (number / 15 < sure) & (sure <= (number + 1) / 15)
        if mine.any():
            expected += mine.mean() * abs(right[mine].mean() - sure[mine].mean())
    assert classification_metrics(labels, shares).ece == pytest.approx(expected)


def test_a_reliability_curve_by_hand() -> None:
    found = reliability([0.1, 0.5, 0.5, 0.51, 1.0], [0, 1, 0, 1, 1], num_bins=2)
    assert found.count.tolist() == [3, 2]  # an answer on an edge is in the lower bin
    np.testing.assert_allclose(found.confidence, [1.1 / 3, 0.755])
    np.testing.assert_allclose(found.accuracy, [1 / 3, 1.0])
    assert found.ece == pytest.approx((3 * (1.1 - 1) / 3 + 2 * 0.245) / 5)
    lonely = reliability([0.4], [1])
    assert np.isnan(lonely.accuracy).sum() == 14 and lonely.ece == pytest.approx(0.6)
    with refused("reliability", "[0] and [0]"):
        reliability([], [])


def test_a_class_without_an_image() -> None:
    shares = np.eye(4)[[0, 0, 1, 3, 0]]  # class 2 is never answered, class 3 has no image
    found = classification_metrics([0, 0, 1, 1, 2], shares).by_class
    np.testing.assert_allclose(found.recall, [1, 0.5, 0, np.nan])
    np.testing.assert_allclose(found.precision, [2 / 3, 1, np.nan, 0])
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert found.macro_f1 == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)


def test_a_single_class_and_probabilities_of_zero() -> None:
    found = classification_metrics([0, 0, 0], [[1.0], [1.0], [1.0]])
    assert found.as_dict() == {
        "accuracy": 1, "balanced_accuracy": 1, "macro_f1": 1, "nll": 0, "ece": 0, "auroc": None,
    }  # fmt: skip
    assert classification_metrics([1], [[1.0, 0.0]]).nll == pytest.approx(36.04, abs=0.01)


def test_the_most_common_class() -> None:
    labels = [2, 2, 1, 1, 0]
    found = majority(labels, 4)
    assert found.label == 1  # the first of those with two images
    assert found.by_class.accuracy == 0.4
    assert found.by_class.balanced_accuracy == pytest.approx(1 / 3)
    assert found.by_class.macro_f1 == pytest.approx(2 * 0.4 / 1.4 / 3)


def test_what_is_no_prediction_is_refused() -> None:
    for labels, shares in ([], np.zeros((0, 3))), ([0], [0.1, 0.9]), ([0, 1], [[0.5, 0.5]]):
        with refused("classification metrics", list(np.shape(shares))):
            classification_metrics(labels, shares)
    with refused("labels", "0 .. 1", -1):
        classification_metrics([0, -1], [[0.5, 0.5]] * 2)
    with refused("probabilities", "nan"):
        classification_metrics([0], [[np.nan, 0.5]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10_000))
def test_figures_are_bounded_and_do_not_depend_on_order_or_numbering(
    labels: list[int], seed: int
) -> None:
    truth = np.array(labels)
    shares, rng = answers(truth, 4, seed), np.random.default_rng(seed)
    order, numbering = rng.permutation(len(truth)), rng.permutation(4)
    renamed = np.empty_like(shares)
    renamed[:, numbering] = shares[order]
    found = classification_metrics(truth, shares).as_dict()
    again = classification_metrics(numbering[truth[order]], renamed).as_dict()
    assert found == pytest.approx(again)
    assert all(0 <= value <= 1 for name, value in found.items() if name != "nll" and value)
    assert found["nll"] is not None and found["nll"] >= 0


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_values_of_images_are_the_pseudo_values(num_classes: int, seed: int) -> None:
    """Of ``class_counts``, which needs memory for images times classes."""
    rng = np.random.default_rng(seed)
    labels = np.append(np.repeat(np.arange(num_classes - 1), 2), rng.integers(0, num_classes, 12))
    labels = labels[np.isin(labels, np.flatnonzero(np.bincount(labels) > 1))]
    predicted = rng.integers(0, num_classes, len(labels))
    counts = class_counts(labels, predicted)
    for name, metric in ("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1):
        values = class_mean_values(labels, predicted, CLASS_SCORES[name])
        np.testing.assert_allclose(values, pseudo_values(counts, metric), atol=1e-9)


def test_values_have_the_metric_as_their_mean() -> None:
    labels = np.repeat([0, 1], [50, 20])
    shares = answers(labels, 2).round(1)
    values, figures = metric_values(labels, shares), classification_metrics(labels, shares)
    assert values.keys() == {"accuracy", "nll", "balanced_accuracy", "macro_f1", "auroc"}
    expected = figures.as_dict()
    for name, each in values.items():
        assert each.shape == (70,) and each.mean() == pytest.approx(expected[name]), name


def test_values_of_the_area_leave_one_image_out() -> None:
    labels = np.repeat([0, 1], [6, 5])
    scores = answers(labels, 2).round(1)
    kept = [np.delete(np.arange(11), index) for index in range(11)]
    left = np.array([roc_auc_score(labels[rows], scores[rows, 1]) for rows in kept])
    expected = roc_auc_score(labels, scores[:, 1]) + 10 * (left.mean() - left)
    np.testing.assert_allclose(metric_values(labels, scores)["auroc"], expected)


def test_a_class_with_one_image_has_no_values_by_class() -> None:
    assert metric_values([0, 0, 1], [[0.6, 0.4]] * 3).keys() == {"accuracy", "nll"}
    # Two classes with images of three, so no area; and one class of two.
    assert "auroc" not in metric_values([0, 0, 1, 1], [[0.6, 0.3, 0.1]] * 4)
    assert "auroc" not in metric_values([0, 0], [[0.6, 0.4]] * 2)


def test_an_interval_of_a_loss_has_no_bounds() -> None:
    losses = np.random.default_rng(1).exponential(2.0, size=(4, 200))
    found = unbounded_interval(losses)
    assert found.kind == "mean" and found.mean == pytest.approx(losses.mean())
    assert 1 < found.low < found.mean < found.high and np.isnan(found.p)
    shares = losses.clip(0, 1)
    # As wide as that of a share, where this is far from its bounds.
    width = mean_interval(shares).high - mean_interval(shares).low
    free = unbounded_interval(shares)
    assert free.high - free.low == pytest.approx(width, rel=0.1)
    text = f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"
    assert spelled(found) == text
    with pytest.raises(UserError, match="mean of one arm"):
        verdict(found)
    scored = {(draw, 0): row for draw, row in enumerate(losses)}
    assert repr(of_loss(scored, DrawDesign())) == repr(found)
    assert of_loss({(0, 0): losses[0, :1]}, DrawDesign()) is None
