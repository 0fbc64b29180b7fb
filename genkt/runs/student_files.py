"""The files of a finished student: sealed with digests and checked when read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.files import (
    broken_seals,
    discard,
    number,
    read_array,
    read_signed,
    read_tensors,
    seals_of,
    write_array,
    write_signed,
)
from genkt.io import damaged, reading
from genkt.runs.run_folder import RESULT
from genkt.runs.run_log import Key, lines_by_stage
from genkt.runs.scores import (
    SCORES,
    TEACHER_SCORES,
    VALIDATION,
    read_scores,
    read_teacher_scores,
    write_scores,
    write_teacher_scores,
)
from genkt.runs.student_places import student_parts
from genkt.training.checkpoint import save_weights
from genkt.types import (
    Cost,
    DamagedError,
    Prediction,
    StudentResult,
    StudentScores,
    TeacherScores,
    draw_text,
)

WEIGHTS, ARTIFACTS = "student.safetensors", "artifacts.safetensors"
PROBABILITIES = "probabilities.npy"

_FILES, _LOG = "files", "log"
_REMEDY = "the run's own command trains this student again"

logger = logging.getLogger("genkt")


@dataclass(frozen=True)
class TrainedStudent:
    """A finished student: its figures, test predictions, weights, and what the method learned.

    Args:
        scores: on the test images.
        log: the known lines of its stages in the run's log.
        teachers: scores of those that it learned from; none where an older genkt trained it.
    """

    result: StudentResult
    prediction: Prediction
    scores: StudentScores
    weights: dict[str, Tensor]
    artifacts: dict[str, Tensor]
    stages: dict[str, Cost]
    log: Mapping[Key, Sequence[str]] = field(default_factory=dict)
    teachers: tuple[TeacherScores, ...] = ()


def save_student(student: TrainedStudent, directory: Path) -> None:
    """Write all files of a finished student; ``result.json``, with all digests, comes last."""
    save_weights(directory / WEIGHTS, student.weights)
    if student.artifacts:
        save_weights(directory / ARTIFACTS, student.artifacts)
    write_array(directory / PROBABILITIES, student.prediction.probabilities.numpy())
    write_scores(directory, student.scores)
    stages = {name: asdict(cost) for name, cost in student.stages.items()}
    names = [WEIGHTS, PROBABILITIES, SCORES, *([ARTIFACTS] if student.artifacts else [])]
    names += [VALIDATION] if student.scores.validation is not None else []
    names += [TEACHER_SCORES] if write_teacher_scores(directory, student.teachers) else []
    names += [
        f"{stage}/{name}.safetensors"
        for stage in stages
        for name in ("last", "best")
        if (directory / stage / f"{name}.safetensors").is_file()
    ]
    seals = seals_of(directory, names)
    log = [line for lines in student.log.values() for line in lines]
    facts = {"result": asdict(student.result), "stages": stages, _LOG: log, _FILES: seals}
    write_signed(directory / RESULT, facts)


def read_result(directory: Path) -> tuple[StudentResult, dict[str, Cost]]:
    """The figures of a finished student and what its stages cost, without its other files.

    Raises:
        DamagedError: they are damaged.
    """
    return _parsed(directory, _saved(directory))


def weights_digest(directory: Path) -> str:
    """The digest of a finished student's weights; "" where an older genkt kept none.

    Raises:
        DamagedError: its result is damaged.
    """
    with reading(directory / RESULT, "the result of a student", _REMEDY):
        return str(dict(_saved(directory).get(_FILES, {})).get(WEIGHTS, ""))


def read_student(
    directory: Path, ids: tuple[str, ...], labels: Tensor, num_classes: int
) -> TrainedStudent:
    """Read a finished student back, every file compared with its digest.

    Args:
        ids, labels: of the N test images that it was tested on.

    Raises:
        DamagedError: a file is damaged.
    """
    saved = _saved(directory)
    result, stages = _parsed(directory, saved)
    for name in broken_seals(directory, _needed(directory, saved)):
        raise damaged(directory / name, "what its result.json says", "other content", _REMEDY)
    path, artifacts = directory / PROBABILITIES, directory / ARTIFACTS
    probabilities = read_array(path, np.float32, (len(ids), num_classes), _REMEDY)
    prediction = Prediction(ids, labels, torch.from_numpy(probabilities))
    return TrainedStudent(
        result=result,
        prediction=prediction,
        scores=read_scores(directory, _REMEDY) or StudentScores(prediction.scores),
        weights=read_tensors(directory / WEIGHTS, _REMEDY),
        artifacts=read_tensors(artifacts, _REMEDY) if artifacts.exists() else {},
        stages=stages,
        log=lines_by_stage(saved.get(_LOG, ())),
        teachers=read_teacher_scores(directory, _REMEDY),
    )


def is_sealed(directory: Path) -> bool:
    """Whether a finished student was written with the digests of its files."""
    return _FILES in _saved(directory)


def fault_of(directory: Path, read: Callable[[], object]) -> DamagedError | None:
    """What is wrong with a finished student; None if it is intact or not there.

    Args:
        read: function that reads all of it.
    """
    path = directory / RESULT
    if not path.exists():
        # What is written later would follow the link and leave it there.
        leads_nowhere = path.is_symlink()
        return damaged(path, "a file", "a link to nothing", _REMEDY) if leads_nowhere else None
    try:
        read()
    except DamagedError as error:
        return error
    return None


def forget(directory: Path) -> None:
    """Mark a student as not trained: remove its result first, then the rest of its files."""
    discard(directory / RESULT)
    discard(directory)


def _saved(directory: Path) -> dict[str, Any]:
    path, expected = directory / RESULT, "the result of a student"
    return read_signed(path, expected, _REMEDY, unsigned=("result", "stages"))


def _parsed(directory: Path, saved: dict[str, Any]) -> tuple[StudentResult, dict[str, Cost]]:
    with reading(directory / RESULT, "the result of a student", _REMEDY):
        values = dict(saved["result"])
        result = StudentResult(**{**values, "cost": _cost(values["cost"])})
        number(result.accuracy)
        where = student_parts(result.draw, result.arm, result.seed)
        if where != directory.parts[-len(where) :]:
            raise ValueError(f"of {draw_text(result.draw, result.seed)}, {result.arm}")
        return result, {name: _cost(cost) for name, cost in saved["stages"].items()}


def _cost(values: dict[str, Any]) -> Cost:
    cost = Cost(**values)
    for value in values.values():
        number(value)
    return cost


def _needed(directory: Path, saved: dict[str, Any]) -> dict[str, str]:
    """The digests to compare; only checkpoints of stages may have been removed."""
    with reading(directory / RESULT, "the result of a student", _REMEDY):
        return {
            name: str(seal)
            for name, seal in dict(saved.get(_FILES, {})).items()
            if "/" not in name or (directory / name).exists()
        }
