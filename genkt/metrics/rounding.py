"""Rounding of figures that linear algebra leaves with noise in their last digits."""

from __future__ import annotations

_DIGITS = 10


def without_noise(value: float) -> float:
    """Ten significant digits.

    The last of the seventeen depend on the process that computes a factorization or a long sum: on
    which libraries it has loaded before. The same command should say the same number.

    >>> without_noise(0.0323160810453729), without_noise(-2.0)
    (0.03231608105, -2.0)
    """
    return float(f"{value:.{_DIGITS}g}")
