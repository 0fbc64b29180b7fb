"""Jackknife pseudo-values: one number per image whose mean is the metric, for metrics that are no
mean over images (balanced accuracy, F1, mean IoU, average precision).

The pseudo-value of image i is ``theta + (n - 1) (mean of theta_(-j) - theta_(-i))`` with theta_(-i)
the metric without image i. Their spread over images is that of the metric, as the spread of scores
is that of their mean, so they go where scores go: ``paired_interval(a, b, pseudo=True)``. They are
centred on the metric itself, not on its value corrected for bias, so that an interval is around the
number that the report shows.

Sources: Tukey, "Bias and confidence in not-quite large samples", 1958; Efron and Stein, "The
jackknife estimate of variance", 1981.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.metrics.crossed import Array
from genkt.types import UserError


def pseudo_values(
    counts: ArrayLike, metric: Callable[[Array], Array], *,
    groups: Sequence[Hashable] | None = None,
) -> Array:  # fmt: skip
    """Of a metric that is a function of sums over images, such as the three below.

    Args:
        counts: [..., N, K] what each image adds to K sums, say ``class_counts``.
        metric: sums [..., K] -> [...].
        groups: one id an image: a group is left out as a whole.

    Returns: [..., N], or [..., G] in the order in which the groups first occur.

    Raises: UserError where the metric is not finite, with all images or without one of them.
    """
    each = _by_group(np.asarray(counts, dtype=np.float64), groups, axis=-2)
    total = each.sum(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole, left_out = metric(total), metric(total - each)
    return centred_pseudo_values(whole, left_out)


def blocked_pseudo_values(
    metric: Callable[[int, NDArray[np.int64]], float], draws: int, images: int, *,
    blocks: int = 40, groups: Sequence[Hashable] | None = None,
) -> Array:  # fmt: skip
    """Of any metric, such as average precision: a block of images is left out at a time.

    Args:
        metric: (draw, indices of the images that are left) -> value.
        blocks: image i is in block i mod blocks, so that a list sorted by class is spread over
            all; with ``groups`` the i-th group.

    Returns: [draws, blocks], or as many as there are images or groups if that is less.
    """
    codes = np.arange(images) if groups is None else group_codes(groups, images)
    codes = codes % min(blocks, int(codes.max()) + 1)
    kept = [np.arange(images), *(np.flatnonzero(codes != block) for block in np.unique(codes))]
    values = np.array([[metric(draw, left) for left in kept] for draw in range(draws)], np.float64)
    return centred_pseudo_values(values[:, :1], values[:, 1:])


def ratio_pseudo_values(scores: Array, groups: Sequence[Hashable]) -> Array:
    """[..., N] scores of images -> [..., G] pseudo-values of their mean, without each group.

    The mean over images is a ratio, sum of the groups' sums over sum of their sizes, and both
    vary with the groups that happen to be in the test set. A group's sum over the mean size would
    take a large group of the usual accuracy for a good one: sizes alone would widen the interval,
    even where every answer is right. A group's own mean would weigh small groups too much. The
    pseudo-value is, to first order, mean + (sum - mean * size) / mean size, and counts a group
    that holds much of the set for more.
    """
    sums = np.stack([scores, np.ones_like(scores)], axis=-1)
    return pseudo_values(sums, lambda each: each[..., 0] / each[..., 1], groups=groups)


def class_counts(labels: ArrayLike, predicted: ArrayLike) -> Array:
    """What each image adds to (right, in truth, predicted) of each class that has a test image.

    Args:
        labels: [N] class of each image.  predicted: [..., N].

    Returns: [..., N, 3 C], for the three metrics below. Classes without a test image are left out.
    For mean IoU give pixel counts in the same order.
    """
    truth, answers = np.asarray(labels), np.asarray(predicted)
    if truth.ndim != 1 or answers.shape[-1:] != truth.shape:
        raise UserError(
            f"class counts: expected [N] labels and [..., N] answers, got {list(truth.shape)} "
            f"and {list(answers.shape)}"
        )
    classes = np.unique(truth)
    in_truth = np.broadcast_to(truth[:, None] == classes, (*answers.shape, classes.size))
    of_answer = answers[..., None] == classes
    return np.concatenate([in_truth & of_answer, in_truth, of_answer], -1).astype(np.float64)


def balanced_accuracy(sums: Array) -> Array:
    """Mean over classes of right / in truth, from sums [..., 3 C]."""
    right, truth, _ = np.split(sums, 3, axis=-1)
    return np.asarray((right / truth).mean(axis=-1))


def macro_f1(sums: Array) -> Array:
    """Mean over classes of 2 right / (in truth + predicted), from sums [..., 3 C]."""
    right, truth, answers = np.split(sums, 3, axis=-1)
    return np.asarray((2 * right / (truth + answers)).mean(axis=-1))


def mean_iou(sums: Array) -> Array:
    """Mean over classes of right / (in truth + predicted - right), from sums [..., 3 C]."""
    right, truth, answers = np.split(sums, 3, axis=-1)
    return np.asarray((right / (truth + answers - right)).mean(axis=-1))


def group_codes(groups: Sequence[Hashable], images: int) -> NDArray[np.int64]:
    """[N] number of each image's group, by first occurrence. Raises: UserError."""
    if len(groups) != images:
        raise UserError(f"groups: expected one id an image, {images} in all, got {len(groups)}")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def _by_group(values: Array, groups: Sequence[Hashable] | None, axis: int) -> Array:
    if groups is None:
        return values
    codes = group_codes(groups, values.shape[axis])
    found = np.zeros((codes.max() + 1, *np.moveaxis(values, axis, 0).shape[1:]))
    np.add.at(found, codes, np.moveaxis(values, axis, 0))
    return np.moveaxis(found, 0, axis)


def centred_pseudo_values(whole: Array, left_out: Array) -> Array:
    """[..., 1] the metric and [..., n] without each -> [..., n]."""
    if not np.isfinite(whole).all():
        raise UserError("pseudo-values: expected a finite metric, got one that is not")
    lost = np.argwhere(~np.isfinite(left_out))
    if lost.size:
        raise UserError(
            f"pseudo-values: without image (or group) {int(lost[0][-1])} the metric is not defined:"
            " expected two or more of every class"
        )
    num_left_out = left_out.shape[-1]
    if num_left_out < 2:
        raise UserError(f"pseudo-values: expected two or more images, got {num_left_out}")
    centre = left_out.mean(axis=-1, keepdims=True)
    return np.asarray(whole + (num_left_out - 1) * (centre - left_out))
