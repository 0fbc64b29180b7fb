"""The score of two stored rows: a quick one with a bound on its error, and the exact one.

A score is the weighted mean over encoders, or the largest, of the cosine of two rows. Rows are
stored as float16, unit up to rounding. The product of two float16 numbers is a multiple of 2^-48,
and so is any partial sum of a dot product; that of two unit rows stays below 2^5, so float64 holds
it without rounding, in whatever order it is summed. What is called exact here is the cosine that
follows from this dot product and the rows' squares, hence the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.types import UserError

Features = Sequence[NDArray[np.floating[Any]]]
"""One [N, D_e] array of unit rows per encoder."""
Stored = tuple[NDArray[np.float16], ...]
"""The same as it is stored."""
Reduce = Literal["mean", "max"]

_UNIT = 0.01  # how far from 1 a norm may be: float16 gives 0.0005
_FLOAT32, _BFLOAT16 = 2.0**-24, 2.0**-8  # relative rounding errors
_PAIRS = 512  # scored at once: two [_PAIRS, D] float64 arrays stay in the cache
_ROWS = 4096


@dataclass(frozen=True)
class Rounding:
    """How far a quick score may be from the exact one.

    Args:
        absolute: of any score.
        relative: times the size of the score, on top of it.
    """

    absolute: float
    relative: float = 0.0

    def below(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """What the other score is at least, where one of the two is known."""
        known = np.asarray(scores, np.float64)
        found: NDArray[np.float64] = (
            known - self.absolute - self.relative * np.minimum(np.abs(known), 2)
        )
        return found


@dataclass(frozen=True)
class Blend:
    """How the cosines of the encoders make one score.

    Args:
        weights: of the encoders' cosines, of sum 1.
        reduce: "mean" or "max"; the weights are those of the mean.
    """

    weights: tuple[float, ...]
    reduce: Reduce = "mean"

    @staticmethod
    def of(num_encoders: int, weights: Sequence[float] | None, reduce: Reduce = "mean") -> Blend:
        """Weights of any sum, or None for equal ones. Raises: UserError where they do not fit."""
        given = np.ones(num_encoders) if weights is None else np.asarray(weights, np.float64)
        if len(given) != num_encoders or not (np.isfinite(given) & (given > 0)).all():
            raise UserError.of(
                "weights", f"{num_encoders} numbers above 0, one per encoder", weights
            )
        return Blend(tuple((given / given.sum()).tolist()), reduce)

    def exact(
        self, a: StoredRows, i: NDArray[np.int64], b: StoredRows, j: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Scores of rows i of ``a`` with rows j of ``b``, [P] each."""
        cosines = [a.cosines(i, b, j, encoder) for encoder in range(len(self.weights))]
        if self.reduce == "max":
            found: NDArray[np.float64] = np.max(cosines, axis=0)
            return found
        score = np.zeros(len(i))
        for weight, cosine in zip(self.weights, cosines, strict=True):
            score += weight * cosine
        return score

    def on_queries(self, units: Sequence[Tensor]) -> list[Tensor]:
        """Queries such that the score is a plain product: the weights are put on them."""
        if self.reduce == "max":
            return list(units)
        return [weight * unit for weight, unit in zip(self.weights, units, strict=True)]


class StoredRows:
    """Stored rows with what their exact cosines need.

    Args:
        features: unit rows, or rows of zeros, whose cosine with all others is 0.

    Raises:
        UserError: rows of other norms, or different numbers of rows.
    """

    def __init__(self, features: Features) -> None:
        self.stored: Stored = tuple(np.require(part, np.float16, ["C", "W"]) for part in features)
        if len({len(part) for part in self.stored}) != 1 or any(p.ndim != 2 for p in self.stored):
            shapes = [list(part.shape) for part in self.stored]
            raise UserError.of("features", "one [rows, columns] per encoder", shapes)
        self.squares = tuple(_squares(part) for part in self.stored)

    def __len__(self) -> int:
        return len(self.stored[0])

    def cosines(
        self, i: NDArray[np.int64], other: StoredRows, j: NDArray[np.int64], encoder: int
    ) -> NDArray[np.float64]:
        """Cosines of rows i with rows j of ``other`` as one encoder sees them, [P] each."""
        a, b = torch.from_numpy(self.stored[encoder]), torch.from_numpy(other.stored[encoder])
        dots = np.empty(len(i))
        for start in range(0, len(i), _PAIRS):
            part = slice(start, start + _PAIRS)
            x, y = (
                rows.index_select(0, torch.from_numpy(of[part])).double().numpy()
                for rows, of in ((a, i), (b, j))
            )
            dots[part] = np.einsum("nd,nd->n", x, y)
        return scaled(dots, self.squares[encoder][i], other.squares[encoder][j])


def scaled(
    dots: NDArray[np.float64], squares_a: NDArray[np.float64], squares_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cosines from dot products; the root of a square is exact, so that of equal rows is 1."""
    lengths = np.sqrt(squares_a * squares_b)
    found: NDArray[np.float64] = dots / np.where(lengths > 0, lengths, 1.0)
    return found


def unit_rows(features: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Rows of any length as they are stored: of length 1, in float16; rows of zeros stay.

    Args:
        features: [N, D].

    Raises:
        UserError: values that are not finite.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.60009765625, 0.7998046875], [0.0, 0.0]]
    """
    if not np.isfinite(features).all():
        raise UserError.of("features", "finite numbers", "NaN or infinity")
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: NDArray[np.float16] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float16)
    return found


def _squares(stored: NDArray[np.float16]) -> NDArray[np.float64]:
    found = np.empty(len(stored))
    for start in range(0, len(stored), _ROWS):
        rows = stored[start : start + _ROWS].astype(np.float64)
        found[start : start + _ROWS] = np.einsum("nd,nd->n", rows, rows)
    _require_unit(np.sqrt(found))
    return found


def units(stored: NDArray[np.float16]) -> Tensor:
    """Rows scaled to unit length, float32; rows of zeros stay. Raises: UserError as ``Rows``."""
    rows = torch.from_numpy(np.array(stored)).float()  # a copy: the storage may be a file
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    _require_unit(norms.numpy())
    return rows.div_(torch.where(norms > 0, norms, 1.0))


def _require_unit(norms: NDArray[np.floating[Any]]) -> None:
    wrong = ~((np.abs(norms - 1) <= _UNIT) | (norms == 0))
    if wrong.any():
        raise UserError.of(
            "features",
            f"rows of length 1 (up to {_UNIT})",
            f"{norms[wrong][0]:.4g}",
            "; divide each row by its length",
        )


def quick_dtype() -> torch.dtype:
    """What quick scores are computed in: bfloat16 where the processor has matrix units for it."""
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", bool)
    return torch.bfloat16 if has_tiles() and torch.backends.mkldnn.enabled else torch.float32


def rounding(width: int, dtype: torch.dtype, query_error: float | None = None) -> Rounding:
    """Bound on the error of a product of unit rows against the exact score.

    Both sides are scaled and summed in float32, each with at most ``width`` roundings. In bfloat16
    each side is rounded first, and the product last; by the Cauchy-Schwarz inequality the first
    two cost no more than the lengths of the differences.

    Args:
        width: D, of all encoders together.
        dtype: of the product, float32 or bfloat16.
        query_error: the largest length of a query's difference to its bfloat16 rows, where known.
    """
    absolute = (3 * width + 32) * _FLOAT32
    if dtype == torch.float32:
        return Rounding(absolute)
    error = _BFLOAT16 if query_error is None else query_error
    absolute += _BFLOAT16 + (1 + _BFLOAT16) * error
    return Rounding((1 + 2 * _BFLOAT16) * absolute, 1.02 * _BFLOAT16)
