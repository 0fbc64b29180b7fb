"""Checks of per-image scores: shapes, finite numbers, bounds; a bad one is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from genkt.metrics.crossed import Array
from genkt.types import UserError


def checked_scores(
    scores: ArrayLike, *, names: Sequence[str] | None = None, pseudo: bool = False
) -> Array:
    """Scores as float64 [draws, images] or [draws, seeds, images].

    Raises: UserError for another shape, a number that is not finite, or (pseudo-values apart) not
    within 0..1.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"scores: expected an array of numbers: {error}") from error
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(
            f"scores: expected [draws, images] or [draws, seeds, images], got {list(array.shape)}"
        )
    if names is not None and len(names) != array.shape[-1]:
        raise UserError(f"scores: expected {array.shape[-1]} names of images, got {len(names)}")
    _refuse(~np.isfinite(array), array, names, "a finite number")
    if not pseudo:
        _refuse((array < 0) | (array > 1), array, names, "a score in 0..1")
    return array


def checked_pair(
    a: ArrayLike, b: ArrayLike, *, names: Sequence[str] | None = None, pseudo: bool = False
) -> tuple[Array, Array]:
    """Two arms' scores of the same shape. Raises: UserError."""
    first = checked_scores(a, names=names, pseudo=pseudo)
    second = checked_scores(b, names=names, pseudo=pseudo)
    if first.shape != second.shape:
        raise UserError(
            "paired scores: expected the same draws and images, got "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    return first, second


def _refuse(bad: np.ndarray, array: Array, names: Sequence[str] | None, expected: str) -> None:
    """Raise a UserError that names the first bad score and counts the others."""
    if not bad.any():
        return
    place = tuple(int(axis) for axis in np.argwhere(bad)[0])
    image = f"image {place[-1]}" + (f' ("{names[place[-1]]}")' if names is not None else "")
    where = ", ".join(
        f"{axis} {at}" for axis, at in zip(("draw", "seed"), place[:-1], strict=False)
    )
    others = f", and {int(bad.sum()) - 1} others" if bad.sum() > 1 else ""
    raise UserError(f"scores: {image}, {where}: expected {expected}, got {array[place]:g}{others}")
