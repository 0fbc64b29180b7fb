"""Converts deep pixels (more than 8 bits, signed, float) to the 256 levels of 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
"""Samples that are scaled at a time."""


def eight_bits(
    pixels: NDArray[Any], *, full: float | None = None, inverted: bool = False
) -> NDArray[np.uint8]:
    """Scale samples of any number type to 0..255, all channels alike.

    Args:
        pixels: of any shape.
        full: the value of white, where the format fixes it (65535 for 16 bits). None: the first of
            [0, 1] (floats only), [0, 255], [0, 65535] that holds every value, else minimum to
            maximum. Infinite values and NaN count as the largest and least of the others.
        inverted: the least value is white.
    """
    least, largest = _finite_range(pixels)
    low, high = least, largest
    if full is not None:
        low, high = 0.0, full
    else:
        limits = (1.0, 255.0, 65535.0) if pixels.dtype.kind == "f" else (255.0, 65535.0)
        holding = [limit for limit in limits if low >= 0 and high <= limit]
        low, high = (0.0, holding[0]) if holding else (low, high)
    shown = np.empty(pixels.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, pixels[:1].size))
    for start in range(0, len(pixels), rows):  # in float64 all at once would be eight times as much
        values = pixels[start : start + rows].astype(np.float64)
        values = np.nan_to_num(values, nan=least, posinf=largest, neginf=least)
        scaled = (values - low) * 255.0 / (high - low) if high > low else np.zeros_like(values)
        shown[start : start + rows] = np.rint(255.0 - scaled if inverted else scaled)
    return shown


def _finite_range(pixels: NDArray[Any]) -> tuple[float, float]:
    """The least and the largest value that is finite; zeros where there is none."""
    known = np.isfinite(pixels) if pixels.dtype.kind == "f" else np.True_
    if not pixels.size or not known.any():
        return 0.0, 0.0
    if pixels.dtype.kind != "f":
        return float(pixels.min()), float(pixels.max())
    return (
        float(pixels.min(where=known, initial=np.inf)),
        float(pixels.max(where=known, initial=-np.inf)),
    )
