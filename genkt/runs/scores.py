"""How a finished student did on every image that it was asked, in files beside its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.files import read_array, write_array
from genkt.types import StudentScores

SCORES = "scores.npy"
"""[1 or 2, N] float32 in 0..1: at the end, then before the last stage where there is one."""

VALIDATION = "validation.npy"
"""[M] float32 in 0..1 on the images that choices are made on, where that was measured."""


def write_scores(directory: Path, scores: StudentScores) -> None:
    """Write the scores of a student into its folder."""
    rows = [scores.final] if scores.distilled is None else [scores.final, scores.distilled]
    write_array(directory / SCORES, np.stack(rows))
    if scores.validation is not None:
        write_array(directory / VALIDATION, scores.validation)


def read_scores(directory: Path, remedy: str = "") -> StudentScores | None:
    """The scores of a student; None where an older genkt trained it, which did not keep them.

    Raises:
        DamagedError: the file holds something else.
    """
    path = directory / SCORES
    if not path.exists():
        return None
    rows = read_array(path, np.float32, (None, None), remedy)
    distilled = rows[1] if len(rows) > 1 else None
    return StudentScores(rows[0], distilled, read_validation(directory, remedy))


def read_validation(directory: Path, remedy: str = "") -> NDArray[np.float32] | None:
    """The scores of a student on what choices are made on; None where there are none.

    Raises:
        DamagedError: the file holds something else.
    """
    path = directory / VALIDATION
    return read_array(path, np.float32, (None,), remedy) if path.exists() else None
