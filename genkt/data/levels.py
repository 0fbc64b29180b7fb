"""Deep pixels (more than 8 bits, signed, float) to the 256 levels of an 8-bit picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if full is not None:
        low, high = 0.0, full
    else:
        limits = (1.0, 255.0, 65535.0) if pixels.dtype.kind == "f" else (255.0, 65535.0)
        holding = [limit for limit in limits if low >= 0 and high <= limit]
        low, high = (0.0, holding[0]) if holding else (low, high)
    scaled = (values - low) * 255.0 / (high - low) if high > low else np.zeros_like(values)
    return np.rint(255.0 - scaled if inverted else scaled).astype(np.uint8)
