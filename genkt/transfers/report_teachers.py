"""The teachers of a run as arms of its report: which of their heads answer the task, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from genkt.report.transfer.report_data import TeacherArm
from genkt.runs.student_files import TrainedStudent
from genkt.types import TeacherScores

_ACCURACY, _ADAPTED, _PROBED = "teacher_accuracy", "teacher_adapted", "linear_probe"

_ByDraw = dict[int, NDArray[np.float32]]


def teacher_arms(names: Sequence[str], students: Sequence[TrainedStudent]) -> list[TeacherArm]:
    """The heads of the teachers that were tested, those that taught first.

    Args:
        names: of the teachers.
        students: of the method, over draws and seeds.
    """
    arms = []
    for index, name in enumerate(names):
        own = f" {name}" if len(names) > 1 else ""
        arms += _of_teacher(index, f"Teacher{own}", students)
    return sorted(arms, key=lambda arm: not arm.taught)


def untested(
    names: Sequence[str], arms: Sequence[TeacherArm], students: Sequence[TrainedStudent]
) -> list[str]:
    """A note on every teacher that taught and has no arm."""
    known = {arm.arm.removeprefix("teacher").partition("_")[0] for arm in arms}
    taught = {key.rpartition(".")[2] for key in _extras(students) if key.startswith(_ADAPTED)}
    return [
        f"The teacher {name} answers other classes and was not probed, so it is no arm here: "
        "teacher.adapt=linear_probe makes it one."
        for index, name in enumerate(names)
        if str(index) in taught - known
    ]


def _of_teacher(index: int, name: str, students: Sequence[TrainedStudent]) -> list[TeacherArm]:
    extras = _extras(students)
    accuracies, ways = extras.get(f"{_ACCURACY}.{index}"), extras.get(f"{_ADAPTED}.{index}", [])
    if not accuracies:
        return []
    found = {kind: _scores(index, kind, students) for kind in ("taught", "probe", "own")}
    probed, key = set(ways) == {_PROBED}, f"teacher{index}"
    mean = fmean(map(float, accuracies))
    probe = f"{name}'s linear probe"
    arms = [TeacherArm(key, probe if probed else name, True, mean, found["taught"])]
    if found["probe"] and not probed:
        arms.append(_other(f"{key}_probe", probe, found["probe"]))
    if found["own"]:
        arms.append(_other(f"{key}_own_head", f"{name} with its own head", found["own"]))
    return arms


def _other(key: str, name: str, scores: _ByDraw) -> TeacherArm:
    mean = fmean(float(each.mean(dtype=np.float64)) for each in scores.values())
    return TeacherArm(key, name, False, mean, scores)


def _scores(index: int, kind: str, students: Sequence[TrainedStudent]) -> _ByDraw:
    found: _ByDraw = {}
    for student in students:
        teachers = student.teachers
        scores = getattr(teachers[index] if index < len(teachers) else TeacherScores(), kind)
        if scores is not None:
            found.setdefault(student.result.draw, scores)
    return found


def _extras(students: Sequence[TrainedStudent]) -> Mapping[str, list[float | int | str]]:
    """What the students recorded, by key."""
    found: dict[str, list[float | int | str]] = {}
    for student in students:
        for key, value in student.result.extras.items():
            found.setdefault(key, []).append(value)
    return found
