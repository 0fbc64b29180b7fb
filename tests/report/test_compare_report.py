"""The report of a comparison: differences as computed by hand, honest sentences, a safe page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from compare_cases import BASE, BEFORE_GAIN, GAIN, NUM_IMAGES, arm, comparison, right
from numpy.typing import NDArray
from refusals import refused
from test_report import Page

from genkt.comparison.collect_arms import _kept_note
from genkt.metrics.intervals import mean_interval, paired_interval
from genkt.metrics.verdicts import holm, span
from genkt.report.compare.compare_charts import sweeps_charts
from genkt.report.compare.compare_cost import cost_chart, frontier, worth
from genkt.report.compare.compare_data import AFTER, BEFORE, CompareData, Tried, Work
from genkt.report.compare.compare_grid import grid
from genkt.report.compare.compare_page import render
from genkt.report.compare.compare_text import headline, markdown, sentences, text_table
from genkt.report.compare.findings import Findings, findings
from genkt.report.compare.write_comparison import SCHEMA_VERSION, build_comparison, comparison_dict
from genkt.types import EARLIER, KEPT, Budget

SAME = (0.71, 0.72, 0.79)


def told(**changes: object) -> Findings:
    """What the comparison of ``compare_cases`` says."""
    return findings(comparison(**changes))


def page_of(data: CompareData) -> str:
    return render(findings(data))


def scores(shares: tuple[float, ...]) -> NDArray[np.float32]:
    """[D, N] of an arm of ``compare_cases``."""
    return np.array([right(share, draw) for draw, share in enumerate(shares)])


def test_intervals_are_over_draws_and_images() -> None:
    found = told()
    good = next(each for each in found.contrasts.minus_baseline if each.a.name == "good")
    for difference, mine in ((good.after, GAIN), (good.before, BEFORE_GAIN)):
        assert difference is not None
        assert repr(difference.interval) == repr(paired_interval(scores(mine), scores(BASE)))
    assert good.after.verdict.word == "better" and good.before is not None
    assert good.before.verdict.word == "not established"
    assert [round(v, 9) for v in good.after.by_draw.values()] == [9, 10, 11]
    entry = next(each for each in comparison_dict(found)["arms"] if each["arm"] == "good")
    own = mean_interval(scores(GAIN))
    assert entry["accuracy"]["low_percent"] == 100 * own.low
    assert (entry["accuracy"]["num_draws"], entry["accuracy"]["num_images"]) == (3, NUM_IMAGES)


def test_only_shared_draws_are_compared() -> None:
    arms = [arm("stl", BASE), arm("good", GAIN[:2])]
    (found,) = told(arms=arms, pairs=[], sweeps=[]).contrasts.minus_baseline
    assert list(found.after.by_draw) == [0, 1] and found.after.points == pytest.approx(9.5)
    assert found.after.verdict.reason.startswith("two draws")


def test_the_family_is_every_contrast_once() -> None:
    found = told(pairs=[("good", "same"), ("stl", "same"), ("same", "good")])
    asked = found.contrasts
    assert asked.num == 6  # three pairs of rows, each in both columns; asked nine times
    every = [*asked.minus_baseline, *asked.minus_reference, *asked.pairs]
    p = {
        (frozenset((each.a.name, each.b.name)), column): (difference.p_value, difference.p_adjusted)
        for each in every
        for column, difference in ((BEFORE, each.before), (AFTER, each.after))
        if difference is not None
    }
    assert len(p) == 6
    assert [new for _, new in p.values()] == pytest.approx(holm([old for old, _ in p.values()]))
    stored = comparison_dict(found)
    assert stored["num_contrasts"] == 6
    entry = stored["pairs"][0]["accuracy"]
    assert entry["low_points"] > 0 and entry["p_adjusted"] > entry["p_value"]
    assert not entry["established"]  # the interval misses 0, but one of six would by chance


def test_arms_without_a_stage_before_the_last_have_one_contrast() -> None:
    arms = [arm("stl", BASE), arm("ssl", SAME), arm("good", GAIN, BEFORE_GAIN)]
    found = told(arms=arms, reference=None, pairs=[("ssl", "good")], sweeps=[]).contrasts
    assert [each.before is None for each in found.minus_baseline] == [True, False]
    assert found.num == 1 + 2 + 2


def test_students_that_no_last_stage_has_changed_are_asked_about_once() -> None:
    arms = [arm("stl", BASE), arm("good", GAIN, GAIN), arm("other", GAIN, BEFORE_GAIN)]
    found = told(arms=arms, reference=None, pairs=[], sweeps=[]).contrasts
    assert found.num == 1 + 2
    good = found.minus_baseline[0]
    assert good.before is not None and good.before.p_adjusted == good.after.p_adjusted


def test_a_comparison_says_whose_last_stage_was_taken_back() -> None:
    good = arm("good", GAIN, GAIN)
    assert _kept_note(good) == ""
    good.cells[1].result.extras[KEPT] = EARLIER
    assert _kept_note(good) == "good, 1 of 3 students"


def test_chance_is_no_accuracy() -> None:
    arms = [arm("stl", BASE), arm("l2", GAIN, (0.1, 0.1, 0.1), head_taught=False)]
    found = told(arms=arms, reference=None, pairs=[], sweeps=[])
    assert found.contrasts.minus_baseline[0].before is None and found.contrasts.num == 1
    entry = comparison_dict(found)["arms"][1]
    assert entry["distilled"] is None and entry["head_taught"] is False
    assert "| l2 | – | 84.0 (" in markdown(found)
    assert sweeps_charts(found.data, []) == {}


def test_sentences_claim_what_is_established_and_nothing_else() -> None:
    found = told()
    lines = sentences(found)
    assert "After fine-tuning, against “Plain”, better: Good; not established: Same." in lines
    assert "Distilled only, against “Plain”, worse: Same; not established: Good." in lines
    (question,) = [line for line in lines if line.startswith("“Good” against “Same”")]
    interval = paired_interval(scores(GAIN), scores(SAME))
    assert f"after fine-tuning not established, +10.0 points ({span(interval)})" in question
    assert [(pair.a.name, pair.b.name) for pair in found.contrasts.pairs] == [("good", "same")]
    assert any("not adjusted" in line for line in lines) and "all 6 differences" in lines[-1]
    answer = "".join(text for text, _ in headline(found))
    assert "3 label draws, 200 test images" in answer and "1 of 2 arms beat Plain" in answer


@pytest.mark.parametrize("draws", [1, 2])
def test_one_or_two_draws_establish_nothing(draws: int) -> None:
    found = told(
        arms=[arm("stl", BASE[:draws]), arm("good", GAIN[:draws], BEFORE_GAIN[:draws])],
        reference=None, pairs=[], sweeps=[], num_draws=draws,
    )  # fmt: skip
    lines = " ".join(sentences(found))
    assert "not established: good" in lines and "better" not in lines
    assert "Nothing is established" in lines
    answer = "".join(text for text, _ in headline(found))
    assert "nothing is established" in answer and "beat" not in answer
    row = next(line for line in markdown(found).splitlines() if line.startswith("| good"))
    assert "(" not in row and "**" not in row
    Page(render(found))


def test_arms_of_an_earlier_version_have_means_alone() -> None:
    arms = [arm("stl", BASE, scored=False), arm("good", GAIN, BEFORE_GAIN, scored=False)]
    found = told(arms=arms, reference=None, pairs=[("good", "stl")], sweeps=[])
    assert "| good | 71.7 | 84.0 | +10.0 | 2.0 s |" in markdown(found)
    stored = comparison_dict(found)
    entry, with_scores = stored["minus_baseline"][0]["accuracy"], comparison_dict(told())
    assert entry["mean_points"] == pytest.approx(10) and entry["low_points"] is None
    assert entry["established"] is False
    assert entry.keys() == with_scores["minus_baseline"][0]["accuracy"].keys()
    assert stored["arms"][1]["accuracy"]["low_percent"] is None
    Page(render(found))


def test_markdown_is_one_table_a_part_with_the_figures() -> None:
    lines = markdown(told()).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert rows[0][:3] == ["arm", "distilled only", "after fine-tuning"]
    assert {len(row) for row in rows[:5]} == {len(rows[0])}
    by_name = {row[0]: row for row in rows}
    own = span(mean_interval(scores(BASE)))
    assert by_name["Plain"][1:4] == ["–", f"{100 * np.mean(BASE):.1f} ({own})", "–"]
    assert by_name["Good"][3] == f"**+10.0** ({span(paired_interval(scores(GAIN), scores(BASE)))})"
    assert not by_name["Same"][3].startswith("**")
    assert "Good, 9" not in by_name  # a point of the sweep alone
    sweep = [row for row in rows if row[0].startswith("Line")]
    assert sweep == [["Line: transfer\\_set.num\\_images", "3", "9"]]
    text = text_table(told()).splitlines()
    start = text[2].index("difference") + len("difference")
    assert next(line for line in text if line.startswith("Good  "))[:start].endswith("+10.0")


def test_markdown_takes_no_markup_from_names() -> None:
    evil = "a|b`c`<b>\n# x"
    data = comparison(
        arms=[arm("stl", BASE, title=evil), arm("good", GAIN, title="[x](y)")],
        command="genkt compare '```\nend'", reference=None, pairs=[], sweeps=[],
        failed=[("x", "<script>")],
    )  # fmt: skip
    text = markdown(findings(data))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "\n# x" not in text and "\\<script\\>" in text and "\\[x\\](y)" in text
    assert text.count("````") == 2  # no run of backquotes inside ends the block


def test_json_is_complete_and_strict(tmp_path: Path) -> None:
    path, *_ = build_comparison(told(), tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert found["schema"] == "genkt.compare" and found["schema_version"] == SCHEMA_VERSION
    assert len(found["cells"]) == 12
    cell = next(c for c in found["cells"] if c["arm"] == "good" and c["draw"] == 1)
    assert (cell["accuracy"], cell["accuracy_distilled"]) == (GAIN[1], BEFORE_GAIN[1])
    assert cell["validation_accuracy"] == 0.5 and cell["stages"]["distil"]["seconds"] == 1.5
    (pair,) = found["pairs"]
    assert pair["accuracy"]["mean_points"] == pytest.approx(100 * (np.mean(GAIN) - np.mean(SAME)))
    bare = told(arms=[arm("stl", BASE)], reference=None, pairs=[], sweeps=[])
    assert found.keys() == comparison_dict(bare).keys()


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    _, html, _ = build_comparison(told(failed=[("gone", "no such folder")]), tmp_path)
    text = html.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags and "url(" not in text
    links = [target for target in page.fetched if not target.startswith("#")]
    assert links == [f"arms/{name}/report.html" for name in ("stl", "good", "same", "good-9")]
    words = " ".join(page.texts)
    for expected in ("What is established", "Over the size", "gone", "no such folder", "Good",
                     "60.0 → 79.0", "genkt compare", "1.5"):  # fmt: skip
        assert expected in words


def test_hostile_text_stays_text() -> None:
    evil = '<script>alert("x")</script>\u202e\x00\udcff'
    arms = [
        arm(name, values, values, title=evil, words=[evil], config={evil: evil})
        for name, values in (("stl", BASE), ("good", GAIN))
    ]
    data = comparison(
        title=evil, study=evil, arms=arms, reference="good", pairs=[("good", "stl")],
        failed=[(evil, evil)], notes=[evil], words=[evil], command=evil,
        versions={evil: evil, "genkt": evil, "date": evil}, sweeps=[],
    )  # fmt: skip
    text = page_of(data)
    page = Page(text)
    assert "script" not in page.tags and "\u202e" not in text and "\x00" not in text
    assert "".join(page.texts).count("<script>") > 10


def test_hostile_names_can_be_written(tmp_path: Path) -> None:
    data = comparison(failed=[("bad\udcff", "bad\udcff")], words=["bad\udcff"])
    for path in build_comparison(findings(data), tmp_path):
        assert "bad" in path.read_text(encoding="utf-8")


def test_sweeps_share_their_scales_and_skip_what_is_missing() -> None:
    data = comparison()
    charts = sweeps_charts(data, data.sweeps)
    assert list(charts) == ["distilled only", "after fine-tuning"]
    ticks = [re.findall(r'text-anchor="end" class="small">(\d+)<', c) for c in charts.values()]
    assert ticks[0] == ticks[1] and ticks[0]
    without = comparison(arms=[a for a in data.arms if a.name != "good-9"])
    for chart in sweeps_charts(without, without.sweeps).values():
        assert chart.count("<circle") == 1
    assert sweeps_charts(comparison(arms=[arm("stl", BASE)]), data.sweeps) == {}


def test_arms_that_cannot_be_told_apart_are_refused() -> None:
    with refused("comparison"):
        comparison(arms=[arm("stl", BASE), arm("stl", GAIN)])
    with refused("comparison", "empty"):
        comparison(arms=[arm("stl", BASE), arm("empty", ())])


def test_no_quicker_arm_is_as_accurate_as_one_of_the_frontier() -> None:
    arms = [
        arm("slow", (0.9, 0.9), seconds=9.0), arm("quick", (0.5, 0.5), seconds=1.0),
        arm("worse", (0.4, 0.4), seconds=3.0), arm("middle", (0.7, 0.7), seconds=3.0),
        arm("late", (0.9, 0.9), seconds=20.0),
    ]  # fmt: skip
    assert [each.name for each in frontier(arms)] == ["quick", "middle", "slow"]
    data = comparison(arms=arms, baseline="quick", reference=None, pairs=[], sweeps=[], num_draws=2)
    assert worth(data) == (
        "By mean accuracy alone, so some by chance, no quicker arm is as good as these: "
        "quick (1.0 s, 50.0 %); middle (3.0 s, 70.0 %); slow (9.0 s, 90.0 %)."
    )
    chart = cost_chart(data)
    assert chart.count("<circle") == 5 and chart.count("<polyline") == 1
    assert "no quicker arm" in page_of(data) and "no quicker arm" in markdown(findings(data))
    alone = comparison(arms=[arm("stl", BASE)], reference=None, pairs=[], sweeps=[])
    assert worth(alone) == "" and cost_chart(alone) == ""


def test_candidates_are_told_with_the_chosen_one_in_bold() -> None:
    tuning = [
        Tried("good", ("train.lr=0.1",), 0.75, 60.0, False),
        Tried("good", ("train.lr=0.2",), 0.8, 60.0, True),
        Tried("same", ("a=1",), None, 0.0, True),
        Tried("same", ("a=2",), None, 0.0, False),
    ]
    page = render(told(tuning=tuning))
    assert "train.lr=0.1: 75.0<br><b>train.lr=0.2: 80.0</b>" in page
    assert "<b>a=1: ended early</b>" in page
    line = "Settings of 2 arms were chosen on validation images, on label draws of their own"
    assert line in page and line in markdown(told(tuning=tuning))
    assert "Chosen settings" not in render(told())


def test_the_work_and_how_long_it_took() -> None:
    page = render(told(work=Work(wall_seconds=100.0, task_seconds=190.0)))
    assert "1.90 processes at a time" in page
    assert "24.0 s of work in all" in render(told())


def test_budgets_are_shown_where_they_are_known() -> None:
    budget = Budget(20, 100, ("settings",), 1234, 5678, 910, 60.0, 30.0)
    arms = [arm("stl", BASE), arm("good", GAIN, title="Good", budget=budget)]
    data = comparison(arms=arms, reference=None, pairs=[], sweeps=[])
    page = page_of(data)
    assert "<h2>Budget" in page and "1,234" in page and "settings of the arm" in page
    assert comparison_dict(findings(data))["arms"][1]["budget"]["validation_labels"] == 100
    assert "<h2>Budget" not in render(told())


def about(method: str, images: str, recipe: str = "distil") -> dict[str, dict[str, str]]:
    return {
        "recipe": {"name": recipe}, "method": {"name": method}, "transfer_set": {"name": images},
    }  # fmt: skip


def test_methods_on_several_sets_become_a_grid() -> None:
    arms = [
        arm("stl", BASE, config=about("stl", "labelled")),
        arm("a", (0.8, 0.8, 0.8), config=about("aft", "unlabelled")),
        arm("b", (0.7, 0.7, 0.7), config=about("aft", "digg")),
        arm("c", (0.6, 0.6, 0.6), config=about("aft", "unlabelled", "ota")),
        arm("d", (0.5, 0.5, 0.5), config=about("aft", "retrieved", "ota")),
        arm("twin", (0.1, 0.1, 0.1), config=about("aft", "digg")),
    ]
    data = comparison(arms=arms, reference=None, pairs=[], sweeps=[])
    found = grid(data)
    assert found is not None and found.columns == ["unlabelled", "digg", "retrieved"]
    named = [(name, [each and each.name for each in row]) for name, row in found.rows]
    assert named == [("aft", ["a", "b", None]), ("ota", ["c", None, "d"])]
    assert "Methods on transfer sets" in page_of(data)
    ota = span(mean_interval(scores((0.6, 0.6, 0.6))))
    assert f"| ota | 60.0 ({ota}) | – | 50.0 (" in markdown(findings(data))
    assert grid(comparison()) is None and "Methods on transfer sets" not in render(told())
