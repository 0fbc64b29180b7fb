from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.optimize import minimize
from torch import Tensor

from genkt.metrics.logme import LogME, logme, logme_released, rank_by_logme

SIZES = [(40, 6), (6, 40), (12, 12), (1, 5), (30, 1)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(rows: int, width: int, num_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that say something of their labels."""
    labels = torch.arange(rows) % num_classes
    return draw(rows, width, seed=seed) + draw(num_classes, width, seed=seed + 1)[labels], labels


@dataclass
class Slow:
    """One class by D x D matrices, without singular values."""

    alpha: float
    beta: float
    began: float
    mean: Tensor
    evidence: float


def slow_class(features: Tensor, target: Tensor) -> Slow:
    rows, width = features.shape
    alpha = beta = 1.0
    for _ in range(11):
        began = alpha / beta
        precision = alpha * torch.eye(width).double() + beta * features.T @ features
        inverse = torch.linalg.inv(precision)
        mean = beta * inverse @ features.T @ target
        gamma = (beta * inverse @ features.T @ features).trace().item()
        residual = (features @ mean - target).square().sum().item()
        alpha = gamma / (mean.square().sum().item() + 1e-5)
        beta = (rows - gamma) / (residual + 1e-5)
        if abs(alpha / beta - began) / began <= 1e-3:
            break
    precision = alpha * torch.eye(width).double() + beta * features.T @ features
    evidence = (
        width / 2 * math.log(alpha)
        + rows / 2 * math.log(beta)
        - torch.linalg.slogdet(precision).logabsdet.item() / 2
        - beta / 2 * residual
        - alpha / 2 * mean.square().sum().item()
        - rows / 2 * math.log(2 * math.pi)
    ) / rows
    return Slow(alpha, beta, began, mean, evidence)


def slow(features: Tensor, labels: Tensor, num_classes: int) -> list[Slow]:
    return [slow_class(features, (labels == c).double()) for c in range(num_classes)]


def marginal(features: Tensor, target: Tensor, alpha: float, beta: float) -> float:
    """log N(y; 0, I / beta + F F^T / alpha) / N."""
    rows = len(features)
    covariance = torch.eye(rows).double() / beta + features @ features.T / alpha
    density = torch.distributions.MultivariateNormal(torch.zeros(rows).double(), covariance)
    return density.log_prob(target).item() / rows


@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_equals_the_slow_one(rows: int, width: int) -> None:
    features, labels = case(rows, width, min(rows, 3))
    num_classes = int(labels.max()) + 1
    found, expected = logme(features, labels, num_classes), slow(features, labels, num_classes)
    assert found.evidence == pytest.approx(np.mean([s.evidence for s in expected]), abs=1e-9)
    means = torch.stack([s.mean for s in expected], dim=1)
    assert found.posterior_mean.dtype == torch.float64
    assert torch.allclose(found.posterior_mean, means, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("rows", "width"), [(60, 5), (20, 30)])
def test_weights_are_ridge_regression(rows: int, width: int) -> None:
    features, labels = case(rows, width)
    found, expected = logme(features, labels, 3).posterior_mean, slow(features, labels, 3)
    for c, one in enumerate(expected):
        gram, moment = features.T @ features, features.T @ (labels == c).double()
        ridge = torch.linalg.solve(gram + one.began * torch.eye(width).double(), moment)
        assert torch.allclose(found[:, c], ridge, rtol=0, atol=1e-10)
        ended = torch.linalg.solve(gram + one.alpha / one.beta * torch.eye(width).double(), moment)
        assert (found[:, c] - ended).norm() <= abs(
            one.alpha / one.beta / one.began - 1
        ) * ended.norm()


def test_evidence_is_the_highest_marginal_likelihood() -> None:
    features, labels = case(60, 4)
    highest = []
    for c in range(3):
        target = (labels == c).double()
        best = minimize(
            lambda logs, y=target: -marginal(features, y, *np.exp(logs)), [0.0, 0.0],
            method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12},
        )  # fmt: skip
        highest.append(-best.fun)
    found = logme(features, labels, 3).evidence
    assert found == pytest.approx(np.mean(highest), abs=1e-5)
    assert found <= np.mean(highest) + 1e-9


@pytest.mark.parametrize(("rows", "width"), SIZES[:3])
def test_evidence_bounds_the_marginal_likelihood_from_below(rows: int, width: int) -> None:
    features, labels = case(rows, width)
    exact = [
        marginal(features, (labels == c).double(), one.alpha, one.beta)
        for c, one in enumerate(slow(features, labels, 3))
    ]
    found = logme(features, labels, 3).evidence
    assert found <= np.mean(exact) + 1e-9


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (12, 12)])
def test_solvers_agree_where_rows_are_enough(rows: int, width: int) -> None:
    features, labels = case(rows, width)
    ours, theirs = logme(features, labels, 3), logme_released(features, labels, 3)
    assert theirs.evidence == pytest.approx(ours.evidence, abs=1e-12)
    assert torch.equal(ours.posterior_mean, theirs.posterior_mean)


@pytest.mark.parametrize(("rows", "width"), [(6, 40), (12, 13)])
def test_the_released_solver_leaves_terms_out(rows: int, width: int) -> None:
    features, labels = case(rows, width)
    released = []
    for c, one in enumerate(slow(features, labels, 3)):
        target = (labels == c).double()
        # The released sum over k = N singular values is a determinant of N x N.
        gram = one.alpha * torch.eye(rows).double() + one.beta * features @ features.T
        released.append(
            width / 2 * math.log(one.alpha)
            + rows / 2 * math.log(one.beta)
            - torch.linalg.slogdet(gram).logabsdet.item() / 2
            - one.beta / 2 * (features @ one.mean - target).square().sum().item()
            - one.alpha / 2 * one.mean.square().sum().item()
            - rows / 2 * math.log(2 * math.pi)
        )
    theirs, ours = logme_released(features, labels, 3), logme(features, labels, 3)
    assert theirs.evidence == pytest.approx(np.mean(released) / rows, abs=1e-9)
    alphas = [one.alpha for one in slow(features, labels, 3)]
    missing = (width - rows) / (2 * rows) * np.log(alphas).mean()
    assert abs(missing) > 0.01
    assert theirs.evidence - ours.evidence == pytest.approx(missing, abs=1e-9)
    assert torch.equal(ours.posterior_mean, theirs.posterior_mean)


@pytest.mark.parametrize(("rows", "width"), [(40, 8), (6, 30)])
def test_features_of_lower_rank(rows: int, width: int) -> None:
    features, labels = case(rows, width)
    thin = features[:, : min(rows, width) // 2] @ draw(min(rows, width) // 2, width, seed=5)
    thin[1] = thin[0]
    found, expected = logme(thin, labels, 3), slow(thin, labels, 3)
    assert found.evidence == pytest.approx(np.mean([s.evidence for s in expected]), abs=1e-9)
    means = torch.stack([s.mean for s in expected], dim=1)
    assert torch.allclose(found.posterior_mean, means, rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e4])
@pytest.mark.parametrize(("rows", "width"), [(12, 3), (3, 12)])
def test_constant_features(rows: int, width: int, value: float) -> None:
    labels = torch.arange(rows) % 3
    found = logme(torch.full((rows, width), value), labels, 3)
    assert math.isfinite(found.evidence)
    predicted = torch.full((rows, width), value).double() @ found.posterior_mean
    assert torch.allclose(predicted, predicted[0, 0].expand(rows, 3), rtol=1e-9)
    # Constant features know how often a class occurs (the prior shrinks that), zeros know nothing.
    assert (0 < predicted[0, 0] <= 1 / 3) == (value > 0)
    if value == 0:
        assert not found.posterior_mean.any()
        assert math.isfinite(logme_released(torch.zeros(rows, width), labels, 3).evidence)


def test_a_class_without_sample() -> None:
    features, labels = case(12, 4, num_classes=2)
    without = logme(features, labels, 2)
    for shifted, absent in ((labels, 2), (labels * 2, 1)):
        found = logme(features, shifted, 3)
        assert found.evidence == pytest.approx(without.evidence, abs=1e-12)
        assert not found.posterior_mean[:, absent].any()
        assert found.posterior_mean.shape == (4, 3)
    # The released code counts absent classes below the largest, and none above it.
    assert logme_released(features, labels, 3).evidence == pytest.approx(without.evidence)
    assert logme_released(features, labels * 2, 3).evidence > without.evidence + 1


def test_labels_that_are_explained_exactly_or_not_at_all() -> None:
    labels = torch.arange(9) % 3
    exact = logme(torch.eye(3)[labels] * 5, labels, 3)
    assert math.isfinite(exact.evidence)
    assert torch.allclose(exact.posterior_mean, torch.eye(3).double() / 5, atol=1e-3)
    # Features that are orthogonal to every class's column of labels.
    useless = torch.zeros(6, 2)
    useless[0, 0], useless[3, 0], useless[1, 1], useless[4, 1] = 1, -1, 1, -1
    found = logme(useless, torch.arange(6) % 3, 3)
    assert math.isfinite(found.evidence) and found.posterior_mean.abs().max() < 1e-12
    assert found.evidence < exact.evidence


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(2, 12), width=st.integers(1, 12), classes=st.integers(2, 5),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_invariances(rows: int, width: int, classes: int, seed: int) -> None:
    features, labels = case(rows, width, classes, seed)
    found = logme(features, labels, classes)
    rotation = torch.linalg.qr(draw(width, width, seed=seed + 2))[0]
    turned = logme(features @ rotation, labels, classes)
    assert turned.evidence == pytest.approx(found.evidence, abs=1e-9)
    assert torch.allclose(rotation @ turned.posterior_mean, found.posterior_mean, atol=1e-9)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    shuffled = logme(features[order], labels[order], classes)
    assert shuffled.evidence == pytest.approx(found.evidence, abs=1e-9)
    renamed = logme(features, classes - 1 - labels, classes)
    assert renamed.evidence == pytest.approx(found.evidence, abs=1e-9)
    assert torch.allclose(renamed.posterior_mean.flip(1), found.posterior_mean, atol=1e-9)
    # A column of zeros is one more weight that the labels say nothing of.
    padded = logme(torch.cat([features, torch.zeros(rows, 3)], dim=1), labels, classes)
    assert padded.evidence == pytest.approx(found.evidence, abs=1e-9)


def test_narrow_inputs_are_widened() -> None:
    features, labels = case(8, 20)
    half = features.half()
    assert logme(half, labels.int(), 3).evidence == logme(half.double(), labels, 3).evidence


def test_ranking() -> None:
    labels = torch.arange(60) % 3
    centres = draw(3, 8, seed=1)
    models = {
        "noise": draw(60, 8),
        "good": draw(60, 8, seed=2) + 4 * centres[labels],
        "fair": draw(60, 8, seed=3) + centres[labels],
        "noise again": draw(60, 8),
        "wide noise": draw(60, 200, seed=4),
    }
    ranked = rank_by_logme(models, labels, 3)
    assert [name for name, _ in ranked[:2]] == ["good", "fair"]
    assert all(score == logme(models[name], labels, 3).evidence for name, score in ranked)
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True)
    names = [name for name, _ in ranked]
    assert names.index("noise again") == names.index("noise") + 1


def test_errors() -> None:
    features, labels = case(6, 4)
    for wrong, targets, message in (
        (features[:0], labels[:0], "LogME, features"),
        (features[:, :0], labels, "LogME, features"),
        (features, labels[:5], "LogME, labels"),
        (features, labels.double(), "LogME, labels"),
        (features, labels - 1, "LogME, labels"),
        (features, labels + 1, "LogME, labels"),
        (features / 0, labels, "LogME, features"),
    ):
        for solver in (logme, logme_released):
            with refused(message):
                solver(wrong, targets, 3)
    with refused("LogME"):
        rank_by_logme({"resnet": features, "vit": features / 0}, labels, 3)
    with refused(key="LogME"):
        rank_by_logme({}, labels, 3)


def test_the_result_is_a_value() -> None:
    found = logme(*case(6, 4), 3)
    assert isinstance(found, LogME) and isinstance(found.evidence, float)
    with pytest.raises(AttributeError):
        found.evidence = 0.0  # type: ignore[misc]
