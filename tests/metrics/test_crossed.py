"""Variance of a mean over draws and images, against anova by brute force and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genkt.metrics.crossed import mean_squares, mean_squares_of_seeds, variance_of_mean


def anova(scores: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of rows, columns and the rest, of single scores, one sum at a time."""
    rows, columns = scores.shape
    mean = sum(scores[i, j] for i in range(rows) for j in range(columns)) / scores.size
    of_row = [sum(scores[i]) / columns for i in range(rows)]
    of_column = [sum(scores[:, j]) / rows for j in range(columns)]
    ms_rows = columns * sum((each - mean) ** 2 for each in of_row) / (rows - 1)
    ms_columns = rows * sum((each - mean) ** 2 for each in of_column) / (columns - 1)
    rest = sum(
        (scores[i, j] - of_row[i] - of_column[j] + mean) ** 2
        for i in range(rows)
        for j in range(columns)
    )
    return ms_rows, ms_columns, rest / ((rows - 1) * (columns - 1))


@given(st.integers(2, 5), st.integers(2, 7), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_mean_squares_are_those_of_the_anova(draws: int, images: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((draws, images))
    found = mean_squares(scores)
    rows, columns, rest = anova(scores)
    assert float(found.draws) * images == pytest.approx(rows)
    assert float(found.images) * draws == pytest.approx(columns)
    assert float(found.rest) == pytest.approx(rest)


def test_variance_and_degrees_of_freedom_by_hand() -> None:
    # Draw means 1/4, 3/4; image means 1/2, 1, 1/2, 0; MSE = (1/8 + 1/8 + ...) below.
    scores = np.array([[0, 1, 0, 0], [1, 1, 1, 0.0]])
    found = mean_squares(scores)
    # S2(draws) = 1/8; S2(images) = (0 + 1/4 + 0 + 1/4) / 3 = 1/6; total sum of squares 2, of draws
    # 4 * 1/8 = 1/2, of images 2 * 1/2 = 1, so MSE = 1/2 / 3 = 1/6
    assert (found.draws, found.images, found.rest) == pytest.approx((1 / 8, 1 / 6, 1 / 6))
    variance, dof = variance_of_mean(found)
    first, second, third = 1 / 16, 1 / 24, 1 / 48
    assert variance == pytest.approx(first + second - third)
    cautious = 3 * first  # 1 + 2 / (2 - 1)
    expected = (cautious + second - third) ** 2 / (cautious**2 + second**2 / 3 + third**2 / 3)
    assert dof == pytest.approx(max(expected, 1))
    # the four image means less 1/2 are 0, 1/2, 0, -1/2; a 1 among three 0 is 3/4 from their mean
    assert (found.tail, found.largest) == pytest.approx((1 / 4, 9 / 16))
    wider, _ = variance_of_mean(found, spare=0.3)
    assert wider == pytest.approx(variance + 0.3 / 3 / 4)


def test_one_factor_is_the_usual_t() -> None:
    means = np.array([0.91, 0.95, 0.93, 0.9])
    variance, dof = variance_of_mean(mean_squares(np.repeat(means[:, None], 50, axis=1)))
    low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert dof == 3
    assert stats.t.ppf(0.975, 3) * math.sqrt(variance) == pytest.approx((high - low) / 2)
    # one draw: over images
    one = np.random.default_rng(0).random((1, 40))
    variance, dof = variance_of_mean(mean_squares(one))
    assert (math.sqrt(variance), dof) == pytest.approx((stats.sem(one[0]), 39))
    # every image the same in all draws, draws alike
    alike = np.repeat(one, 6, axis=0)
    variance, dof = variance_of_mean(mean_squares(alike))
    assert (math.sqrt(variance), dof) == pytest.approx((stats.sem(one[0]), 39))


def test_the_variance_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    shape, parts = (20_000, 6, 8), (0.5, 1.0, 2.0)  # draws, images, rest
    draws = rng.normal(0, math.sqrt(parts[0]), (shape[0], 6, 1))
    images = rng.normal(0, math.sqrt(parts[1]), (shape[0], 1, 8))
    found = mean_squares(draws + images + rng.normal(0, math.sqrt(parts[2]), shape))
    truth = parts[0] / 6 + parts[1] / 8 + parts[2] / 48
    assert found.mean.var() == pytest.approx(truth, rel=0.05)
    plain = found.draws / 6 + found.images / 8 - found.rest / 48
    assert plain.mean() == pytest.approx(truth, rel=0.02)
    assert (variance_of_mean(found)[0] >= plain - 1e-12).all()  # the floor


def test_labels_and_seeds_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    shape = (4000, 5, 3, 10)
    labels = rng.normal(0, 0.7, (4000, 5, 1, 1))
    seeds = rng.normal(0, 1.1, (4000, 5, 3, 1))
    images = rng.normal(0, 0.5, (4000, 1, 1, 10))
    of_labels = rng.normal(0, 0.9, (4000, 5, 1, 10))
    found = mean_squares_of_seeds(labels + seeds + images + of_labels + rng.normal(0, 0.8, shape))
    assert found.labels.mean() == pytest.approx(0.49, rel=0.06)
    within = found.seeds - found.seeds_rest / 10
    assert within.mean() == pytest.approx(1.21, rel=0.06)
    # the mean's variance needs no such parts: it is that of the means over seeds
    of_means = mean_squares((labels + seeds + images).mean(axis=2))
    again = mean_squares_of_seeds(labels + seeds + images)
    for mine, theirs in zip(variance_of_mean(of_means), variance_of_mean(again), strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_only_the_labels_part_is_multiplied_for_draws_that_overlap() -> None:
    rng = np.random.default_rng(2)
    labels, seeds = rng.normal(0, 1, (5, 1, 1)), rng.normal(0, 0.2, (5, 3, 1))
    images = rng.normal(0, 0.5, (1, 1, 20))
    found = mean_squares_of_seeds(labels + seeds + images + rng.normal(0, 0.1, (5, 3, 20)))
    plain, _ = variance_of_mean(found)
    corrected, _ = variance_of_mean(found, pool_share=0.25)
    # 1 + D f / (1 - f) with D = 5, f = 1/4: the labels' part / D is added 5/3 times
    assert corrected == pytest.approx(plain + 5 / 3 * found.labels / 5)
    # no labels' part is found: nothing to multiply, but no more degrees of freedom than draws
    alone = mean_squares_of_seeds(seeds - seeds.mean(axis=1, keepdims=True) + images)
    assert float(alone.labels) <= 0
    (plain, free), (same, few) = variance_of_mean(alone), variance_of_mean(alone, pool_share=0.25)
    assert plain == same and (free, few) == (19, 4)


def test_scores_without_a_main_effect_still_have_a_variance() -> None:
    found = mean_squares(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert (found.draws, found.images) == (0, 0)
    assert variance_of_mean(found)[0] == pytest.approx(found.rest / 4) and found.rest > 0


@given(st.integers(2, 4), st.integers(2, 6), st.integers(0, 2**31), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_degrees_of_freedom_are_finite_and_one_or_more(
    draws: int, images: int, seed: int, share: float
) -> None:
    scores = np.random.default_rng(seed).integers(0, 2, (draws, images)).astype(float)
    variance, dof = variance_of_mean(mean_squares(scores), share, 3)
    assert math.isfinite(variance) and variance >= 0
    assert 1 <= dof < math.inf
