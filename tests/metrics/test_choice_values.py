"""What choices go by: values whose mean is the metric, whatever images there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkt.metrics import classification_metrics
from genkt.metrics.choice_values import SHOWN, Metric, choice_share, choice_values
from genkt.metrics.choices import chosen
from genkt.metrics.metric_values import metric_values

METRICS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy", "macro_f1", "nll")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10_000))
def test_the_mean_is_the_metric(labels: list[int], seed: int) -> None:
    """With classes that have one image, or none."""
    truth = np.array(labels)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(4), len(truth))
    figures = classification_metrics(truth, probabilities).as_dict()
    for metric in METRICS:
        values = choice_values(truth, probabilities, metric)
        expected = figures[metric]
        assert expected is not None and values.dtype == np.float32
        share = np.exp(-expected) if metric == "nll" else expected
        assert choice_share(values, metric) == pytest.approx(share, abs=1e-5), metric


def test_they_vary_as_the_values_of_intervals_do() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [200, 80, 40])
    probabilities = rng.dirichlet(np.ones(3), 320) + 0.3 * np.eye(3)[labels]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    exact = metric_values(labels, probabilities)
    for metric in ("balanced_accuracy", "macro_f1"):
        values = choice_values(labels, probabilities, metric)
        assert values.std() == pytest.approx(exact[metric].std(), rel=0.05)
        assert np.corrcoef(values, exact[metric])[0, 1] > 0.999


def test_the_accuracy_is_the_scores_of_a_prediction() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])  # a tie: the first
    assert choice_values(labels, probabilities, "accuracy").tolist() == [1, 0]


def test_a_metric_chooses_another_candidate() -> None:
    """One finds the rare class, the other the common one."""
    labels = np.repeat([0, 1], [90, 10])
    common = np.eye(2)[np.zeros(100, dtype=int)]
    rare = np.eye(2)[np.where(np.arange(100) % 4, labels, 1)]
    picked = {
        metric: chosen([choice_values(labels, each, metric) for each in (common, rare)])
        for metric in METRICS
    }
    assert picked == {"accuracy": 0, "balanced_accuracy": 1, "macro_f1": 1, "nll": 0}
    assert SHOWN.keys() == set(METRICS)


def test_the_likelihood_prefers_the_one_who_is_less_sure_of_wrong_answers() -> None:
    labels = np.tile([0, 1], 50)
    wrong = np.arange(100) < 20
    right = np.where(wrong, 1 - labels, labels)
    sure, careful = (share * np.eye(2)[right] + (1 - share) / 2 for share in (0.98, 0.6))
    values = [choice_values(labels, each, "nll") for each in (sure, careful)]
    assert chosen(values) == 1
    assert choice_share(values[1], "nll") == pytest.approx(0.8**0.8 * 0.2**0.2)
