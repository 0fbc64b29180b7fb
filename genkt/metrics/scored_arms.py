"""Intervals of arms: the scores of their students, by draw and seed, as the arrays they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.intervals import (
    ScoreInterval,
    mean_interval,
    paired_interval,
    ratio_interval,
    unbounded_interval,
)

Scored = Mapping[tuple[int, int], NDArray[np.floating]]
"""(Draw, seed) -> [N] scores of that student on the test images, each in 0..1."""


@dataclass(frozen=True)
class DrawDesign:
    """Where the students of a run or a comparison come from.

    Args:
        labels_vary: whether each draw has labels of its own; not where all labels are used.
        pool_share: of the labelled pool in one draw, mean over the classes.
        groups: [N] what each test image belongs to (a patient, a film); None: each stands alone.
        pseudo: the scores are jackknife pseudo-values of a metric, not means over images.
    """

    labels_vary: bool = True
    pool_share: float = 0.0
    groups: Sequence[str] | None = None
    pseudo: bool = False


def of_arm(scored: Scored, design: DrawDesign) -> ScoreInterval | None:
    """The mean of an arm; None where it has no scores or too few images for an interval."""
    return _found(mean_interval, [scored], design)


def of_loss(values: Scored, design: DrawDesign) -> ScoreInterval | None:
    """The mean of what is no share, such as a loss in nats; None as for ``of_arm``."""
    return _found(unbounded_interval, [values], replace(design, pseudo=True))


def of_pair(a: Scored, b: Scored, design: DrawDesign) -> ScoreInterval | None:
    """The mean of a - b over the draws and seeds that both have; None as for ``of_arm``."""
    return _found(paired_interval, [a, b], design)


def of_ratio(a: Scored, b: Scored, design: DrawDesign) -> ScoreInterval | None:
    """The ratio a / b over the draws and seeds that both have; None as for ``of_arm``.

    Raises: UserError where b is never right.
    """
    return _found(ratio_interval, [a, b], design)


def _found(
    interval: Callable[..., ScoreInterval], arms: Sequence[Scored], design: DrawDesign
) -> ScoreInterval | None:
    stacked = _stacked(arms)
    if not stacked or _num_units(stacked[0].shape[-1], design) < 2:
        return None
    several = stacked[0].shape[1] > 1 and design.labels_vary
    num_images = stacked[0].shape[-1]
    return interval(
        *(scores if several else scores.reshape(-1, num_images) for scores in stacked),
        # Without several seeds a draw, the part of the labels cannot be told from theirs.
        pool_share=design.pool_share if several else 0.0,
        labels_vary=design.labels_vary,
        groups=design.groups,
        pseudo=design.pseudo,
    )


def _stacked(arms: Sequence[Scored]) -> list[NDArray[np.float64]]:
    """[D, R, N] of each arm: the draws and seeds that all have, every draw with the same seeds."""
    shared = set.intersection(*(set(arm) for arm in arms))
    if not shared:
        return []
    draws = sorted({draw for draw, _ in shared})
    seeds = [s for s in sorted({s for _, s in shared}) if all((d, s) in shared for d in draws)]
    if not seeds:
        return []
    return [
        np.array([[arm[draw, seed] for seed in seeds] for draw in draws], np.float64)
        for arm in arms
    ]


def _num_units(num_images: int, design: DrawDesign) -> int:
    return num_images if design.groups is None else len(set(design.groups))
