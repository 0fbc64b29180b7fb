"""A comparison whose arms train several students a draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compare_cases import compare_words
from refusals import refused

from genkt.cli.compare import read_comparison
from genkt.comparison.compare_arms import run_compare
from genkt.comparison.plan_arms import make_plan
from genkt.comparison.watch_arms import Watch

CHANGES: dict[str, Any] = {
    "arms": {"stl": ["method=stl", "transfer_set=labelled"], "few": ["transfer_set=labelled"]},
    "pairs": [], "reference": None,
}  # fmt: skip


def test_arms_share_the_number_of_seeds(tmp_path: Path) -> None:
    arms = {**CHANGES["arms"], "few": ["transfer_set=labelled", "seeds_per_draw=2"]}
    found = read_comparison(compare_words(tmp_path, **{**CHANGES, "arms": arms})[1:])
    with refused("few", "seeds_per_draw=2", 1):
        make_plan(found.config.study, found.arms, tmp_path)


def test_every_student_of_every_arm_is_trained_and_counted(tmp_path: Path) -> None:
    words = compare_words(tmp_path, "seeds_per_draw=2", "train.steps=1", **CHANGES)
    found = read_comparison(words[1:])
    plan = make_plan(found.config.study, found.arms, tmp_path / "comparison")
    assert [task.num_finished() for task in plan.tasks] == [0, 0]
    result = run_compare(found.config, found.arms, command="", words=())
    assert [task.num_finished() for task in plan.tasks] == [4, 4]
    assert Watch(plan.tasks, "arms")._num_students() == 8
    keys = [[(r.draw, r.seed) for r, _ in task.results()] for task in plan.tasks]
    assert keys == [[(0, 0), (0, 1), (1, 0), (1, 1)]] * 2
    begun = [[r.extras["first_weights"] for r, _ in task.results()] for task in plan.tasks]
    assert begun[0] == begun[1] and len(set(begun[0])) == 4
    assert not any("first weights" in note for note in result.data.notes)
