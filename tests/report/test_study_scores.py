"""The scores of a study are kept whole, in few bytes, and give its intervals again."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare_cases import BASE, BEFORE_GAIN, GAIN, arm, comparison
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from refusals import refused

import genkt
from genkt.metrics.scored_arms import DrawDesign
from genkt.report.compare.compare_data import ComparedArm, CompareData, ComparedCell
from genkt.report.compare.findings import findings
from genkt.report.compare.study_scores import SCORES, write_study_scores
from genkt.report.compare.write_comparison import build_comparison
from genkt.types import DamagedError, StudentResult, StudentScores


def ends(entry: dict[str, float]) -> list[float]:
    kind = "percent" if "low_percent" in entry else "points"
    return [entry[f"{end}_{kind}"] for end in ("mean", "low", "high")]


def test_every_interval_can_be_made_anew(tmp_path: Path) -> None:
    path, *_ = build_comparison(findings(comparison()), tmp_path)
    found = json.loads(path.read_text("utf-8"))
    study = genkt.scores_of_study(tmp_path)
    assert found["scores"] == SCORES and list(study.arms) == [a["arm"] for a in found["arms"]]
    for each in found["arms"]:
        for column in ("distilled", "accuracy"):
            if each[column] is not None:
                again = study.interval(each["arm"], distilled=column == "distilled")
                assert again is not None
                assert ends(each[column]) == [100 * v for v in (again.mean, again.low, again.high)]
    for each in [*found["minus_baseline"], *found["minus_reference"], *found["pairs"]]:
        for column in ("distilled", "accuracy"):
            again = study.difference(each["a"], each["b"], distilled=column == "distilled")
            assert again is not None and each[column]["p_value"] == again.p
            assert ends(each[column]) == [100 * v for v in (again.mean, again.low, again.high)]
    assert study.arms["good"].validation == {(draw, 0): 0.5 for draw in range(3)}
    with refused("arm", "goods", "good"):
        study.interval("goods")


def test_the_bytes_are_few_and_always_the_same(tmp_path: Path) -> None:
    ids = [f"digits/{index}#{index * 2654435761 % 2**64:016x}" for index in range(797)]
    rng = np.random.default_rng(0)
    arms = [
        arm(f"arm{index}", *rng.uniform(0.7, 0.95, (2, 5)).tolist(), num_images=797)
        for index in range(24)
    ]
    data = comparison(arms=arms, test_ids=ids, pairs=[], sweeps=[])
    first, second = (write_study_scores(data, tmp_path / name) for name in ("a", "b"))
    assert first is not None and second is not None
    os.utime(first)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 50_000
    assert genkt.scores_of_study(first).test_ids == tuple(ids)


@given(
    st.lists(st.booleans(), min_size=1, max_size=5),  # of each student: has it a last stage?
    arrays(np.float32, (5, 2, 11), elements=st.sampled_from([0.0, 0.25, 1.0])),
    st.booleans(),
    st.integers(1, 11),
)
@settings(max_examples=40, deadline=None)
def test_any_scores_come_back(
    stages: list[bool], drawn: NDArray[np.float32], whole: bool, num_images: int
) -> None:
    values = (drawn.round() if whole else drawn)[..., :num_images]
    cells = [
        ComparedCell(StudentResult("a", draw, 0.5, 0.5 if has else None), {}, StudentScores(
            values[draw, 0], values[draw, 1] if has else None
        ))
        for draw, has in enumerate(stages)
    ]  # fmt: skip
    data = CompareData("", "", [ComparedArm("a", "a", [], cells)], "a", test_ids=["ö"] * num_images)
    with tempfile.TemporaryDirectory() as folder:
        path = write_study_scores(data, Path(folder))
        assert path is not None
        found = genkt.scores_of_study(path)
    assert found.test_ids == tuple(data.test_ids)
    mine = found.arms["a"]
    assert set(mine.distilled) == {(draw, 0) for draw, has in enumerate(stages) if has}
    for draw in range(len(stages)):
        assert np.array_equal(mine.final[draw, 0], values[draw, 0])
    for draw, _ in mine.distilled:
        assert np.array_equal(mine.distilled[draw, 0], values[draw, 1])


def graded(data: CompareData) -> CompareData:
    """The same with scores that are no zeros and ones."""
    arms = []
    for each in data.arms:
        cells = []
        for cell in each.cells:
            assert cell.scores is not None
            half = StudentScores(cell.scores.final / 2 + 0.1, cell.scores.distilled)
            cells.append(replace(cell, scores=half))
        arms.append(replace(each, cells=cells))
    return replace(data, arms=arms)


def test_other_scores_groups_and_designs_are_kept(tmp_path: Path) -> None:
    design = DrawDesign(False, 0.25, [f"patient {index // 4}" for index in range(200)])
    data = graded(comparison(design=design))
    path = write_study_scores(data, tmp_path)
    assert path is not None
    found = genkt.scores_of_study(path)
    assert found.design == replace(design, groups=tuple(design.groups or ()))
    for each in data.arms:
        mine, kept = each.scored("after fine-tuning"), found.arms[each.name].final
        assert all(np.array_equal(kept[place], mine[place]) for place in mine)
    assert repr(found.interval("good")) == repr(data.interval(data.arms[1], "after fine-tuning"))


def test_no_scores_no_file(tmp_path: Path) -> None:
    (tmp_path / SCORES).write_bytes(b"of an earlier start")
    arms = [arm("stl", BASE, scored=False), arm("good", GAIN, BEFORE_GAIN, scored=False)]
    data = comparison(arms=arms, reference=None, pairs=[], sweeps=[])
    path, *_ = build_comparison(findings(data), tmp_path)
    assert not (tmp_path / SCORES).exists()
    assert json.loads(path.read_text("utf-8"))["scores"] is None


def test_a_study_without_a_stage_before_the_last(tmp_path: Path) -> None:
    path = write_study_scores(comparison(arms=[arm("stl", BASE)], pairs=[], sweeps=[]), tmp_path)
    assert path is not None
    found = genkt.scores_of_study(path).arms["stl"]
    assert len(found.final) == 3 and found.distilled == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_study_scores(comparison(), tmp_path)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedError):
        genkt.scores_of_study(path)
