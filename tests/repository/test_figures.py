"""Figures of the README and the pages are those of the stored results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_cases import BASE, BEFORE_GAIN, GAIN, arm, comparison
from docs_tools import tool

import genkt
from genkt.report.compare.findings import findings
from genkt.report.compare.write_comparison import build_comparison

figures = tool("figures")
quoted = tool("quoted_figures")
stored = tool("stored_figures")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every page, by its path."""
    found: dict[str, str] = figures.pages()
    return found


def test_pages_and_evidence_are_the_studies(texts: dict[str, str]) -> None:
    assert json.loads(figures.EVIDENCE.read_text(encoding="utf-8")) == figures.evidence()
    assert figures.checked_pages(texts) == (texts, [])
    assert sum(text.count("<!--") for text in texts.values()) > 80


def intervals_hold(folder: Path) -> int:
    """Compare every accuracy and difference of a study with what its scores say; how many."""
    results = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    scores, count = genkt.scores_of_study(folder), 0
    for column in ("distilled", "accuracy"):
        early = column == "distilled"
        made = [(each[column], scores.interval(each["arm"], distilled=early), "percent")
                for each in results["arms"]]  # fmt: skip
        made += [
            (each[column], scores.difference(each["a"], each["b"], distilled=early), "points")
            for kind in ("minus_baseline", "minus_reference", "pairs")
            for each in results[kind]
        ]
        for stored_one, again, unit in made:
            if stored_one is None:
                continue
            assert again is not None
            for end in ("mean", "low", "high"):
                assert stored_one[f"{end}_{unit}"] == pytest.approx(100 * getattr(again, end))
            count += 1
    return count


def test_studies_have_the_scores_behind_their_intervals(insects_folder: Path) -> None:
    assert intervals_hold(insects_folder) == 9
    renewed = [name for name in stored.studies() if not stored.waits(name)]
    for name in renewed:
        assert intervals_hold(stored.ROOT / "docs" / name) > 0


def bumped(figure: re.Match[str]) -> str:
    """The match with another last digit in its group."""
    start, end = (place - figure.start() for place in figure.span(1))
    digit = (int(figure[1][-1]) + 1) % 10
    return f"{figure[0][: end - 1]}{digit}{figure[0][end:]}" if start < end else ""


@pytest.mark.parametrize(
    ("page", "place", "word"),
    [
        ("docs/studies/transfer-sets.md", r"\| DIGG \| (\d+\.\d)", "transfer_sets:digg@distilled"),
        ("docs/studies/teachers.md", r"to (\d+\.\d)\)<!--", "teachers:"),
        ("docs/benchmarks.md", r"\| (\d+)<!--latent", "latent_sampling"),
        ("docs/which-method.md", r"\| \+(\d+\.\d) points \(", "real_few"),
        ("README.md", r"\| (\d+\.\d) [±(]", "transfer_sets:stl"),
    ],
)
def test_a_figure_that_differs_is_named_and_mended(
    texts: dict[str, str], page: str, place: str, word: str
) -> None:
    wrong, count = re.subn(place, bumped, texts[page], count=1)
    assert count == 1 and wrong != texts[page]
    mended, (fault,) = figures.checked_pages({**texts, page: wrong})
    assert word in fault and mended == texts


def test_bold_and_the_names_of_rows_are_checked_too(texts: dict[str, str]) -> None:
    page = "docs/studies/methods.md"
    plain = re.sub(r"\*\*(\+\d+\.\d)\*\*", r"\1", texts[page], count=1)
    mended, (fault,) = figures.checked_pages({**texts, page: plain})
    assert "expected '**" in fault and mended == texts
    renamed = {**texts, page: texts[page].replace("| CRD |", "| CRDs |", 1)}
    mended, (fault,) = figures.checked_pages(renamed)
    assert "CRDs" in fault and mended == renamed  # that is for a person


@pytest.fixture
def insects_folder(tmp_path: Path) -> Path:
    """A study as ``genkt compare`` writes it today, in which two arms are the same students."""
    good = arm("good", GAIN, BEFORE_GAIN)
    arms = [arm("stl", BASE), good, replace(good, name="twin", title="Twin")]
    data = comparison(arms=arms, reference="good", pairs=[], sweeps=[])
    path, *_ = build_comparison(findings(data), tmp_path / "docs" / "insects")
    return path.parent


@pytest.fixture
def insects(
    insects_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What it stores, where the tools look for studies."""
    (tmp_path / "docs" / "old").mkdir()
    (tmp_path / "docs" / "old" / "compare.json").write_text('{"schema_version": 1}', "utf-8")
    monkeypatch.setattr(stored, "ROOT", tmp_path)
    stored.study.cache_clear()
    yield json.loads((insects_folder / "compare.json").read_text(encoding="utf-8"))
    stored.study.cache_clear()


def test_a_study_of_today_is_quoted_with_its_intervals(insects: dict[str, Any]) -> None:
    assert not stored.waits("insects")
    entry, gain = insects["arms"][1]["accuracy"], insects["minus_baseline"][0]["accuracy"]
    assert gain["established"]
    assert stored.numbers("insects:twin") == [
        entry[f"{end}_percent"] for end in ("mean", "low", "high")
    ]
    low, high = (f"{entry[f'{end}_percent']:.1f}" for end in ("low", "high"))
    assert stored.text_of("insects:good") == f"84.0 ({low} to {high})"
    low, high = (f"{gain[f'{end}_points']:.1f}" for end in ("low", "high"))
    for name in ("good", "twin"):
        assert stored.text_of(f"insects:{name}/stl") == f"**+10.0** ({low} to {high})"
    assert stored.text_of("insects:good/twin") == "0.0"
    gain["established"] = False
    assert stored.difference_text(gain) == f"+10.0 ({low} to {high})"


def test_arms_that_are_better_are_counted(insects: dict[str, Any]) -> None:
    assert stored.numbers("insects:better/stl") == [1]
    assert stored.numbers("insects:worse/good") == [1] and stored.numbers(
        "insects:better/good"
    ) == [0]
    text, (fault,) = quoted.checked_quotes("page", "2<!--insects:better/stl--> arms")
    assert text == "1<!--insects:better/stl--> arms" and "expected 1, got 2" in fault


def test_a_half_width_becomes_an_interval(insects: dict[str, Any]) -> None:
    mean, low, high = stored.numbers("insects:good")
    text, faults = quoted.checked_quotes("page", "up to 81.0 ± 2.5<!--insects:good-->, so")
    assert text == f"up to {mean:.1f} ({low:.1f} to {high:.1f})<!--insects:good-->, so"
    assert len(faults) == 1
    assert quoted.checked_quotes("page", text) == (text, [])
    old = "by \u22121.0 points (\u22122.0 to 0.5)<!--insects:good/stl-->"
    text, _ = quoted.checked_quotes("page", old)
    mean, low, high = stored.numbers("insects:good/stl")
    assert text == f"by +{mean:.1f} points ({low:.1f} to {high:.1f})<!--insects:good/stl-->"


def test_a_page_says_as_long_as_its_study_waits(insects: dict[str, Any]) -> None:
    page, plain = "docs/studies/insects.md", "# Insects\n\n84.0<!--insects:good-->.\n"
    assert figures.checked_waiting(page, plain) == (plain, [])
    old, (fault,) = figures.checked_waiting(page, plain.replace("insects:good", "old:good"))
    assert "does not say" in fault and figures.WAITS in old
    assert figures.checked_waiting(page, old) == (old, [])
    text, (fault,) = figures.checked_waiting(page, old.replace("old:good", "insects:good"))
    assert text == plain and "waits" in fault


def test_the_names_of_figures() -> None:
    assert round(stored.numbers("retrieval_style#pixels 10%.dark ground*100")[0], 1) == 99.9
    text, (fault,) = quoted.checked_quotes("page", "5.0<!--methods:nothing-->")
    assert text == "5.0<!--methods:nothing-->" and "no such figure" in fault
    plain = "5.0<!-- a comment: none of ours -->"
    assert quoted.checked_quotes("page", plain) == (plain, [])
