"""What a run claims: never more than its intervals allow, and what they cover is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import BASELINE, cells, report, scores, two_arms

from genkt.metrics import holm, needed, paired_interval, ratio_interval
from genkt.metrics.scored_arms import DrawDesign
from genkt.metrics.verdicts import BETTER, OPEN, WITHIN, WORSE, ends
from genkt.report.kit.table_cells import TableCell
from genkt.report.transfer.headline import (
    difference_text,
    headline,
    headline_text,
    scope,
    verdict_word,
)
from genkt.report.transfer.report_data import ModelSummary, ReportData, TeacherArm
from genkt.report.transfer.report_page import render
from genkt.report.transfer.sections import result
from genkt.report.transfer.summary import (
    ArmDifference,
    against_baseline,
    differences,
    summarise,
)
from genkt.report.transfer.text_table import text_summary
from genkt.report.transfer.write_report import report_dict
from genkt.types import Budget

LOSS, EVEN = (-0.05, -0.06, -0.055), (-0.02, 0.03, 0.0)


def stacked(data: ReportData, arm: str) -> np.ndarray:
    return np.array([scored for _, scored in sorted(data.scores[arm].items())])


def against(data: ReportData) -> ArmDifference:
    found = against_baseline(data)
    assert found is not None
    return found


def titled(data: ReportData) -> dict[str, str]:
    return dict(scope(data))


@pytest.mark.parametrize(
    ("gain", "word", "words"),
    [
        ((0.09, 0.10, 0.11), BETTER, "over plain fine-tuning"),
        (LOSS, WORSE, "worse than plain fine-tuning"),
        (EVEN, OPEN, "no established difference from plain fine-tuning"),
    ],
)
def test_the_answer_and_its_interval(gain: tuple[float, ...], word: str, words: str) -> None:
    data = report(gain)
    found = paired_interval(stacked(data, "aft"), stacked(data, "stl"))
    assert verdict_word(data) == word
    text = headline_text(data)
    assert words in text and ends(found) in text and "3 label draws, 200 test images" in text
    assert report_dict(data)["verdict"] == word


@pytest.mark.parametrize(
    ("gain", "is_bold"), [((0.09, 0.10, 0.11), True), (EVEN, False), ((0.2, 0.2), False)]
)
def test_a_difference_is_bold_where_it_is_established(
    gain: tuple[float, ...], *, is_bold: bool
) -> None:
    data = report(gain)
    points = difference_text(difference := against(data))
    assert any(points in text for text, is_key in headline(data) if is_key) == is_bold
    shown = result(data, summarise(data))["rows"][1][2]
    assert (
        isinstance(shown, TableCell) and shown.strong == difference.verdict.established == is_bold
    )


def test_one_draw_is_of_these_students_alone() -> None:
    data = report((0.2,))
    assert verdict_word(data) == OPEN
    assert "these two students alone" in headline_text(data)
    assert "over test images, of these students alone" in titled(data)["How sure:"]


def test_nothing_prints_an_interval_of_two_draws() -> None:
    data = report((0.2, 0.2))
    found = paired_interval(stacked(data, "aft"), stacked(data, "stl"))
    low, high = f"{100 * found.low:.1f}", f"{100 * found.high:.1f}"
    for text in (headline_text(data), text_summary(data), render(data)):
        assert "two draws are too few for an interval" in text
        assert f"{low} to {high}" not in text and "±" not in text
    assert verdict_word(data) == OPEN
    stored = report_dict(data)
    entries = [each["accuracy"] for each in stored["arms"]] + [stored["arms"][1]["difference"]]
    found_ends = [
        value
        for each in entries
        for key, value in each.items()
        if key.startswith(("low_", "high_"))
    ]
    assert len(found_ends) == 6 and set(found_ends) == {None}


def test_two_training_seeds_on_the_same_labels_are_called_so() -> None:
    data = report((0.2, 0.17), design=DrawDesign(labels_vary=False))
    assert "two training seeds are too few for an interval" in text_summary(data)
    plan = titled(data)["To show 2 points:"]
    assert "training seeds" in plan and "draws" not in plan


@pytest.mark.parametrize(
    ("mine", "its", "is_told"),
    [(0.0, 0.0, False), (9.0, 0.0, True), (9.0, 9.0, False)],
)
def test_a_search_that_the_baseline_did_not_have_is_told(
    mine: float, its: float, is_told: bool
) -> None:
    searched = {"aft": Budget(6, search_seconds=mine), "stl": Budget(6, search_seconds=its)}
    assert ("but no search" in headline_text(report(budgets=searched))) == is_told


@pytest.mark.parametrize(
    ("num_images", "word", "note"),
    [(29, OPEN, "30 or more are needed"), (60, BETTER, "rough under 100"), (100, BETTER, "")],
)
def test_few_test_images(num_images: int, word: str, note: str) -> None:
    data = report((0.2, 0.2, 0.2), num_images=num_images)
    assert verdict_word(data) == word
    assert note in headline_text(data) + titled(data)["How sure:"]
    assert ("rough" in titled(data)["How sure:"]) == (num_images == 60)
    assert ("Only 29 test images" in titled(data)["How sure:"]) == (num_images == 29)


def test_without_a_baseline_the_method_has_its_interval() -> None:
    data = report(cells=cells("aft", scores(BASELINE)), scores={"aft": scores(BASELINE)})
    assert "no baseline in this run" in headline_text(data)
    assert "3 label draws, 200 test images" in headline_text(data)
    found = report_dict(data)
    assert found["baseline"] is None and found["verdict"] is None and found["needed"] is None


def test_old_runs_without_scores_have_means_and_no_interval() -> None:
    data = report(scores={})
    assert "+10.0 points" in headline_text(data) and verdict_word(data) == OPEN
    difference = report_dict(data)["arms"][1]["difference"]
    assert difference["low_points"] is None and difference["num_images"] is None
    assert difference["mean_points"] == pytest.approx(10)
    assert "no intervals" in titled(data)["How sure:"]


@pytest.mark.parametrize(
    ("seeds", "design", "varied", "covered"),
    [
        (1, DrawDesign(), "3 label draws, 200 test images", "seeds_per_draw=2"),
        (1, DrawDesign(pool_share=0.4), "3 label draws", "40 % of the labelled pool"),
        (3, DrawDesign(), "3 label draws, 3 training seeds each", "new training seeds and new"),
        (3, DrawDesign(pool_share=0.4), "3 training seeds each", "the intervals are wider"),
        (2, DrawDesign(labels_vary=False), "6 training seeds, the same labels", "not covered"),
        (1, DrawDesign(groups=[f"g{n // 4}" for n in range(200)]), "50 groups of test images",
         "new groups of test images"),
    ],
)  # fmt: skip
def test_what_varied_is_said(seeds: int, design: DrawDesign, varied: str, covered: str) -> None:
    data = report(seeds=seeds, design=design)
    found = report_dict(data)
    assert varied in found["what_varied"] and found["what_varied"] in headline_text(data)
    for text in (" ".join(titled(data).values()), text_summary(data), render(data)):
        assert covered in text


def test_what_the_figures_hold_for() -> None:
    made = {"synthesized": 10, "real, labelled": 2}
    assert (
        "this teacher, this generator and these settings"
        in titled(report(transfer_composition=made))["How sure:"]
    )
    alone = report(models=[ModelSummary("student", "tiny", 1000)])
    assert titled(alone)["How sure:"].endswith("All figures hold for these settings.")


def test_the_student_against_its_teacher() -> None:
    data = report()
    teacher = {d: scored for (d, _), scored in scores((0.81, 0.85, 0.87), seed=2).items()}
    arm = TeacherArm("teacher0", "Teacher's linear probe", True, 0.84, teacher)
    data = report(teachers=[arm])
    beside = np.array(list(teacher.values()))
    ratio = ratio_interval(stacked(data, "aft"), beside)
    found = report_dict(data)["arms"][-1]
    assert (found["arm"], found["role"]) == ("teacher0", "teacher")
    assert found["teacher"]["student_ratio"]["ratio_percent"] == pytest.approx(100 * ratio.mean)
    difference = paired_interval(stacked(data, "aft"), beside)
    assert found["teacher"]["student_difference"]["low_points"] == 100 * difference.low
    sentence = titled(data)["Teacher:"]
    assert f"of its teacher's linear probe ({ends(ratio)})" in sentence
    within = found["teacher"]["within_margin"] == WITHIN
    assert within == (difference.low > -0.02) and (" and is within" in sentence) == within
    assert "Teacher's linear probe" in text_summary(data) and ends(ratio) in render(data)


def test_a_student_as_good_as_its_teacher_is_within_two_points() -> None:
    data = report(num_images=2000)
    teacher = {draw: scored for (draw, _), scored in data.scores["aft"].items()}
    arm = TeacherArm("teacher0", "Teacher", True, 0.84, teacher)
    data = report(num_images=2000, teachers=[arm])
    assert report_dict(data)["arms"][-1]["teacher"]["within_margin"] == WITHIN
    assert "reaches 100.0 % of its teacher (" in titled(data)["Teacher:"]


def test_a_teacher_of_an_older_run_has_its_mean_alone() -> None:
    data = report(teachers=[TeacherArm("teacher0", "Teacher", True, 0.9)])
    entry = report_dict(data)["arms"][-1]
    assert entry["accuracy"]["mean_percent"] == 90 and entry["accuracy"]["low_percent"] is None
    assert entry["teacher"]["student_ratio"] is None
    assert "90.0 %" in titled(data)["Teacher:"] and "no scores" in titled(data)["Teacher:"]


def test_a_teacher_that_is_never_right_has_no_share_of_it() -> None:
    never = {draw: np.zeros(200, np.float32) for draw in range(3)}
    data = report(teachers=[TeacherArm("teacher0", "Teacher", True, 0.0, never)])
    found = report_dict(data)["arms"][-1]["teacher"]
    assert found["student_ratio"] is None and found["within_margin"] == WITHIN
    assert titled(data)["Teacher:"] == "Teacher has 0.0 %." and "Teacher" in render(data)


def test_what_would_show_two_points() -> None:
    data = report(EVEN)
    plan = needed(paired_interval(stacked(data, "aft"), stacked(data, "stl")))
    assert plan is not None and plan.draws is not None
    found = report_dict(data)["needed"]
    assert (found["draws"], found["images"]) == (plan.draws, plan.images)
    assert f"{plan.draws:,} draws with 200 test images" in titled(data)["To show 2 points:"]
    assert report_dict(report((0.1,)))["needed"] is None


def test_p_values_are_adjusted_for_all_differences() -> None:
    data = report(EVEN)
    third = scores((0.72, 0.77, 0.79), seed=7)
    data = report(
        EVEN, cells=[*data.cells, *cells("logit_kd", third)],
        scores={**data.scores, "logit_kd": third},
    )  # fmt: skip
    found = differences(data)
    assert set(found) == {("aft", "stl"), ("logit_kd", "stl"), ("aft", "logit_kd")}
    alone = {key: paired_interval(stacked(data, key[0]), stacked(data, key[1])).p for key in found}
    assert [each.p for each in found.values()] == holm(list(alone.values()))
    entry = report_dict(data)["method_minus_arms"]["logit_kd"]
    assert entry["p_adjusted"] == found["aft", "logit_kd"].p


def test_flips_are_of_all_draws_and_seeds() -> None:
    data = report(seeds=2)
    mine, theirs = data.scores["aft"], data.scores["stl"]
    gained = sum(int(((theirs[key] == 0) & (mine[key] == 1)).sum()) for key in mine)
    found = report_dict(data)["flips"]
    assert found["num_pairs"] == 6 and sum(found["gained_by_class"]) == gained
    assert found["positive"] == pytest.approx(gained / (6 * 200))
    net = found["positive"] - found["negative"]
    difference = against_baseline(data)
    assert difference is not None and net == pytest.approx(difference.mean)


def test_text_table_has_aligned_columns() -> None:
    lines = text_summary(report()).splitlines()
    header = next(line for line in lines if line.startswith("arm"))
    rows = [line for line in lines if line.startswith(("Plain", "AFT"))]
    for word, shown in (("draw 0", "79.0"), ("draw 1", "84.0"), ("difference", "+10.0")):
        assert rows[1].index(shown) + len(shown) == header.index(word) + len(word)
    assert all(len(row) <= len(header) for row in rows)


@settings(max_examples=25, deadline=None)
@given(
    draws=st.integers(1, 4),
    num_images=st.integers(2, 40),
    chance=st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.3, 1.0])),
    seed=st.integers(0, 1000),
)
def test_no_report_claims_too_much(
    draws: int, num_images: int, chance: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stl, aft = (
        {(d, 0): (rng.random(num_images) < share).astype(np.float32) for d in range(draws)}
        for share in chance
    )
    data = two_arms(stl, aft, predictions={}, sample_images={})
    text, found = text_summary(data), report_dict(data)
    assert "± 0.0" not in text and "nan" not in text
    if draws < 3 or num_images < 30:
        assert found["verdict"] == OPEN
    for arm in found["arms"]:
        low, high = arm["accuracy"]["low_percent"], arm["accuracy"]["high_percent"]
        if draws == 2:
            assert low is high is None
            continue
        assert 0 <= low <= arm["accuracy"]["mean_percent"] + 1e-9 and high <= 100
        assert high > low and not math.isnan(low)


def test_the_headline_counts_training_and_validation_labels() -> None:
    data = report(training_labels=20, validation_labels=100)
    assert "20 training labels a draw, 100 validation labels" in headline_text(data)
    assert "validation label" not in headline_text(report(training_labels=20))
    assert "training label" not in headline_text(report())
