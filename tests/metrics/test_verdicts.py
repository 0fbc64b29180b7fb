"""What may be said: thresholds, Holm over a family, words without false precision, plans."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkt.metrics import (
    Design,
    ScoreInterval,
    VarianceParts,
    holm,
    mean_interval,
    needed,
    non_inferior,
    paired_interval,
    span,
    spelled,
    verdict,
)
from genkt.metrics.verdicts import BETTER, BEYOND, OPEN, WITHIN, WORSE
from genkt.types import UserError

PARTS = VarianceParts(0.0001, math.nan, 0.005, 0.02)
GAIN = ScoreInterval("difference", 0.08, 0.049, 0.11, 8.0, 0.001, Design(5, 200), PARTS)
SHARE = ScoreInterval("share", 0.939, 0.912, 0.958, 8.0, math.nan, Design(5, 200), PARTS)
RATIO = ScoreInterval("ratio", 0.98, 0.967, 0.991, 8.0, 0.01, Design(5, 200), PARTS)


def sized(interval: ScoreInterval, draws: int, images: int = 200) -> ScoreInterval:
    return replace(interval, design=replace(interval.design, draws=draws, images=images))


def test_better_worse_and_open() -> None:
    assert verdict(GAIN).word == BETTER and verdict(GAIN).established
    loss = replace(GAIN, mean=-0.08, low=-0.11, high=-0.049)
    assert verdict(loss).word == WORSE
    assert verdict(RATIO).word == WORSE  # under 1
    assert verdict(replace(GAIN, p=0.2)).word == OPEN
    assert verdict(GAIN, p=0.06).word == OPEN  # adjusted for several
    assert verdict(replace(GAIN, p=math.nan)).word == OPEN
    with pytest.raises(UserError, match="one arm"):
        verdict(SHARE)


@pytest.mark.parametrize(
    ("draws", "images", "established", "notes"),
    [(1, 2000, False, 0), (2, 2000, False, 0), (3, 29, False, 0), (3, 30, True, 1),
     (3, 99, True, 1), (3, 100, True, 0)],
)  # fmt: skip
def test_few_draws_or_images_establish_nothing(
    draws: int, images: int, established: bool, notes: int
) -> None:
    for found in (verdict(sized(GAIN, draws, images)), non_inferior(sized(GAIN, draws, images))):
        assert found.established == established and len(found.notes) == notes
        assert bool(found.reason) != established


def test_within_a_margin_of_the_teacher() -> None:
    near = replace(GAIN, mean=-0.006, low=-0.014, high=0.002, p=0.12)
    assert non_inferior(near).word == WITHIN
    assert non_inferior(near, margin=0.01).word == OPEN
    # worse, and yet within the margin
    worse = replace(near, high=-0.001, p=0.03)
    assert (verdict(worse).word, non_inferior(worse).word) == (WORSE, WITHIN)
    assert non_inferior(replace(GAIN, mean=-0.05, low=-0.07, high=-0.03)).word == BEYOND
    for interval, margin in ((SHARE, 0.02), (RATIO, 0.02), (GAIN, 0.0)):
        with pytest.raises(UserError, match="margin above 0"):
            non_inferior(interval, margin)


def test_spelled() -> None:
    assert spelled(GAIN) == "+8.0 points (4.9 to 11.0)"
    assert (
        spelled(replace(GAIN, mean=-0.0004, low=-0.02, high=0.0192)) == "0.0 points (−2.0 to 1.9)"
    )
    assert spelled(SHARE) == "93.9 % (91.2 to 95.8)"
    assert spelled(RATIO) == "98.0 % (96.7 to 99.1)"


def test_two_draws_have_no_interval_and_one_is_of_these_students() -> None:
    for interval in (GAIN, SHARE, RATIO):
        assert span(sized(interval, 2)) == "two draws are too few for an interval"
        assert "91.2" not in spelled(sized(interval, 2))
    assert span(sized(GAIN, 1)) == "4.9 to 11.0, of these two students alone"
    assert span(sized(SHARE, 1)).endswith("of this student alone")


def test_no_interval_looks_like_a_point() -> None:
    assert spelled(replace(SHARE, mean=0.99991, low=0.99985, high=0.99996)) == (
        "99.99 % (99.98 to 100.00)"
    )


@given(st.integers(1, 6), st.integers(2, 300), st.integers(0, 2**31), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_nothing_is_printed_outside_0_to_100(
    draws: int, images: int, seed: int, accuracy: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random((2, draws, images)) < accuracy).astype(float)
    for found, least in ((mean_interval(a), 0), (paired_interval(a, b), -100)):
        if draws != 2:
            low, _, high = span(found).split(",")[0].replace("−", "-").split()
            assert least <= float(low) < float(high) <= 100


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()  # Holm 1979: from the smallest, until one fails
        for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected.add(index)
        found = {index for index, value in enumerate(adjusted) if value <= level}
        assert {p_values[i] for i in found} == {p_values[i] for i in rejected}
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))


def test_holm_counts_a_contrast_once() -> None:
    pairs = [("a", "stl"), ("b", "stl"), ("stl", "a"), ("c", "stl")]
    assert holm([0.01, 0.04, 0.01, 0.03], pairs) == pytest.approx([0.03, 0.06, 0.03, 0.06])
    assert holm([0.01, 0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.06, 0.04, 0.06])
    adjusted = holm([0.01, math.nan, 0.04])  # what could not be tested was asked all the same
    assert (adjusted[0], adjusted[2]) == pytest.approx((0.03, 0.08)) and math.isnan(adjusted[1])
    assert holm([]) == [] and holm([], []) == []
    with pytest.raises(UserError, match="one p-value per contrast"):
        holm([0.01, 0.2], ["x", "x"])
    with pytest.raises(UserError, match="2 contrasts, got 1"):
        holm([0.01, 0.2], ["x"])
    with pytest.raises(UserError, match=r"0\.\.1, got 1.2"):
        holm([1.2])


def test_what_would_show_two_points() -> None:
    plan = needed(GAIN)
    assert plan is not None and plan.draws is not None and plan.images is not None
    # images alone leave .05 / 200: an error of 1.6 points, so no number of draws is enough
    few = needed(replace(GAIN, parts=replace(PARTS, images=0.05)))
    assert few is not None and few.draws is None
    at = dict(plan.images_at)
    assert plan.images == at[5] and at[20] is not None and at[10] is not None
    assert at[20] < at[10] < plan.images
    more = needed(GAIN, difference=0.04)
    assert more is not None and more.draws is not None and more.draws < plan.draws
    assert needed(sized(GAIN, 1)) is None
    assert needed(replace(GAIN, parts=VarianceParts(0, math.nan, 0, 0))) is None
    with pytest.raises(UserError, match="got a ratio"):
        needed(RATIO)


def test_a_plan_holds_what_it_says() -> None:
    """At the planned size, a true difference of 3 points is found in 80 % of simulations."""
    plan = needed(GAIN, difference=0.03)
    assert plan is not None and plan.images is not None
    rng, images, found = np.random.default_rng(0), plan.images, 0
    for _ in range(300):
        x = (
            0.03
            + rng.normal(0, math.sqrt(PARTS.draws), (5, 1))
            + rng.normal(0, math.sqrt(PARTS.images), (1, images))
            + rng.normal(0, math.sqrt(PARTS.rest), (5, images))
        )
        found += paired_interval(x, np.zeros_like(x), pseudo=True).p < 0.05
    assert 0.68 < found / 300 < 0.9


def test_holm_counts_what_could_not_be_tested() -> None:
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == pytest.approx(0.03) and adjusted[2] == pytest.approx(0.08)
    assert math.isnan(adjusted[1])
    assert holm([]) == []
