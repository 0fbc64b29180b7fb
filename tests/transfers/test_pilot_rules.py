"""From what a pilot has measured to numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from genkt.transfers.pilot_rules import (
    Clock,
    Point,
    draws_for,
    next_steps,
    pays,
    steps_for,
    trial_steps,
)

SCORES = st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4)


def agreeing(share: float, number: int = 200) -> list[float]:
    """Scores of which a share, the first of them, are right."""
    return [float(place < share * number) for place in range(number)]


def measured(shares: list[float], least: int = 100, most: int = 10_000) -> tuple[int, bool, bool]:
    """The answer to a curve that is measured until nothing is left to measure."""
    curve = [Point(least, agreeing(shares[0]))]
    for share in shares[1:]:
        if steps_for(curve, most)[1]:
            break
        curve.append(Point(next_steps(curve[-1].steps, most), agreeing(share)))
    return steps_for(curve, most)


def test_steps_are_those_of_the_last_doubling_that_paid() -> None:
    assert measured([0.3, 0.5, 0.7, 0.7]) == (400, True, False)
    assert measured([0.7, 0.7]) == (100, True, False)


def test_a_curve_that_rises_to_the_end_says_so() -> None:
    assert measured([0.1, 0.3, 0.5, 0.7], most=400) == (400, True, True)
    assert measured([0.3, 0.5], most=150) == (150, True, True)
    assert measured([0.3], most=100) == (100, True, False)  # nothing was compared


def test_a_gain_within_luck_or_below_a_point_does_not_pay() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((2, 50)) < 0.5
    assert not pays(noise[0], noise[0])
    assert not pays(agreeing(0.5, 1000), agreeing(0.505, 1000))
    assert pays(agreeing(0.5, 1000), agreeing(0.55, 1000))


@given(st.lists(SCORES, min_size=1, max_size=6), st.integers(1, 500), st.integers(0, 5000))
def test_steps_are_within_the_bounds_for_any_curve(
    scores: list[list[float]], least: int, more: int
) -> None:
    most, curve = least + more, [Point(least, scores[0])]
    for each in scores[1:]:
        if steps_for(curve, most)[1]:
            break
        curve.append(Point(next_steps(curve[-1].steps, most), each))
    steps, ended, rising = steps_for(curve, most)
    assert least <= steps <= most and steps in {point.steps for point in curve}
    assert not rising or (ended and steps == most)


@given(
    st.integers(1, 500), st.one_of(st.none(), st.integers(0, 5000)), st.integers(1, 5),
    st.integers(1, 50),
)  # fmt: skip
def test_trials_take_at_most_a_quarter_of_steps_that_are_given(
    least: int, given_steps: int | None, rates: int, students: int
) -> None:
    steps = trial_steps(least, given_steps, rates, students)
    assert 0 <= steps <= least
    if given_steps is not None:
        assert rates * steps <= given_steps * students / 4


def clock(left: float | None, draws: int | None, per_step: float) -> Clock:
    return Clock(left, lambda steps, number: steps * number * per_step, draws, 1.0)


@given(
    st.floats(0, 1e4), st.one_of(st.none(), st.integers(1, 9)), st.floats(1e-3, 10),
    st.integers(1, 300), st.integers(0, 3000),
)  # fmt: skip
def test_what_fits_into_the_time_is_the_most_that_does(
    left: float, draws: int | None, per_step: float, least: int, more: int
) -> None:
    found, most = clock(left, draws, per_step), least + more
    steps = found.fitting(least, most)
    fewest = draws or 3
    if not steps:
        assert found.run_seconds(least, fewest) > left
        return
    assert least <= steps <= most and found.run_seconds(steps, fewest) <= left
    if steps < most and draws:
        assert found.run_seconds(steps + 1, draws) > left


def test_steps_are_fewer_before_draws_are() -> None:
    assert clock(1000.0, None, 1.0).fitting(100, 500) == 200  # of 5 draws
    assert clock(400.0, None, 1.0).fitting(100, 500) == 133  # 5 draws of 100 steps do not fit
    assert clock(None, None, 1.0).fitting(100, 500) == 500


def test_minutes_that_are_too_few_are_refused_with_how_many_are_needed() -> None:
    with refused("5.8", key="minutes"):
        clock(10.0, None, 1.0).most_steps(100, 500)


@pytest.mark.parametrize(("seconds", "draws"), [(1.0, 5), (500.0, 3)])
def test_a_long_run_has_few_draws(seconds: float, draws: int) -> None:
    assert draws_for(lambda number: number * seconds, 1800.0) == draws
