"""Galleries and queries with many ties, and the slow search that the fast one must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genkt.retrieval.search.nearest import ArrayGallery

Arrays = tuple[NDArray[np.float16], ...]


def unit(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """Rows of length 1 up to float16; zeros stay."""
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return (values / np.where(norms > 0, norms, 1)).astype(np.float16)


def draw(num_rows: int, widths: Sequence[int], seed: int, levels: int | None = None) -> Arrays:
    """Unit rows of normal numbers, or of few whole numbers, so that many scores are equal."""
    rng = np.random.default_rng(seed)
    if levels is None:
        return tuple(unit(rng.normal(size=(num_rows, width))) for width in widths)
    shapes = [(num_rows, width) for width in widths]
    return tuple(unit(rng.integers(-levels, levels + 1, shape).astype(float)) for shape in shapes)


@dataclass(frozen=True)
class Case:
    """What is searched, for what."""

    arrays: Arrays
    names: tuple[str, ...]
    queries: Arrays
    weights: tuple[float, ...]

    @property
    def gallery(self) -> ArrayGallery:
        """The rows, with names whose order is not theirs."""
        return ArrayGallery(self.arrays, self.names)

    def scores(self, reduce: str = "mean") -> NDArray[np.float64]:
        """[Q, N], all of them, by plain float64 arithmetic."""
        cosines = [cosine(a, b) for a, b in zip(self.queries, self.arrays, strict=True)]
        if reduce == "max":
            return np.max(cosines, axis=0)
        share = np.array(self.weights) / np.sum(self.weights)
        total = np.zeros_like(cosines[0])
        for weight, each in zip(share, cosines, strict=True):
            total += weight * each
        return total

    def lists(self, reduce: str = "mean") -> list[list[int]]:
        """Every query's rows, the best first."""
        return [
            sorted(range(len(self.names)), key=lambda row: (-scores[row], self.names[row]))
            for scores in self.scores(reduce)
        ]


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """[N, M], 0 where a row is zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.sqrt(np.outer((a * a).sum(axis=1), (b * b).sum(axis=1)))
    return (a @ b.T) / np.where(lengths > 0, lengths, 1.0)


def case(
    num_rows: int, num_queries: int, seed: int, levels: int | None = 1, num_encoders: int = 1
) -> Case:
    """A small world; with few ``levels`` rows repeat and scores tie."""
    rng = np.random.default_rng(seed)
    widths = [3 + encoder for encoder in range(num_encoders)]
    names = tuple(f"{name:04d}" for name in rng.permutation(num_rows))
    weights = tuple(rng.uniform(0.2, 1.0, num_encoders).tolist())
    arrays = draw(num_rows, widths, seed, levels)
    return Case(arrays, names, draw(num_queries, widths, seed + 1, levels), weights)
