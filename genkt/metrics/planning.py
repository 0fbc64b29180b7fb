"""How many draws and images would show a difference, from the variances that were measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy

from genkt.metrics.crossed import MeanSquares, variance_of_mean
from genkt.metrics.intervals import Design, ScoreInterval, VarianceParts
from genkt.metrics.verdicts import MIN_DRAWS, MIN_IMAGES
from genkt.types import UserError

MOST_DRAWS, MOST_IMAGES = 1000, 10_000_000
"""More of them than this is said to be impossible."""

CHOICES = (3, 5, 10, 20)
"""Draws for which ``Needed.images_at`` has the images."""

_NONE = np.zeros(())


@dataclass(frozen=True)
class Needed:
    """Sizes at which a true difference would be established; None where no number is enough.

    Args:
        difference: a share.  power: the probability of establishing it.
        draws: with the images of the measurement.
        images: with its draws (3 if it had two).
        images_at: (draws, images) for several numbers of draws.
    """

    difference: float
    power: float
    draws: int | None
    images: int | None
    images_at: tuple[tuple[int, int | None], ...]


def needed(interval: ScoreInterval, difference: float = 0.02, power: float = 0.8) -> Needed | None:
    """Draws and images that would show a difference, as far as the variances were measured well.

    A difference is shown where (t_.975 + t_power) sqrt(V) is no more than it, V and the degrees
    of freedom those that are expected at that size.

    Returns: None where the variances are not known: one draw, or no spread at all.

    Raises: UserError for a ratio, or a difference or power outside 0..1.
    """
    if interval.kind == "ratio" or not (0 < difference < 1 and 0.5 <= power < 1):
        raise UserError(
            "needed draws and images: expected a difference of shares above 0 and below 1 and a "
            f"power of 0.5 or more, got a {interval.kind}, {difference} and {power}"
        )
    parts, design = interval.parts, interval.design
    if design.draws == 1 or not (parts.draws or parts.images or parts.rest):
        return None

    def shown(draws: int, images: int) -> bool:
        found = replace(design, draws=draws, images=images)
        return _least_shown(parts, found, power) <= difference

    def images_for(draws: int) -> int | None:
        return _least(lambda images: shown(draws, images), MIN_IMAGES, MOST_IMAGES)

    images = max(design.images, MIN_IMAGES)
    return Needed(
        difference,
        power,
        _least(lambda draws: shown(draws, images), MIN_DRAWS, MOST_DRAWS),
        images_for(max(design.draws, MIN_DRAWS)),
        tuple((draws, images_for(draws)) for draws in CHOICES),
    )


def _least_shown(parts: VarianceParts, design: Design, power: float) -> float:
    """The smallest difference that a design shows, a share."""
    seeds = 0.0 if math.isnan(parts.seeds) else parts.seeds
    draws = parts.draws + seeds / design.seeds + parts.rest / design.images
    squares = MeanSquares(
        mean=_NONE,
        draws=np.asarray(draws),
        images=np.asarray(parts.images + parts.rest / design.draws),
        rest=np.asarray(parts.rest),
        seeds=np.asarray(seeds),
        seeds_rest=_NONE,
        tail=_NONE,
        largest=_NONE,
        num_draws=design.draws,
        num_images=design.images,
        num_seeds=design.seeds,
    )
    variance, dof = variance_of_mean(squares, design.pool_share)
    quantiles = scipy.special.stdtrit(dof, 0.975) + scipy.special.stdtrit(dof, power)
    return float(quantiles * np.sqrt(variance))


def _least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number from low to high for which something holds, by halving."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
