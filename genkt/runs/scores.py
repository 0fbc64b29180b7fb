"""How a finished student did on every test image: ``scores.npy`` beside its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genkt.files import read_array, write_array
from genkt.types import StudentScores

SCORES = "scores.npy"
"""[1 or 2, N] float32 in 0..1: at the end, then before the last stage where there is one."""


def write_scores(directory: Path, scores: StudentScores) -> None:
    """Write the scores of a student into its folder."""
    rows = [scores.final] if scores.distilled is None else [scores.final, scores.distilled]
    write_array(directory / SCORES, np.stack(rows))


def read_scores(directory: Path, remedy: str = "") -> StudentScores | None:
    """The scores of a student; None where an older genkt trained it, which did not keep them.

    Raises:
        DamagedError: the file holds something else.
    """
    path = directory / SCORES
    if not path.exists():
        return None
    rows = read_array(path, np.float32, (None, None), remedy)
    return StudentScores(rows[0], rows[1] if len(rows) > 1 else None)
