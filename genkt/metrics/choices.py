"""Which of several candidates to take, from their scores on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from genkt.metrics.crossed import mean_squares, variance_of_mean
from genkt.types import UserError

_TIE = 1 + 1e-9  # one image more is a lead of exactly one error, whatever the rounding


def chosen(scores: Sequence[ArrayLike], default: int = 0) -> int:
    """The candidate with the best mean, unless it ties with the default; then the default.

    They tie where the difference of their means is at most one standard error of that difference,
    taken image by image (and over draws where there are several). With a handful of images most
    differences are ties. That is right: such a choice would be luck.

    Source: the one-standard-error rule of Breiman et al., "Classification and Regression Trees",
    1984, with the default in the place of the simplest model. The error is that of new images (and
    draws). That folds train on fewer labels, and share some of them, is not in it.

    Args:
        scores: of each candidate, [N] or [D, N] on the same images, such as 1 for a right answer.
        default: the candidate that wins ties. The others tie by their order.

    Returns:
        Its index.

    Raises: UserError for no candidate, or scores of different shapes.

    >>> chosen([[1, 0, 0, 0], [1, 1, 0, 0]]), chosen([[0, 0, 0, 0], [1, 1, 1, 0]])
    (0, 1)
    """
    arrays = [np.atleast_2d(np.asarray(each, np.float64)) for each in scores]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise UserError(f"scores: expected candidates scored on the same images, got {shapes}")
    best = int(np.argmax([array.mean() for array in arrays]))
    squares = mean_squares(arrays[best] - arrays[default])
    if squares.num_images < 2:
        return default
    variance, _ = variance_of_mean(squares)
    return best if squares.mean > np.sqrt(variance) * _TIE else default
