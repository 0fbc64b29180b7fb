"""Budgets of arms: what a comparison says of searches."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare_cases import STUDY, arm, compare_words

from genkt.cli.compare import read_comparison
from genkt.comparison.arm_budget import with_searches
from genkt.comparison.plan_arms import make_plan
from genkt.report.compare.compare_data import CompareData
from genkt.types import Budget


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
