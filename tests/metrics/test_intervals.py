"""Intervals from per-image scores: reference values, symmetries, bounds, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genkt.metrics import mean_interval, paired_interval, ratio_interval
from genkt.metrics.proportions import newcombe_limits, newcombe_phi, wilson_limits
from genkt.types import UserError

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 12))


def right(seed: int, *shape: int, accuracy: float = 0.8) -> np.ndarray:
    """0/1 scores that share what makes an image hard."""
    rng = np.random.default_rng(seed)
    hard = rng.random(shape[-1])
    return ((hard + rng.random(shape)) / 2 < accuracy).astype(float)


def arms(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    return right(seed, *shape, accuracy=0.7), right(seed, *shape, accuracy=0.62)[..., ::-1]


def numbers(found: Any) -> tuple[float, ...]:
    return found.mean, found.low, found.high


def test_a_difference_by_hand() -> None:
    # Every image of a draw has the same difference, so T1 = S2 / D alone, with D - 1 degrees
    # of freedom: differences .1 .2 .3, t(.975, 2) = 4.302653
    shift = np.array([[0.1], [0.2], [0.3]])
    b = np.full((3, 40), 0.4)
    found = paired_interval(b + shift, b)
    reach = 4.302653 * 0.1 / math.sqrt(3)
    assert numbers(found) == pytest.approx((0.2, 0.2 - reach, 0.2 + reach), abs=1e-6)
    assert found.dof == 2
    # with 2 degrees of freedom the tail is closed form: p = 1 - t / sqrt(t^2 + 2)
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert found.parts.draws == pytest.approx(0.01)
    assert (found.parts.images, found.parts.rest) == pytest.approx((0, 0))


def test_one_draw_is_over_images_and_of_these_students() -> None:
    a, b = arms(0, 1, 200)
    found = paired_interval(a, b)
    assert found.dof == 199 and found.design.varied == ("images",)
    low, high = stats.t.interval(0.95, 199, (a - b).mean(), stats.sem((a - b)[0]))
    # half a spare image of 200 widens it a little
    assert 1.0 < (found.high - found.low) / (high - low) < 1.03
    assert math.isnan(found.parts.draws)


def test_one_arm_is_wilson_with_the_samples_that_its_variance_is_worth() -> None:
    scores = right(3, 5, 100)
    found = mean_interval(scores)
    mean = scores.mean()
    t = stats.t.ppf(0.975, found.dof)
    sizes = [t**2 * end * (1 - end) / (mean - end) ** 2 for end in (found.low, found.high)]
    assert sizes[0] == pytest.approx(sizes[1])  # both ends solve Wilson's equation
    assert 50 < sizes[0] < 500 and math.isnan(found.p)
    assert mean - found.low > found.high - mean  # skewed towards the middle


@pytest.mark.parametrize("draws", [1, 4])
def test_equal_scores_everywhere_count_images_not_draws(draws: int) -> None:
    ones, zeros = np.ones((draws, 50)), np.zeros((draws, 50))
    low, high = wilson_limits(1.0, 50)
    assert numbers(mean_interval(ones)) == pytest.approx((1, low, high))
    assert numbers(mean_interval(zeros)) == pytest.approx((0, 1 - high, 1 - low))
    mixed = np.repeat([[1.0, 0.0]], 25, axis=0).reshape(1, 50).repeat(draws, axis=0)
    found = paired_interval(mixed, mixed)
    limits = newcombe_limits(0.5, 0.5, newcombe_phi(0.5, 0.5, 0.5, 50), 50)
    assert numbers(found) == pytest.approx((0, *limits)) and found.p == 1
    apart = paired_interval(ones, zeros)
    assert (apart.mean, apart.high) == (1, 1) and 0.85 < apart.low < 0.95 and apart.p < 1e-6
    same = ratio_interval(mixed, mixed)
    assert same.low < 1 < same.high and same.p == 1


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_exchanging_the_arms_negates(shape: tuple[int, int], seed: int) -> None:
    a, b = arms(seed, *shape)
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert numbers(back) == pytest.approx((-there.mean, -there.high, -there.low))
    assert (back.p, back.dof) == pytest.approx((there.p, there.dof))
    if a.any() and b.any():
        there, back = ratio_interval(a, b), ratio_interval(b, a)
        assert back.mean == pytest.approx(1 / there.mean)
        if there.low > 0 and math.isfinite(there.high):
            assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter_and_bounds_hold(shape: tuple[int, int], seed: int) -> None:
    a, b = arms(seed, *shape)
    rng = np.random.default_rng(seed)
    draws, images = rng.permutation(shape[0]), rng.permutation(shape[1])
    mixed = [each[draws][:, images] for each in (a, b)]
    for interval in (paired_interval(a, b), mean_interval(a)):
        single = interval.kind == "share"
        again = mean_interval(mixed[0]) if single else paired_interval(*mixed)
        assert numbers(again) == pytest.approx(numbers(interval))
        least = -1 if interval.kind == "difference" else 0
        assert least <= interval.low <= interval.mean <= interval.high <= 1
        assert interval.low < interval.high  # never nothing
        if interval.kind == "difference" and abs(interval.p - 0.05) > 1e-6:
            assert (interval.p < 0.05) == (interval.low > 0 or interval.high < 0)


@given(st.integers(2, 5), st.integers(2, 9), st.integers(0, 2**31), st.floats(-0.2, 0.2))
@settings(max_examples=40, deadline=None)
def test_a_constant_moves_a_difference_and_nothing_else(
    draws: int, images: int, seed: int, constant: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = 0.2 + 0.4 * rng.random((2, draws, images))
    found, moved = paired_interval(a, b), paired_interval(a + constant, b)
    if found.low > -1 and found.high < 1 and moved.low > -1 and moved.high < 1:
        assert numbers(moved) == pytest.approx([each + constant for each in numbers(found)])
    assert moved.dof == pytest.approx(found.dof)


def test_what_is_common_to_both_arms_does_not_widen_a_difference() -> None:
    rng = np.random.default_rng(5)
    common = 0.4 * rng.random((5, 1)) + 0.4 * rng.random((1, 80))
    a, b = (common + 0.05 * rng.random((5, 80)) for _ in range(2))
    found = paired_interval(a + 0.03, b)
    assert found.p < 0.01 and found.high - found.low < 0.02
    one = mean_interval(a)
    assert one.high - one.low > 0.1


def test_a_ratio_on_the_log_scale_by_hand() -> None:
    # Draws alone vary, b is 1/2 everywhere: log ratio has the mean of a / mean(a), so its error
    # is S / mean(a) / sqrt(D): a = .45 .48 .51, S = .03, mean .48
    a = np.array([[0.45], [0.48], [0.51]]) + np.zeros((3, 30))
    found = ratio_interval(a, np.full((3, 30), 0.5))
    reach = 4.302653 * 0.03 / 0.48 / math.sqrt(3)
    assert found.mean == pytest.approx(0.96)
    assert (found.low, found.high) == pytest.approx(
        (0.96 * math.exp(-reach), 0.96 * math.exp(reach)), abs=1e-6
    )
    nothing = ratio_interval(np.zeros((3, 30)), a)
    assert (nothing.mean, nothing.low) == (0, 0) and 0 < nothing.high < 0.5


def test_groups_are_what_counts() -> None:
    a, b = arms(7, 5, 60)
    alone = paired_interval(a, b, groups=range(60))
    assert numbers(alone) == pytest.approx(numbers(paired_interval(a, b)))
    twice = [np.repeat(each, 2, axis=1) for each in (a, b)]
    groups = np.repeat([f"film {number}" for number in range(60)], 2)
    found = paired_interval(*twice, groups=list(groups))
    assert numbers(found) == pytest.approx(numbers(paired_interval(a, b)))
    assert (found.design.images, found.design.grouped) == (60, True)
    assert found.design.varied[-1] == "groups of images"
    unaware = paired_interval(*twice)
    assert unaware.high - unaware.low < found.high - found.low


def test_the_sizes_of_groups_alone_do_not_vary_a_mean() -> None:
    sizes = [1, 30, 2, 9, 4, 1, 14, 3]
    groups = np.repeat(range(8), sizes)
    scores = np.broadcast_to(np.array([[0.7], [0.8], [0.9]]), (3, groups.size))
    found = mean_interval(scores, groups=list(groups))
    assert found.mean == pytest.approx(0.8)
    assert numbers(found) == pytest.approx(numbers(mean_interval(scores)))
    assert found.parts.images == pytest.approx(0, abs=1e-20)


def test_seeds_on_the_same_labels() -> None:
    a, b = arms(9, 4, 3, 100)
    found = paired_interval(a, b)
    assert (found.design.draws, found.design.seeds, found.design.images) == (4, 3, 100)
    assert found.parts.seeds >= 0 and found.parts.draws >= 0
    means = paired_interval(a.mean(axis=1), b.mean(axis=1))  # but for the spare image
    assert numbers(found) == pytest.approx(numbers(means), rel=0.01)
    overlapping = paired_interval(a, b, pool_share=0.5)
    assert overlapping.high - overlapping.low >= found.high - found.low
    # one draw of labels: seeds are what varies
    only = paired_interval(a[:1], b[:1])
    assert (only.design.draws, only.design.labels_vary) == (3, False)
    assert only.design.varied == ("seeds", "images")
    flat = paired_interval(a[0], b[0], labels_vary=False, pool_share=0.5)
    assert numbers(flat) == pytest.approx(numbers(only))


def test_more_images_leave_only_what_the_draws_bring() -> None:
    wide, narrow = (paired_interval(*arms(11, 10, images)) for images in (50, 5000))
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_bad_scores_are_named() -> None:
    a, b = arms(0, 3, 40)
    a[1, 7] = math.nan
    names = [f"cats/{number}.png" for number in range(40)]
    with pytest.raises(UserError, match=r'image 7 \("cats/7.png"\), draw 1.*got nan'):
        paired_interval(a, b, names=names)
    a[1, 7], a[2, 3], a[2, 4] = 0, 1.5, 2
    with pytest.raises(UserError, match=r"image 3, draw 2: .*1\.5, and 1 other"):
        mean_interval(a)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: mean_interval(np.ones(5)), r"got \[5\]"),
        (lambda: mean_interval(np.ones((0, 5))), r"got \[0, 5\]"),
        (lambda: mean_interval([["a"]]), "numbers"),
        (lambda: mean_interval(np.ones((3, 1))), "two or more images, got 1"),
        (lambda: mean_interval(np.ones((3, 4)), groups=[1, 1, 1, 1]), "groups of images, got 1"),
        (lambda: mean_interval(np.ones((3, 4)), groups=[1, 2]), "4 in all, got 2"),
        (lambda: mean_interval(np.ones((3, 4)), names=["x"]), "4 names of images, got 1"),
        (lambda: paired_interval(np.ones((3, 4)), np.ones((4, 3))), r"got \[3, 4\] and \[4, 3\]"),
        (lambda: mean_interval(np.ones((3, 4)), pool_share=1), "labels_vary=False"),
        (lambda: mean_interval(np.ones((2, 3, 4)), labels_vary=False), "labels do not vary"),
        (lambda: ratio_interval(np.ones((3, 4)), np.zeros((3, 4))), "mean above 0"),
    ],
)
def test_mistakes_are_told(call: Any, part: str) -> None:
    with pytest.raises(UserError, match=part):
        call()
