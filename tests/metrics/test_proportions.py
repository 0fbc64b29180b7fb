"""Score intervals of shares against published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkt.metrics.proportions import (
    newcombe_limits,
    newcombe_p,
    newcombe_phi,
    ratio_limits,
    wilson_limits,
)


def newcombe(e: int, f: int, g: int, h: int) -> tuple[float, float]:
    """Both right, a alone, b alone, neither."""
    size = e + f + g + h
    a, b = (e + f) / size, (e + g) / size
    low, high = newcombe_limits(a, b, newcombe_phi(a, b, e / size, size), size)
    return float(low), float(high)


@pytest.mark.parametrize(
    ("right", "size", "limits"),
    [  # Newcombe 1998 (one proportion), table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_as_published(right: int, size: int, limits: tuple[float, float]) -> None:
    assert wilson_limits(right / size, size) == pytest.approx(limits, abs=5e-5)


@pytest.mark.parametrize(
    ("table", "limits"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998 (paired), method 10
        ((59, 6, 16, 80), (-0.1186, -0.0046)),  # Fagerland, Lydersen and Laake, chapter 8
    ],
)
def test_newcombe_as_published(
    table: tuple[int, int, int, int], limits: tuple[float, float]
) -> None:
    assert newcombe(*table) == pytest.approx(limits, abs=5e-5)


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(lambda table: sum(table) > 1))
@settings(max_examples=60, deadline=None)
def test_newcombe_is_antisymmetric_and_within_bounds(table: list[int]) -> None:
    e, f, g, h = table
    low, high = newcombe(e, f, g, h)
    assert -1 <= low <= (f - g) / sum(table) + 1e-12 and high <= 1
    assert newcombe(e, g, f, h) == pytest.approx((-high, -low), abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 300))
@settings(max_examples=60, deadline=None)
def test_the_p_of_newcombe_is_where_its_interval_reaches_zero(
    a: float, b: float, size: int
) -> None:
    phi = newcombe_phi(a, b, a * b, size)
    p = float(newcombe_p(a, b, phi, size))
    low, high = newcombe_limits(a, b, phi, size)
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == bool(low > 0 or high < 0)


def test_ratio_of_paired_shares() -> None:
    # b is 1 everywhere: the ratio's limits are Wilson's of a over those of b, solved at rho = 0
    low, high = ratio_limits(1.0, 1.0, 0.0, 50)
    end = float(wilson_limits(1.0, 50)[0])
    assert (low, high) == pytest.approx((end, 1 / end))
    zero = ratio_limits(0.0, 0.5, 0.0, 50)
    assert zero[0] == 0 and 0 < zero[1] < 0.25
    assert math.isinf(ratio_limits(0.5, 0.0, 0.0, 50)[1])


def test_limits_of_the_ratio_and_of_the_difference_agree_on_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.uniform(0.2, 0.9, 2)
        phi = newcombe_phi(a, b, a * b + 0.02, 80)
        low, high = newcombe_limits(a, b, phi, 80)
        under, over = ratio_limits(a, b, float(phi), 80)
        assert (low > 0, high < 0) == (under > 1, over < 1)
