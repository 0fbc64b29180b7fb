"""Figures in prose, each with its source in a comment that no reader sees.

    KL gains +1.6 points (0.0 to 3.2)<!--teachers:logit_kd/logit_kd_small-->

The last numbers before the comment are those of the figure, in its order; see
``stored_figures.py`` for the names of figures. They are compared as they are rounded on the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stored_figures import numbers

_QUOTE = re.compile(r"([^\n]*?)<!--([\w/-]+[:#][^>]*?)-->")
_NUMBER = re.compile(r"(?<![\w.])[+\u2212-]?\d+(?:\.\d+)?")
_HALF_WIDTH = re.compile(r"(\d+\.\d+) ± \d+\.\d+$")


def studies_of(text: str) -> set[str]:
    """The studies that a page quotes in prose."""
    return {figure.partition(":")[0] for _, figure in _QUOTE.findall(text) if ":" in figure}


def checked_quotes(page: str, text: str) -> tuple[str, list[str]]:
    """The text with the stored figures, and where a quoted one differed or has no source."""
    faults: list[str] = []

    def checked(quote: re.Match[str]) -> str:
        before, figure = quote.groups()
        try:
            stored = numbers(figure)
        except (KeyError, FileNotFoundError, TypeError) as error:
            faults.append(f"{page}: {figure}: no such figure ({error})")
            return quote[0]
        mended = _mended(before, stored)
        if mended != before:
            said = ", ".join(f"{value:.4g}" for value in stored)
            got = ", ".join(_NUMBER.findall(before)[-len(stored) :]) or "none"
            faults.append(f"{page}: {figure}: expected {said}, got {got}")
        return f"{mended}<!--{figure}-->"

    return _QUOTE.sub(checked, text), faults


def _mended(before: str, stored: Sequence[float]) -> str:
    """The text with its last numbers replaced by those stored, rounded and signed as they were."""
    if len(stored) == 3:  # an interval with two ends in place of a half-width
        before = _HALF_WIDTH.sub(r"\1 (0.0 to 0.0)", before)
    places = list(_NUMBER.finditer(before))[-len(stored) :]
    if len(places) < len(stored):
        return f"{before}?"
    for index in reversed(range(len(stored))):
        place, value = places[index], stored[index]
        if _plain(place[0]) != _rounded(value, place[0]):
            text = _rounded(value, place[0]).replace("-", "\u2212")
            sign = "+" if index == 0 and place[0][0] in "+\u2212-" and value > 0 else ""
            before = before[: place.start()] + sign + text + before[place.end() :]
    return before


def _plain(text: str) -> str:
    """A number as Python writes it; nothing is below zero."""
    text = text.replace("\u2212", "-").removeprefix("+")
    return text.removeprefix("-") if not float(text) else text


def _rounded(value: float, as_in: str) -> str:
    decimals = len(as_in.partition(".")[2])
    return _plain(f"{value:.{decimals}f}")
