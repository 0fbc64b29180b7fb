"""Statistics over draws: reference values worked out by hand, and honesty at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.metrics.statistics import (
    mean_interval,
    paired_by_draw,
    paired_difference,
    wilson_interval,
)

ACCURACIES = st.lists(st.floats(0, 100), min_size=2, max_size=8)


def test_mean_interval_of_five_values() -> None:
    # mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445 from a printed table
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == pytest.approx(3.0)
    assert interval.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), abs=1e-6)
    assert interval.n == 5


def test_one_value_has_no_interval() -> None:
    interval = mean_interval([84.1])
    assert interval.mean == 84.1
    assert math.isnan(interval.half_width)
    assert str(interval) == "84.1"


def test_paired_difference_by_hand() -> None:
    # differences 1, 2, 3: mean 2, s 1, t(0.975, 2) = 4.302653; t = 2 sqrt(3) = 3.4641
    found = paired_difference([11, 22, 33], [10, 20, 30])
    reach = 4.302653 / math.sqrt(3)
    assert found.mean == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach), abs=1e-5)
    # with 2 degrees of freedom the tail is closed form: p = 1 - t / sqrt(t^2 + 2)
    t = 2 * math.sqrt(3)
    assert found.p_value == pytest.approx(1 - t / math.sqrt(t * t + 2), abs=1e-9)
    assert not found.established


def test_pairing_removes_what_the_draws_share() -> None:
    shared = np.array([10.0, 40.0, 70.0, 90.0])
    gain = np.array([5.0, 5.2, 4.8, 5.1])
    assert paired_difference(list(shared + gain), list(shared)).established


@given(ACCURACIES, st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_established_is_p_below_five_percent_and_antisymmetric(
    values: list[float], seed: int
) -> None:
    other = list(np.random.default_rng(seed).uniform(0, 100, len(values)))
    there, back = paired_difference(values, other), paired_difference(other, values)
    assert there.mean == pytest.approx(-back.mean)
    assert there.established == back.established
    if there.has_interval:
        assert there.established == (there.p_value < 0.05)


def test_no_interval_without_a_spread() -> None:
    single = paired_difference([80.0], [70.0])
    assert single.mean == 10 and not single.has_interval and not single.established
    # the same difference twice says nothing about how much it varies
    same = paired_difference([80.1, 70.1], [70.0, 60.0])
    assert same.mean == pytest.approx(10.1) and not same.established
    equal = paired_difference([80.0, 70.0], [80.0, 70.0])
    assert (equal.mean, equal.low, equal.high, equal.p_value) == (0, 0, 0, 1)
    assert not equal.established


def test_only_shared_draws_are_paired() -> None:
    found = paired_by_draw({0: 5.0, 1: 7.0, 3: 100.0}, {1: 4.0, 0: 4.0, 2: 0.0})
    assert found is not None and found.n == 2 and found.mean == pytest.approx(2.0)
    assert paired_by_draw({0: 1.0}, {1: 1.0}) is None


def test_wilson_interval_by_hand() -> None:
    # 8 of 10, z = 1.959964: the textbook's 0.4902 to 0.9433
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    low, high = wilson_interval(0, 10)
    assert low == 0.0 and high == pytest.approx(0.2775, abs=5e-5)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


@given(st.integers(1, 500), st.data())
@settings(max_examples=40, deadline=None)
def test_wilson_ends_solve_the_score_equation(num_samples: int, data: st.DataObject) -> None:
    num_right = data.draw(st.integers(0, num_samples))
    share = num_right / num_samples
    for end in wilson_interval(num_right, num_samples):
        variance = end * (1 - end) / num_samples
        assert (share - end) ** 2 == pytest.approx(1.959964**2 * variance, abs=1e-6)


def test_mistakes_are_told() -> None:
    with refused(key="paired values", got="2 and 1"):
        paired_difference([1, 2], [1])
    with refused(key="statistics", got=[]):
        mean_interval([])
    with refused(key="statistics"):
        mean_interval([1.0, math.nan])
    with refused(key="Wilson interval", got="11 of 10"):
        wilson_interval(11, 10)
