"""P-values far below 0.05, which Holm's correction asks for, are as rare as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtr

from genkt.metrics.crossed import mean_squares
from genkt.metrics.intervals import paired_interval
from genkt.metrics.limits import student_limits


def differences(
    draws: int, of_draws: float, of_images: float, *, cases: int = 6000, images: int = 200
) -> NDArray[np.float64]:
    """[cases, draws, images] with a true mean of 0."""
    rng = np.random.default_rng(draws)
    by_draw = rng.normal(0, of_draws, (cases, draws, 1))
    by_image = rng.normal(0, of_images, (cases, 1, images))
    return by_draw + by_image + rng.normal(0, 0.3, (cases, draws, images))


@pytest.mark.parametrize("draws", [3, 5])
@pytest.mark.parametrize(("of_draws", "of_images"), [(0.15, 0.3), (0.3, 0.6)])
def test_small_p_values_are_rare_where_nothing_differs(
    draws: int, of_draws: float, of_images: float
) -> None:
    found = student_limits(mean_squares(differences(draws, of_draws, of_images)))
    for level, allowed in ((0.05, 0.07), (0.01, 0.015), (0.003, 0.0045)):
        assert (found.p < level).mean() <= allowed, level


def test_p_is_that_of_the_interval_at_five_percent() -> None:
    found = student_limits(mean_squares(differences(4, 0.1, 0.3, cases=500)))
    outside = (found.low > 0) | (found.high < 0)
    assert 10 < outside.sum() < 50
    assert np.array_equal(outside, found.p < 0.05)


def test_p_falls_as_the_mean_grows_and_of_one_draw_it_is_students() -> None:
    values = differences(4, 0.1, 0.3, cases=1)
    shifted = np.stack([values[0] + shift for shift in np.linspace(0.2, 3, 40)])
    found = student_limits(mean_squares(shifted))
    assert (np.diff(found.p) < 0).all() and found.p[-1] > 1e-8
    one = student_limits(mean_squares(shifted[:, :1]))
    error = (one.high - one.mean) / 1.9719565  # t of 199 degrees of freedom
    assert one.p == pytest.approx(2 * stdtr(199, -one.mean / error), rel=1e-4)


def test_several_cases_at_once_have_the_p_of_each_alone() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.random((2, 3, 50)) < share for share in (0.9, 0.6))
    for number in range(2):
        alone = paired_interval(a[number], b[number])
        both = student_limits(mean_squares(a.astype(float) - b.astype(float)))
        assert alone.p == pytest.approx(both.p[number]) and alone.p < 0.05
