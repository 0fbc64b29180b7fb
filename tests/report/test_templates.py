"""Templates: values stay text, scripts are those of the page, styles keep their meaning."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from genkt.report.kit import axes, templates
from genkt.report.kit.table_cells import TableCell, config_lines

EVIL = '<script>alert("x")</script>\'&\u202e\x00\x1b[2J\udcff'


class Tags(HTMLParser):
    """Tags, their attributes, and what is text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def table(head: list[str], rows: list[list[object]]) -> str:
    """A table as the pages draw it."""
    source = '{% import "macros.html" as m %}{{ m.table(head, rows) }}'
    return templates._environment().from_string(source).render(head=head, rows=rows)


def test_every_template_compiles() -> None:
    environment = templates._environment()
    names = [name for name in environment.list_templates() if name.endswith(".html")]
    assert {"page.html", "report.html", "compare.html", "analyze.html", "review.html"} < {*names}
    for name in names:
        environment.get_template(name)


def test_a_value_that_is_missing_is_a_fault() -> None:
    with pytest.raises(UndefinedError):
        templates.fragment("compare/established.html", sentences=[], chart=None, questions=[])


@pytest.mark.parametrize(
    "cell",
    [
        EVIL,
        TableCell(EVIL),
        TableCell(EVIL, strong=True, ink="red", dim=EVIL),
        TableCell(EVIL, dot="red"),
        TableCell(EVIL, link=EVIL),
        TableCell(EVIL, code=True),
        [TableCell(EVIL), TableCell(EVIL, strong=True)],
    ],
)
def test_cells_are_text(cell: object) -> None:
    found = Tags(table([EVIL], [[cell]]))
    assert "script" not in found.tags and "<script>alert" in found.text
    assert {name for name, _ in found.attributes} <= {"class", "scope", "style", "href"}


def test_what_rewrites_its_neighbours_is_replaced() -> None:
    page = templates.fragment("transfer/repeat.html", snippet=EVIL, command="", versions={},
                              config="")  # fmt: skip
    assert not {"\u202e", "\x00", "\x1b", "\udcff"} & {*page} and "\ufffd" in page
    assert templates.plain("ein\tTab\nZeile é") == "ein\tTab\nZeile é"


def test_a_meter_and_lines() -> None:
    found = table(["", ""], [[TableCell(meter=0.5), ["a", TableCell("b", strong=True)]]])
    assert "width:50.0%" in found and "a<br><b>b</b>" in found and "<thead>" not in found


def test_only_the_script_of_the_page_may_run() -> None:
    page = templates.page(
        "review.html", scripts=["review.js"], rows=[], suspects="f", columns="a,b", keys=[],
        decisions=[], command="genkt", intro="",
    )  # fmt: skip
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and type(page) is str
    assert "script-src" not in templates._policy([])


@pytest.mark.parametrize("name", ["page.css", "rows.css", "review.css"])
def test_a_style_sheet_loses_only_what_people_need(name: str) -> None:
    def tokens(text: str) -> list[str]:
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        return [each for each in re.findall(r"[\w.#%()'\"-]+|[{}:,>+*@]", text) if each]

    raw, style = (templates.HOME / name).read_text(encoding="utf-8"), templates._style(name)
    assert tokens(style) == tokens(raw)
    assert len(style) < len(raw) and "/*" not in style and "\n" not in style
    assert style.count("{") == style.count("}") > 5


def test_settings_are_listed_as_they_are_typed() -> None:
    config = {"a": {"b": 1, "c": {}}, "d": "x y", "e": [1, None], "f": True}
    assert config_lines(config) == ["a.b=1", "a.c={}", "d=x y", "e=[1, null]", "f=true"]


VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(VALUES, st.floats(0, 0.5), st.floats(0.1, 5))
def test_a_margin_leaves_all_values_inside(values: list[float], share: float, least: float) -> None:
    low, high = axes.padded(values, share, least)
    assert low <= min(values) - 0.99 * least and high >= max(values) + 0.99 * least
    scale = axes.Scale(low, high, 40, 400)
    assert all(40 <= at <= 400 for at in scale.all(values))
    assert scale(low) == 40 and scale(high) == pytest.approx(400)


@given(st.floats(0.001, 1e5), st.floats(1.01, 1e4))
def test_ticks_of_a_logarithmic_axis_lie_on_it(low: float, factor: float) -> None:
    high = low * factor
    ticks = axes.log_ticks(low, high)
    assert ticks == sorted(ticks) and low <= ticks[0] and ticks[-1] <= high
    scale = axes.Scale(low, high, 0, 100, logarithmic=True)
    assert scale((low * high) ** 0.5) == pytest.approx(50)


def test_labels_that_would_touch_are_left_out() -> None:
    scale = axes.Scale(0, 100, 0, 100)
    drawn = axes.horizontal(scale, [0, 10, 20, 35, 50], 200, gap=30)
    assert re.findall(r">([^<]+)</text>", drawn) == ["0", "35"]
    assert 'class="grid"' not in drawn
    assert axes.horizontal(scale, [0, 50], 200, top=10).count('class="grid"') == 2
