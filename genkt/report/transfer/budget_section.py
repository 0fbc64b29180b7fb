"""What went into each arm, as the report's table shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genkt.progress import duration
from genkt.report.kit.table_cells import Row
from genkt.report.transfer.report_data import ReportData
from genkt.types import Budget

_CHOICES = {
    "weights": "the best weights of a training",
    "teacher": "how the teacher was adapted",
    "search": "beta, or a learning rate",
    "stage": "whether the last stage is taken back",
    "student": "the exported student",
    "settings": "settings of the arm",
}


def budget(data: ReportData) -> dict[str, Any] | None:
    """The values of ``templates/transfer/budget.html``; None where no budget is known."""
    return budget_values([(data.name_of(arm), each) for arm, each in data.budgets.items()])


def budget_values(budgets: Sequence[tuple[str, Budget]]) -> dict[str, Any] | None:
    """The same of named budgets, for every report that shows some."""
    if not budgets:
        return None
    rows: list[Row] = [[name, *_cells(each)] for name, each in budgets]
    chosen = [
        (name, ", ".join(_CHOICES.get(choice, choice) for choice in each.choices))
        for name, each in budgets
        if each.choices
    ]
    return {"rows": rows, "chosen": chosen}


def _cells(budget: Budget) -> list[str]:
    labels = (budget.labels, budget.validation_labels)
    counts = (*labels, budget.steps, budget.samples, budget.teacher_images)
    parts = (budget.search_seconds, budget.making_seconds)
    return [
        *(f"{count:,}" if count else "–" for count in counts),
        duration(budget.seconds),
        *(duration(seconds) if seconds else "–" for seconds in parts),
    ]
