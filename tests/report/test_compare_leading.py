"""Which arm a comparison names: chosen on validation images, no claim by chance, twins once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compare_cases import BASE, GAIN, arm, comparison
from test_report import Page

from genkt.report.compare.compare_data import AFTER, ComparedArm, CompareData, ComparedCell
from genkt.report.compare.compare_page import render
from genkt.report.compare.compare_text import headline, markdown
from genkt.report.compare.findings import findings
from genkt.report.compare.leading_arm import leading_arm
from genkt.report.compare.merge_arms import merge_identical
from genkt.report.compare.write_comparison import comparison_dict
from genkt.types import StudentResult, StudentScores


def of(*arms: ComparedArm, **changes: object) -> CompareData:
    values: dict[str, object] = {"reference": None, "pairs": [], "sweeps": [], **changes}
    return comparison(arms=list(arms), **values)


def names(arms: Sequence[ComparedArm]) -> list[str]:
    return [each.name for each in arms]


def test_validation_images_choose_and_test_images_are_told() -> None:
    data = of(arm("stl", BASE), arm("a", GAIN, validation=0.8), arm("lucky", (0.8, 0.85, 0.9)))
    found = leading_arm(data)
    assert found.arm.name == "a" and found.validated and found.num_pairs == 3
    assert found.worse == [data.arms[0]]
    stored = comparison_dict(findings(data))["leading"]
    assert stored["arm"] == "a" and stored["chosen_by"] == "validation"
    assert set(stored["alike"] + stored["better"] + stored["worse"]) == {"stl", "lucky"}
    answer = "".join(text for text, _ in headline(findings(data)))
    assert "Best on validation images: a" in answer and "84.0 % (" in answer
    assert "+10.0 points over stl" in answer


def test_equal_validation_takes_the_first_of_the_study() -> None:
    data = of(arm("zebra", BASE), arm("ant", GAIN), baseline="zebra")
    assert leading_arm(data).arm.name == "zebra"


def test_without_validation_images_no_winner_is_named() -> None:
    data = of(arm("stl", BASE), arm("a", GAIN, validation=None), arm("b", GAIN))
    found = leading_arm(data)
    assert not found.validated and found.arm.name == "a" and names(found.alike) == ["b"]
    answer = "".join(text for text, _ in headline(findings(data)))
    assert answer.startswith("No winner is named")


def test_another_metric_leads_where_it_judged_all_arms() -> None:
    by, other = "validation_macro_f1", dict[str, Any](judged_by="validation_macro_f1")
    data = of(arm("stl", BASE, **other), arm("a", GAIN, validation=0.6, **other), arm("b", GAIN))
    assert not leading_arm(data).validated  # an accuracy and an F1 cannot be compared
    data = of(*(arm(n, BASE, validation=v, **other) for n, v in (("stl", 0.4), ("a", 0.6))))
    found = findings(data)
    assert found.leading.validated and found.leading.arm.name == "a"
    stored = comparison_dict(found)["arms"][1]
    assert stored[by] == pytest.approx(0.6) and stored["validation_accuracy"] is None


def equal_arms(rng: np.random.Generator, num_arms: int) -> CompareData:
    """Arms that are all equal; luck of the training shows in validation and test images alike."""
    draws, images = 5, 100
    easy, label = rng.standard_normal((2, images)), rng.standard_normal(draws)
    arms = []
    for name in map(str, range(num_arms)):
        cells = []
        for draw in range(draws):
            skill = 1 + label[draw] / 2 + 1.5 * rng.standard_normal()
            test, validation = rng.random((2, images)) < 1 / (1 + np.exp(-skill - easy))
            extras: dict[str, float | int | str] = {"validation_accuracy": float(validation.mean())}
            result = StudentResult(name, draw, float(test.mean()), extras=extras)
            cells.append(ComparedCell(result, {}, StudentScores(test.astype(np.float32))))
        arms.append(ComparedArm(name, name, [], cells))
    return CompareData("", "", arms, "0", num_draws=draws)


def test_equal_arms_are_rarely_told_apart() -> None:
    """Holm over the leading arm's differences alone tells arms apart in 9 % of these cases."""
    rng = np.random.default_rng(1)
    found = [leading_arm(equal_arms(rng, 8)) for _ in range(200)]
    wrong = sum(bool(each.worse or each.better) for each in found)
    assert wrong <= 0.05 * 200 + 2 * (0.05 * 0.95 * 200) ** 0.5
    assert len({each.arm.name for each in found}) == 8


def twin(of_arm: ComparedArm, name: str, **changes: object) -> ComparedArm:
    cells = []
    for cell in of_arm.cells:
        slower = replace(cell.result.cost, seconds=9.0, samples=130, steps=13)  # of a teacher
        cells.append(replace(cell, result=replace(cell.result, arm=name, cost=slower)))
    return replace(of_arm, name=name, title=name.upper(), cells=cells, **changes)


def test_identical_arms_are_one_row_with_both_names() -> None:
    stl, kd = arm("stl", BASE, title="Plain"), arm("kd", GAIN, (0.6, 0.7, 0.8), title="KD")
    study = [stl, twin(kd, "probe"), kd]
    arms = merge_identical(study)
    assert names(arms) == ["stl", "probe"] and arms[1].title == "PROBE = KD"
    pairs = [("kd", "probe"), ("kd", "stl"), ("probe", "stl")]
    data = of(*study, reference="kd", pairs=pairs)
    found = findings(data)
    assert found.contrasts.num == 2 and found.leading.num_pairs == 1
    assert [each.a.name for each in found.contrasts.minus_reference] == ["stl"]
    assert [(each.a.name, each.b.name) for each in found.contrasts.pairs] == [("probe", "stl")]
    stored = comparison_dict(found)
    assert [each["arm"] for each in stored["arms"]] == ["stl", "probe", "kd"]
    assert [each["same_as"] for each in stored["arms"]] == [None, None, "probe"]
    assert stored["arms"][2]["title"] == "KD" and len(stored["cells"]) == 9
    assert "| PROBE = KD |" in markdown(found)
    links = Page(render(found)).fetched
    assert [f"arms/{name}/report.html" in links for name in ("kd", "probe")] == [True, True]


@pytest.mark.parametrize(
    "what", ["weights", "scores", "validation", "no scores", "no digest", "sweep"]
)
def test_arms_that_differ_stay_two_rows(what: str) -> None:
    kd = arm("kd", GAIN, (0.6, 0.7, 0.8))
    other = twin(kd, "other")
    cell = other.cells[1]
    assert cell.scores is not None
    changed = {
        "weights": replace(cell, weights="others"),
        "scores": replace(cell, scores=replace(cell.scores, distilled=1 - cell.scores.final)),
        "validation": replace(cell, result=replace(cell.result, extras={})),
        "no scores": replace(cell, scores=None),
        "no digest": replace(cell, weights=""),
        "sweep": cell,
    }[what]
    other = replace(other, cells=[other.cells[0], changed, other.cells[2]], listed=what != "sweep")
    assert names(merge_identical([kd, other])) == ["kd", "other"]
    assert len(merge_identical([kd, twin(kd, "other")])) == 1


def test_the_row_of_a_merged_arm_is_found_by_both_names() -> None:
    kd = arm("kd", GAIN)
    data = of(arm("stl", BASE), *merge_identical([kd, twin(kd, "probe")]), reference="probe")
    row = data.arm("probe")
    assert row is data.arm("kd") and row is not None and row.mean(AFTER) == pytest.approx(84)
    assert names(data.others) == ["stl", "kd"]
