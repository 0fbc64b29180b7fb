"""Figures of the README and the pages are those of the stored results."""

from __future__ import annotations

import json

import pytest
from docs_tools import tool

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
    assert figures.page_faults(texts) == []
    assert sum(text.count("<!--") for text in texts.values()) > 80


@pytest.mark.parametrize(
    ("page", "old", "new", "word"),
    [
        ("docs/studies/transfer-sets.md", "| DIGG | 89.0", "| DIGG | 89.1", "got '89.1"),
        ("docs/studies/methods.md", "| CRD | 83.5", "| CRDs | 83.5", "CRDs"),
        ("docs/studies/methods.md", "**+13.3** (11.1", "+13.3 (11.1", "expected '**+13.3**"),
        ("docs/studies/teachers.md", "(9.8 to 12.8)<", "(9.8 to 12.9)<", "12.9"),
        ("docs/benchmarks.md", "| 42<!", "| 43<!", "latent_sampling"),
        ("docs/which-method.md", "| +11.9 points (8.3", "| +11.8 points (8.3", "real_few"),
        ("README.md", "| 90.7 ± 2.8 |", "| 90.8 ± 2.8 |", "got '90.8"),
    ],
)
def test_a_figure_that_differs_is_named(
    texts: dict[str, str], page: str, old: str, new: str, word: str
) -> None:
    assert old in texts[page]
    (fault,) = figures.page_faults({**texts, page: texts[page].replace(old, new, 1)})
    assert word in fault


def test_the_names_of_figures() -> None:
    mean, half = stored.numbers("methods:logit_kd")
    assert f"{mean:.1f} {half:.1f}" == "94.8 2.0"
    assert stored.text_of("methods:aft/stl") == "**+13.3** (11.1 to 15.6)"
    assert stored.text_of("methods:aft@distilled") == "94.1 ± 1.9"
    assert round(stored.numbers("retrieval_style#pixels 10%.dark ground*100")[0], 1) == 99.9
    (fault,) = quoted.quote_faults("page", "5.0<!--methods:nothing-->")
    assert "no such figure" in fault
    assert quoted.quote_faults("page", "5.0<!-- a comment: none of ours -->") == []
