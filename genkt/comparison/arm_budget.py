"""What went into the arms of a comparison: what their runs say, and searches of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from genkt.comparison.arm_task import ArmTask
from genkt.comparison.tuning import Candidate
from genkt.io import read_json
from genkt.report.compare.compare_data import CompareData
from genkt.stages.student_training import TEACHERS
from genkt.types import Budget, Cost


def arm_budget(report: Mapping[str, Any], arm: str) -> Budget | None:
    """The budget of an arm in a ``report.json``; None where an earlier genkt wrote it."""
    for each in report["arms"]:
        if each["arm"] == arm and (found := each.get("budget")) is not None:
            return Budget(**{**found, "choices": tuple(found["choices"])})
    return None


def with_searches(
    data: CompareData, tried: Sequence[Candidate], tasks: Sequence[ArmTask]
) -> CompareData:
    """The comparison with the search for settings in the budgets of its arms.

    A note names the arms that search beta, where the baseline searches nothing.

    Args:
        tried: the candidates of all arms.  tasks: those of the arms.
    """
    arms = []
    for arm in data.arms:
        mine = {each.task.name: each.task for each in tried if each.arm == arm.name}
        budget = arm.budget
        if budget is not None and mine:
            budget = _with_search(budget, list(mine.values()))
        arms.append(replace(arm, budget=budget))
    return replace(data, arms=arms, notes=[*data.notes, *_unsearched(data, tried, tasks)])


def _with_search(budget: Budget, tasks: Sequence[ArmTask]) -> Budget:
    """The same with the candidates; what failed counts only its seconds."""
    whole = [task for task in tasks if task.failure() is None]
    students = [student for task in whole for student in task.results()]
    cost = sum((result.cost for result, _ in students), Cost())
    of_teachers = sum(stages[TEACHERS].samples for _, stages in students if TEACHERS in stages)
    seconds = sum(task.seconds() for task in tasks)
    return replace(
        budget,
        validation_labels=max([budget.validation_labels, *map(_num_validation, whole)]),
        choices=(*budget.choices, "settings"),
        steps=budget.steps + cost.steps,
        samples=budget.samples + cost.samples - of_teachers,
        teacher_images=budget.teacher_images + cost.teacher_images,
        seconds=budget.seconds + seconds,
        search_seconds=budget.search_seconds + seconds,
    )


def _num_validation(task: ArmTask) -> int:
    """The validation images that a candidate was judged on; none where it was on folds."""
    if task.config.validation != "images":
        return 0
    parts = read_json(task.folder / "report.json", "a report")["splits"]
    return sum(int(part["num_samples"]) for part in parts if part["name"] == "validation")


def _unsearched(
    data: CompareData, tried: Sequence[Candidate], tasks: Sequence[ArmTask]
) -> list[str]:
    """A note where arms search beta and the baseline has no search at all."""
    counts = {task.name: task.config.num_searched for task in tasks}
    tuned = {each.arm for each in tried}
    if counts.get(data.baseline, 0) or data.baseline in tuned:
        return []
    shown = [
        f"{arm.title} ({counts[arm.name]} values)" for arm in data.arms if counts.get(arm.name)
    ]
    return [
        f"Searched beta: {', '.join(shown)}. The baseline searched nothing; "
        "study.tuning gives every arm as many candidates."
    ] if shown else []  # fmt: skip
