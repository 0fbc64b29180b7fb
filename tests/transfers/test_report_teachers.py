"""Which heads of which teachers are arms of a report."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import prediction

from genkt.runs.student_files import TrainedStudent
from genkt.transfers.report_teachers import teacher_arms, untested
from genkt.types import StudentResult, StudentScores, TeacherScores


def trained(
    draw: int, *teachers: tuple[str, TeacherScores], accuracy: float | None = None, seed: int = 0
) -> TrainedStudent:
    """A student of these teachers: (how adapted, scores)."""
    extras: dict[str, float | int | str] = {}
    for index, (way, scores) in enumerate(teachers):
        extras[f"teacher_adapted.{index}"] = way
        mean = accuracy if scores.taught is None else float(scores.taught.mean())
        if mean is not None:
            extras[f"teacher_accuracy.{index}"] = mean
    found = prediction(0, 4)
    return TrainedStudent(
        StudentResult("aft", draw, 0.5, extras=extras, seed=seed), found,
        StudentScores(found.scores), {}, {}, {},
        teachers=tuple(scores for _, scores in teachers),
    )  # fmt: skip


def right(*values: int) -> np.ndarray:
    return np.array(values, np.float32)


ONE, TWO = right(1, 0, 1, 1), right(1, 1, 1, 1)


def test_a_probe_that_taught_is_one_arm_and_its_own_head_another() -> None:
    scores = TeacherScores(taught=ONE, probe=ONE, own=TWO)
    arms = teacher_arms(["big"], [trained(d, ("linear_probe", scores)) for d in (0, 1)])
    assert [(arm.arm, arm.taught, arm.mean) for arm in arms] == [
        ("teacher0", True, 0.75), ("teacher0_own_head", False, 1.0),
    ]  # fmt: skip
    assert [set(arm.scores) for arm in arms] == [{0, 1}, {0, 1}]


def test_the_better_of_both_is_the_teacher_and_the_probe_stands_beside_it() -> None:
    students = [
        trained(0, ("fine_tune", TeacherScores(taught=TWO, probe=ONE))),
        trained(1, ("linear_probe", TeacherScores(taught=ONE, probe=ONE))),
    ]
    arms = {arm.arm: arm for arm in teacher_arms(["big"], students)}
    assert arms["teacher0"].mean == 0.875 and arms["teacher0_probe"].mean == 0.75
    assert arms["teacher0"].scores[0].tolist() == TWO.tolist()


def test_several_teachers_are_named_and_those_that_taught_come_first() -> None:
    one, two = TeacherScores(taught=ONE, probe=ONE, own=TWO), TeacherScores(taught=TWO)
    arms = teacher_arms(["a", "b"], [trained(0, ("linear_probe", one), ("fine_tune", two))])
    assert [arm.arm for arm in arms] == ["teacher0", "teacher1", "teacher0_own_head"]
    assert "a" in arms[0].name and "b" in arms[1].name


def test_seeds_of_a_draw_share_their_teacher() -> None:
    students = [trained(0, ("fine_tune", TeacherScores(taught=ONE)), seed=seed) for seed in (0, 1)]
    (arm,) = teacher_arms(["big"], students)
    assert list(arm.scores) == [0] and arm.mean == pytest.approx(0.75)


def test_an_older_run_has_only_the_mean() -> None:
    students = [trained(d, ("linear_probe", TeacherScores()), accuracy=0.9) for d in (0, 1)]
    (arm,) = teacher_arms(["big"], students)
    assert (arm.arm, arm.mean, dict(arm.scores)) == ("teacher0", 0.9, {})
    assert untested(["big"], [arm], students) == []


def test_a_teacher_of_other_classes_is_told() -> None:
    students = [trained(0, ("none", TeacherScores()), ("fine_tune", TeacherScores(taught=ONE)))]
    arms = teacher_arms(["imagenet", "mine"], students)
    assert [arm.arm for arm in arms] == ["teacher1"]
    (note,) = untested(["imagenet", "mine"], arms, students)
    assert "imagenet" in note
    assert untested(["big"], [], [trained(0)]) == []
