"""How a finished student and its teachers did, image by image: files beside its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from genkt.files import read_array, read_tensors, write_array
from genkt.io import reading
from genkt.training.checkpoint import save_weights
from genkt.types import StudentScores, TeacherScores

SCORES = "scores.npy"
"""[1 or 2, N] float32 in 0..1: at the end, then before the last stage where there is one."""

VALIDATION = "validation.npy"
"""[M] float32 on the images that choices are made on, where that was measured: 0 or 1, or what each
brings to another ``task.metric``."""

TEACHER_SCORES = "teacher_scores.safetensors"
"""[N] float32 in 0..1 by "NUMBER.KIND": of each teacher, what ``TeacherScores`` names."""

_KINDS = tuple(field.name for field in fields(TeacherScores))


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
    path = directory / VALIDATION
    return StudentScores(
        rows[0],
        rows[1] if len(rows) > 1 else None,
        read_array(path, np.float32, (None,), remedy) if path.exists() else None,
    )


def write_teacher_scores(directory: Path, teachers: Sequence[TeacherScores]) -> bool:
    """Write the scores of a student's teachers into its folder, where some have any."""
    found = {
        f"{index}.{kind}": torch.from_numpy(scores)
        for index, teacher in enumerate(teachers)
        for kind in _KINDS
        if (scores := getattr(teacher, kind)) is not None
    }
    if found:
        save_weights(directory / TEACHER_SCORES, found)
    return bool(found)


def read_teacher_scores(directory: Path, remedy: str = "") -> tuple[TeacherScores, ...]:
    """The scores of a student's teachers; none where it had none, or an older genkt trained it.

    Raises:
        DamagedError: the file holds something else.
    """
    path = directory / TEACHER_SCORES
    if not path.exists():
        return ()
    found: dict[int, dict[str, np.ndarray]] = {}
    tensors = read_tensors(path, remedy)
    with reading(path, "scores of teachers", remedy):
        for key, scores in tensors.items():
            index, _, kind = key.partition(".")
            found.setdefault(int(index), {})[kind] = scores.numpy()
        return tuple(
            TeacherScores(**found.get(index, {})) for index in range(max(found, default=-1) + 1)
        )
