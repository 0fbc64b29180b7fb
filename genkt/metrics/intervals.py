"""95 % intervals for new students and new images, from the per-image scores of several students.

    from genkt.metrics import mean_interval, paired_interval, ratio_interval

    found = paired_interval(student, baseline)       # [draws, images] scores in 0..1 of each
    found.mean, found.low, found.high                # shares: 0.02 is two points
    found.dof, found.p, found.design, found.parts

How they are made is in ``crossed.py``; how often they cover, in ``docs/coverage.md``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from genkt.metrics.checked_scores import checked_pair, checked_scores
from genkt.metrics.crossed import Array, MeanSquares, mean_squares, mean_squares_of_seeds
from genkt.metrics.jackknife import group_codes, ratio_pseudo_values
from genkt.metrics.limits import Limits, difference_limits, share_limits, student_limits
from genkt.metrics.proportions import newcombe_p, newcombe_phi, ratio_limits
from genkt.types import UserError

Kind = Literal["share", "difference", "ratio", "mean"]


@dataclass(frozen=True)
class Design:
    """What varied between the scores, so what an interval speaks of.

    Args:
        draws: of the labels; of the seeds where the labels did not vary.
        images: independent ones: groups where images come in groups.
        seeds: students on the labels of each draw.
        labels_vary: whether each draw had labels of its own, or only a seed of its own.
        grouped: whether ``images`` counts groups.
        pool_share: of the labelled pool that a draw takes.
    """

    draws: int
    images: int
    seeds: int = 1
    labels_vary: bool = True
    grouped: bool = False
    pool_share: float = 0.0

    @property
    def varying(self) -> str:
        """What one of ``draws`` is."""
        return "draw" if self.labels_vary else "training seed"

    @property
    def varied(self) -> tuple[str, ...]:
        """What the interval covers, of "labels", "seeds" and "images" (or "groups of images")."""
        images = "groups of images" if self.grouped else "images"
        if self.draws == 1:
            return (images,)
        return ("labels", "seeds", images) if self.labels_vary else ("seeds", images)


@dataclass(frozen=True)
class VarianceParts:
    """Variances of a single score, by where they come from; never below zero.

    The mean has draws / D + seeds / (D R) + images / N + rest / (D N).

    Args:
        draws: from draw to draw. With one seed per draw this is labels and seed together.
        seeds: from seed to seed on the same labels; NaN with one seed per draw.
        images: from image to image, the same for all draws.
        rest: neither, from image to image within a draw (mean of its seeds); with one draw NaN,
            as ``draws`` is, and in ``images``.
    """

    draws: float
    seeds: float
    images: float
    rest: float


@dataclass(frozen=True)
class ScoreInterval:
    """A mean with its 95 % interval for new students and new images of the same kind.

    Args:
        kind: "share" (one arm), "difference" (a - b), "ratio" (a / b), or "mean" (one arm, of what
            is no share, such as a loss).
        mean, low, high: shares: 0..1, -1..1, a ratio, or in the unit of the values.
        dof: degrees of freedom of the t behind it.
        p: two-sided, of no difference or a ratio of 1; NaN for one arm.
        design: what varied.  parts: of the variance; on the log scale for a ratio.

    With one draw, the interval is over images and of *these students* alone.
    """

    kind: Kind
    mean: float
    low: float
    high: float
    dof: float
    p: float
    design: Design
    parts: VarianceParts

    @property
    def null(self) -> float:
        """What the mean is where the arms are equal; NaN for one arm."""
        return {"difference": 0.0, "ratio": 1.0}.get(self.kind, math.nan)


def paired_interval(
    a: ArrayLike, b: ArrayLike, *, pool_share: float = 0.0, labels_vary: bool = True,
    groups: Sequence[Hashable] | None = None, names: Sequence[str] | None = None,
    pseudo: bool = False,
) -> ScoreInterval:  # fmt: skip
    """Mean of a - b: both were scored on the same images, draw by draw with the same labels.

    Args:
        a, b: [draws, images] or [draws, seeds, images] scores in 0..1, such as whether an answer
            is right.
        pool_share: of the labelled pool in one draw, 0 <= f < 1. Draws that overlap are more
            alike than they would be from new pools; the labels' part of the variance is corrected
            for it (``variance_of_mean``).
        labels_vary: False where all draws had the same labels and only seeds differed.
        groups: one id an image, of what it belongs to (a patient, a film): groups are then what
            varies. The mean stays that over images; a group's share of it is a ratio of two
            sums, both random (``ratio_pseudo_values``).
        names: of the images, for messages.
        pseudo: the values are jackknife pseudo-values (``jackknife.py``), not within 0..1.

    All differences equal: Newcombe's interval, counting images, not draws.

    Raises: UserError for shapes that differ, fewer than two images or groups, scores that are not
    finite or not within 0..1.
    """
    first, second = checked_pair(a, b, names=names, pseudo=pseudo)
    design = _design(first, pool_share, labels_vary, groups)
    both = first.mean() * second.mean() if pseudo else (first * second).mean()
    mean_a, mean_b = first.mean(), second.mean()
    first, second = _shaped(first, design, groups), _shaped(second, design, groups)
    squares = _mean_squares(first - second)
    limits = difference_limits(
        squares, np.asarray(mean_a), np.asarray(mean_b), np.asarray(both), design.pool_share
    )
    return _interval("difference", limits, design, squares)


def mean_interval(
    scores: ArrayLike, *, pool_share: float = 0.0, labels_vary: bool = True,
    groups: Sequence[Hashable] | None = None, names: Sequence[str] | None = None,
    pseudo: bool = False,
) -> ScoreInterval:  # fmt: skip
    """Mean score of one arm; see ``paired_interval``. All scores equal: Wilson's interval."""
    found = checked_scores(scores, names=names, pseudo=pseudo)
    design = _design(found, pool_share, labels_vary, groups)
    squares = _mean_squares(_shaped(found, design, groups))
    return _interval("share", share_limits(squares, design.pool_share), design, squares)


def unbounded_interval(
    values: ArrayLike, *, pool_share: float = 0.0, labels_vary: bool = True,
    groups: Sequence[Hashable] | None = None, names: Sequence[str] | None = None,
    pseudo: bool = True,
) -> ScoreInterval:  # fmt: skip
    """Mean of values of one arm that are no shares, such as losses; see ``paired_interval``.

    Student's t, without bounds; p is NaN: there is nothing to compare with.
    """
    found = checked_scores(values, names=names, pseudo=pseudo)
    design = _design(found, pool_share, labels_vary, groups)
    squares = _mean_squares(_shaped(found, design, groups))
    limits = student_limits(squares, design.pool_share)
    return replace(_interval("mean", limits, design, squares), p=math.nan)


def ratio_interval(
    a: ArrayLike, b: ArrayLike, *, pool_share: float = 0.0, labels_vary: bool = True,
    groups: Sequence[Hashable] | None = None, names: Sequence[str] | None = None,
    pseudo: bool = False,
) -> ScoreInterval:  # fmt: skip
    """Ratio of the means of a and b, on the log scale: "98 % of its teacher (96.7 to 99.1)".

    log(mean a / mean b) is taken as the mean of a / mean a - b / mean b (delta method). Where all
    of these are equal, or a is 0 everywhere, the limits are made from Wilson's of each.

    Raises: UserError as ``paired_interval``, and where b is 0 everywhere.
    """
    first, second = checked_pair(a, b, names=names, pseudo=pseudo)
    mean_a, mean_b = float(first.mean()), float(second.mean())
    if mean_b <= 0:
        raise UserError("ratio: expected the second to have a mean above 0, got 0")
    design = _design(first, pool_share, labels_vary, groups)
    both = mean_a * mean_b if pseudo else float((first * second).mean())
    first, second = _shaped(first, design, groups), _shaped(second, design, groups)
    relative = (first / mean_a if mean_a > 0 else 0 * first) - second / mean_b
    squares = _mean_squares(relative)
    ratio = mean_a / mean_b
    found = _interval("ratio", student_limits(squares, design.pool_share), design, squares)
    if mean_a <= 0 or squares.equal:
        shares = min(max(mean_a, 0.0), 1.0), min(mean_b, 1.0)
        phi = newcombe_phi(*shares, both, design.images)
        low, high = ratio_limits(*shares, float(phi), design.images)
        p = float(newcombe_p(*shares, phi, design.images))
        return replace(found, mean=ratio, low=min(low, ratio), high=max(high, ratio), p=p)
    tested = student_limits(replace(squares, mean=np.asarray(math.log(ratio))), design.pool_share)
    low, high = (math.exp(min(float(end), 700.0)) for end in (tested.low, tested.high))
    return replace(found, mean=ratio, low=low, high=high, p=float(tested.p))


def _design(
    scores: Array, pool_share: float, labels_vary: bool, groups: Sequence[Hashable] | None
) -> Design:
    """What varied in checked scores [D, N] or [D, R, N]."""
    if not 0 <= pool_share < 1:
        raise UserError(
            f"pool_share: expected 0 <= share < 1, got {pool_share}; where every draw has the "
            "whole pool only seeds vary: labels_vary=False"
        )
    images = scores.shape[-1]
    if groups is not None:
        images = len(set(group_codes(groups, images)))
    if images < 2:
        unit = "groups of images" if groups is not None else "images"
        raise UserError(f"interval: expected two or more {unit}, got {images}")
    draws, seeds = scores.shape[0], scores.shape[1] if scores.ndim == 3 else 1
    if draws == 1 and seeds > 1:  # seeds on one draw of labels
        draws, seeds, labels_vary = seeds, 1, False
    if seeds > 1 and not labels_vary:
        raise UserError(
            "scores: expected [seeds, images] where the labels do not vary, got "
            f"[{draws}, {seeds}, {images}]"
        )
    return Design(
        draws, images, seeds, labels_vary, groups is not None, pool_share if labels_vary else 0.0
    )


def _shaped(scores: Array, design: Design, groups: Sequence[Hashable] | None) -> Array:
    """[D, N] or [D, R, N] with the axes of the design; pseudo-values of groups for images."""
    shape = (design.draws, design.seeds) if design.seeds > 1 else (design.draws,)
    scores = scores.reshape(*shape, scores.shape[-1])
    return scores if groups is None else ratio_pseudo_values(scores, groups)


def _mean_squares(values: Array) -> MeanSquares:
    return mean_squares_of_seeds(values) if values.ndim == 3 else mean_squares(values)


def _interval(kind: Kind, limits: Limits, design: Design, squares: MeanSquares) -> ScoreInterval:
    return ScoreInterval(
        kind,
        mean=float(limits.mean),
        low=float(limits.low),
        high=float(limits.high),
        dof=float(limits.dof),
        p=float(limits.p),
        design=design,
        parts=_parts(squares),
    )


def _parts(squares: MeanSquares) -> VarianceParts:
    """Components of variance: mean squares less what the finer ones bring to them."""
    if squares.num_draws == 1:
        return VarianceParts(math.nan, math.nan, float(squares.images), math.nan)
    seeds = math.nan
    if squares.num_seeds > 1:
        seeds = max(float(squares.seeds - squares.seeds_rest / squares.num_images), 0.0)
    images = max(float(squares.images - squares.rest / squares.num_draws), 0.0)
    return VarianceParts(max(float(squares.labels), 0.0), seeds, images, float(squares.rest))
