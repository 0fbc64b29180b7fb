"""Budgets of arms: what a comparison says of searches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from compare_cases import STUDY, arm, compare_words

from genkt.cli.compare import read_comparison
from genkt.comparison.arm_budget import with_searches
from genkt.comparison.plan_arms import make_plan
from genkt.comparison.tuning import Candidate
from genkt.report.compare.compare_data import CompareData
from genkt.stages.student_training import TEACHERS
from genkt.types import Budget, Cost, StudentResult


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method.beta=search", "method.beta_grid=[1,10,100]"], ["real (3 values)"]),
        (["method.beta=10"], []),
    ],
)
def test_a_search_that_the_baseline_did_not_have_is_told(
    words: list[str], told: list[str], tmp_path: Path
) -> None:
    own = {**STUDY["arms"], "real": ["transfer_set=unlabelled", "method=aft", *words]}
    found = read_comparison(compare_words(tmp_path, arms=own)[1:])
    tasks = make_plan(found.config.study, found.arms, tmp_path).tasks
    arms = [arm(name, [0.5, 0.6], budget=Budget(6)) for name in ("stl", "real")]
    data = CompareData("title", "study", arms, baseline="stl", notes=["first"])
    searched = with_searches(data, [], tasks)
    assert [each.budget for each in searched.arms] == [Budget(6), Budget(6)]
    first, *notes = searched.notes
    assert first == "first" and len(notes) == len(told)
    assert all(text in note for text, note in zip(told, notes, strict=True))


def test_candidates_count_what_their_students_saw_as_an_arm_does(tmp_path: Path) -> None:
    """Images that a teacher was adapted with are images of teachers, not of students."""
    found = read_comparison(compare_words(tmp_path)[1:])
    tasks = make_plan(found.config.study, found.arms, tmp_path).tasks
    student = StudentResult("real", 0, 0.5, cost=Cost(2.0, samples=100, steps=9, teacher_images=70))
    task: Any = SimpleNamespace(
        name="real-1",
        config=SimpleNamespace(validation="cross"),
        failure=lambda: None,
        results=lambda: [(student, {TEACHERS: Cost(1.0, samples=40, teacher_images=70)})],
        seconds=lambda: 3.0,
    )
    arms = [arm("stl", [0.5]), arm("real", [0.5], budget=Budget(6, samples=10, seconds=1.0))]
    data = CompareData("title", "study", arms, baseline="stl")
    searched = with_searches(data, [Candidate("real", ("a=1",), task)], tasks).arms[1].budget
    assert searched == Budget(
        6, choices=("settings",), steps=9, samples=70, teacher_images=70, seconds=4.0,
        search_seconds=3.0,
    )  # fmt: skip
