"""The report of a comparison: differences as computed by hand, honest sentences, a safe page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from compare_cases import BASE, BEFORE_GAIN, GAIN, arm, comparison
from refusals import refused
from scipy.stats import t as student_t
from test_report import Page

from genkt.report.compare.compare_charts import sweeps_charts
from genkt.report.compare.compare_cost import cost_chart, frontier, worth
from genkt.report.compare.compare_data import Tried, Work, against, asked, together
from genkt.report.compare.compare_grid import grid
from genkt.report.compare.compare_page import render
from genkt.report.compare.compare_text import after, headline, markdown, sentences, text_table
from genkt.report.compare.write_comparison import SCHEMA_VERSION, build_comparison, comparison_dict


def by_hand(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float, float]:
    """Mean and 95 % Student-t interval of 100 (a - b), from the formula."""
    differences = [100 * (x - y) for x, y in zip(a, b, strict=True)]
    n, mean = len(differences), sum(differences) / len(differences)
    variance = sum((value - mean) ** 2 for value in differences) / (n - 1)
    reach = student_t.ppf(0.975, n - 1) * math.sqrt(variance / n)
    return mean, mean - reach, mean + reach


def test_differences_are_those_of_a_hand_computation() -> None:
    data = comparison()
    good = next(found for found in against(data, data.arm("stl")) if found.a.name == "good")
    for difference, mine in ((good.after, GAIN), (good.before, BEFORE_GAIN)):
        found = (difference.mean, difference.low, difference.high)
        assert found == pytest.approx(by_hand(mine, BASE), abs=1e-9)
    assert good.after.established and not good.before.established
    assert [round(v, 9) for v in good.by_draw["after fine-tuning"].values()] == [9, 10, 11]


def test_only_shared_draws_are_compared() -> None:
    short = comparison(arms=[arm("stl", BASE), arm("good", GAIN[:2])], pairs=[], sweeps=[])
    (found,) = against(short, short.arm("stl"))
    assert found.after.n == 2 and found.after.mean == pytest.approx(9.5)


def test_sentences_claim_what_is_established_and_nothing_else() -> None:
    data = comparison()
    told = sentences(data)
    assert "After fine-tuning, against “Plain”, better: Good; not established: Same." in told
    assert "Distilled only, against “Plain”, worse: Same; not established: Good." in told
    (question,) = [line for line in told if line.startswith("“Good” against “Same”")]
    mean, low, high = by_hand(GAIN, (0.71, 0.72, 0.79))
    assert f"after fine-tuning better, +{mean:.1f} ({low:.1f} to {high:.1f})" in question
    assert "distilled only better, +17.3" in question
    assert "excludes 0" in told[-1] and "by chance" in told[-1]
    assert [(pair.a.name, pair.b.name) for pair in asked(data)] == [("good", "same")]
    answer = "".join(text for text, _ in headline(data))
    assert answer.startswith("Most accurate: Good 84.0 ± 12.4 %, +10.0 points over Plain.")
    assert "1 of 2 arms beat it" in answer and "worse" not in answer


def test_one_draw_establishes_nothing() -> None:
    data = comparison(
        arms=[arm("stl", BASE[:1]), arm("good", GAIN[:1], BEFORE_GAIN[:1])],
        reference=None, pairs=[], sweeps=[], num_draws=1,
    )  # fmt: skip
    told = " ".join(sentences(data))
    assert "not established: good" in told and "better" not in told
    assert "nothing is established" in told
    assert "beyond chance" not in "".join(text for text, _ in headline(data)).lower()
    Page(render(data))


def test_markdown_is_one_table_a_part_with_the_figures() -> None:
    lines = markdown(comparison()).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert rows[0][:3] == ["arm", "distilled only", "after fine-tuning"]
    assert {len(row) for row in rows[:5]} == {len(rows[0])}
    by_name = {row[0]: row for row in rows}
    assert by_name["Plain"][1:4] == ["–", f"{100 * np.mean(BASE):.1f} ± 9.9", "–"]
    assert by_name["Good"][3] == "**+10.0** (7.5 to 12.5)"
    assert not by_name["Same"][3].startswith("**")
    assert "Good, 9" not in by_name  # a point of the sweep alone
    sweep = [row for row in rows if row[0].startswith("Line")]
    assert sweep == [["Line: transfer\\_set.num\\_images", "3", "9"]]
    text = text_table(comparison()).splitlines()
    start = text[2].index("difference") + len("difference")
    assert next(line for line in text if line.startswith("Good  "))[:start].endswith("+10.0")


def test_markdown_takes_no_markup_from_names() -> None:
    evil = "a|b`c`<b>\n# x"
    data = comparison(
        arms=[arm("stl", BASE, title=evil), arm("good", GAIN, title="[x](y)")],
        command="genkt compare '```\nend'", reference=None, pairs=[], sweeps=[],
        failed=[("x", "<script>")],
    )  # fmt: skip
    text = markdown(data)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "\n# x" not in text and "\\<script\\>" in text and "\\[x\\](y)" in text
    assert text.count("````") == 2  # no run of backquotes inside ends the block


def test_json_is_complete_and_strict(tmp_path: Path) -> None:
    path, *_ = build_comparison(comparison(), tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert found["schema"] == "genkt.compare" and found["schema_version"] == SCHEMA_VERSION
    assert len(found["cells"]) == 12
    cell = next(c for c in found["cells"] if c["arm"] == "good" and c["draw"] == 1)
    assert (cell["accuracy"], cell["accuracy_distilled"]) == (GAIN[1], BEFORE_GAIN[1])
    assert cell["validation_accuracy"] == 0.5 and cell["stages"]["distil"]["seconds"] == 1.5
    (pair,) = found["pairs"]
    assert pair["accuracy"]["mean_points"] == pytest.approx(by_hand(GAIN, (0.71, 0.72, 0.79))[0])
    bare = comparison(arms=[arm("stl", BASE)], reference=None, pairs=[], sweeps=[])
    assert found.keys() == comparison_dict(bare).keys()


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    _, html, _ = build_comparison(comparison(failed=[("gone", "no such folder")]), tmp_path)
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
    text = render(data)
    page = Page(text)
    assert "script" not in page.tags and "\u202e" not in text and "\x00" not in text
    assert "".join(page.texts).count("<script>") > 10


def test_hostile_names_can_be_written(tmp_path: Path) -> None:
    data = comparison(failed=[("bad\udcff", "bad\udcff")], words=["bad\udcff"])
    for path in build_comparison(data, tmp_path):
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
        "By mean accuracy, no quicker arm is as good as these: quick (1.0 s, 50.0 %); "
        "middle (3.0 s, 70.0 %); "
        "slow (9.0 s, 90.0 %)."
    )
    chart = cost_chart(data)
    assert chart.count("<circle") == 5 and chart.count("<polyline") == 1
    assert "no quicker arm" in render(data) and "no quicker arm" in markdown(data)
    alone = comparison(arms=[arm("stl", BASE)], reference=None, pairs=[], sweeps=[])
    assert worth(alone) == "" and cost_chart(alone) == ""


def test_several_differences_must_hold_at_once() -> None:
    data = comparison(reference=None)
    compared = against(data, data.arm("stl"))
    p_values = [found.after.p_value for found in compared]
    assert p_values[0] < 0.05 < p_values[1]
    expected = [c for c, p in zip(compared, p_values, strict=True) if p < 0.025]
    assert together(compared, after) == expected == compared[:1]
    assert (
        "All 2 differences from “Plain” at once (Holm's correction, after fine-tuning): "
        "better: Good." in sentences(data)
    )


def test_candidates_are_told_with_the_chosen_one_in_bold() -> None:
    tuning = [
        Tried("good", ("train.lr=0.1",), 0.75, 60.0, False),
        Tried("good", ("train.lr=0.2",), 0.8, 60.0, True),
        Tried("same", ("a=1",), None, 0.0, True),
        Tried("same", ("a=2",), None, 0.0, False),
    ]
    page = render(comparison(tuning=tuning))
    assert "train.lr=0.1: 75.0<br><b>train.lr=0.2: 80.0</b>" in page
    assert "<b>a=1: ended early</b>" in page
    told = "Settings of 2 arms were chosen on validation images, on label draws of their own"
    assert told in page and told in markdown(comparison(tuning=tuning))
    assert "Chosen settings" not in render(comparison())


def test_the_work_and_how_long_it_took() -> None:
    page = render(comparison(work=Work(wall_seconds=100.0, task_seconds=190.0)))
    assert "1.90 processes at a time" in page
    assert "24.0 s of work in all" in render(comparison())


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
    assert "Methods on transfer sets" in render(data)
    assert "| ota | 60.0 ± 0.0 | – | 50.0 ± 0.0 |" in markdown(data)
    assert grid(comparison()) is None and "Methods on transfer sets" not in render(comparison())
