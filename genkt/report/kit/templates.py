"""Pages from the templates, styles and scripts of ``genkt/report/templates``.

Every value is escaped unless it is markup of a template or a chart of ours. A page is one file:
nothing may be fetched, and no script runs but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from genkt.progress import duration
from genkt.types import counted

HOME = Path(__file__).resolve().parents[1] / "templates"

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LONG = 20_000
"""Characters of a section that may be cut by the end of a printed page."""

# C0 controls break markup and terminals; bidirectional overrides let a name rewrite its
# neighbours on screen. Both are shown as the replacement character.
_UNSAFE = {code: "\ufffd" for code in [*range(9), 11, 12, *range(14, 32), 127]}
_UNSAFE |= {code: "\ufffd" for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]}

_TIED = {" %": "\u00a0%", " points": "\u00a0points", " ± ": "\u00a0±\u00a0"}


@dataclass(frozen=True)
class Section:
    """A part of a page under its own heading.

    Args:
        key: its anchor.  title: its heading.
    """

    key: str
    title: str
    body: Markup

    @property
    def is_long(self) -> bool:
        """Whether it may be cut on paper."""
        return len(self.body) > _LONG


def sections(
    page: str, parts: Sequence[tuple[str, str, Mapping[str, Any] | None]]
) -> list[Section]:
    """The parts that have something to show, each from the template ``page/key.html``.

    Args:
        parts: (key, title, values of the template, or None: nothing to show).
    """
    made = [
        Section(key, title, fragment(f"{page}/{key}.html", **values))
        for key, title, values in parts
        if values is not None
    ]
    return [section for section in made if section.body.strip()]


def fragment(template: str, **values: Any) -> Markup:
    """A piece of a page."""
    return Markup(_harmless(_environment().get_template(template).render(**values)))


def page(template: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """A whole page.

    Args:
        scripts: files whose code may run.
    """
    made = fragment(template, policy=_policy(scripts), scripts=scripts, **values)
    return f"{made}\n"  # a text: markup would escape what is put into it


def plain(value: object) -> str:
    """Text without the characters that break markup or rewrite their neighbours."""
    return _harmless(str(value))


def _harmless(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").translate(_UNSAFE)


def _policy(scripts: Sequence[str]) -> Markup:
    """Nothing may be fetched and nothing else may run, even if a hostile name slipped through."""
    if not scripts:
        return Markup(_POLICY)
    digests = (hashlib.sha256(_read(name).encode()).digest() for name in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return Markup(f"{_POLICY}; script-src {allowed}; base-uri 'none'; form-action 'none'")


@cache
def _read(name: str) -> str:
    return (HOME / name).read_text(encoding="utf-8")


@cache
def _style(name: str) -> Markup:
    """A style sheet without comments and spaces that only people need."""
    text = re.sub(r"/\*.*?\*/", "", _read(name), flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*([{};,])\s*|(?<=:) ", lambda match: match.group(1) or "", text)
    return Markup(text.replace(";}", "}"))


def _tied(text: str) -> str:
    """Units stay beside their numbers where a line breaks."""
    for loose, tied in _TIED.items():
        text = text.replace(loose, tied)
    return text


class _Flat(Extension):
    """Indentation and lines of tags are for people: they do not go into the pages."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The template without it."""
        flat = re.sub(r"^[ \t]+", "", source, flags=re.MULTILINE)
        return re.sub(r">\n(?=[<{])", ">", flat)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HOME), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, extensions=[_Flat],
    )  # fmt: skip
    environment.filters.update(
        duration=duration, thousands=lambda number: f"{number:,}", tied=_tied, counted=counted
    )  # fmt: skip
    environment.globals.update(css=_style, script=lambda name: Markup(_read(name)))
    return environment


def amount(value: float) -> str:
    """A count with a unit: 320 k, 2.8 M, 1.1 B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters, cut with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
