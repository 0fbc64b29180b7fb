"""Figures in prose, each with its source in a comment that no reader sees.

    KL gains +1.6 points (0.0 to 3.2)<!--teachers:logit_kd/logit_kd_small-->

The last numbers before the comment are those of the figure, in its order; see
``stored_figures.py`` for the names of figures. They are compared as they are rounded on the page.
"""

from __future__ import annotations

import re

from stored_figures import numbers

_QUOTE = re.compile(r"([^\n]*?)<!--([\w-]+[:#][^>]*?)-->")
_NUMBER = re.compile(r"(?<![\w.])[+\u2212-]?\d+(?:\.\d+)?")


def quote_faults(page: str, text: str) -> list[str]:
    """Where a quoted figure is not the stored one, or has no source of that name."""
    faults = []
    for before, figure in _QUOTE.findall(text):
        try:
            stored = numbers(figure)
        except (KeyError, FileNotFoundError, TypeError) as error:
            faults.append(f"{page}: {figure}: no such figure ({error})")
            continue
        written = _NUMBER.findall(before)[-len(stored) :]
        wanted = [_rounded(value, as_in) for value, as_in in zip(stored, written, strict=False)]
        if len(written) != len(stored) or wanted != [_plain(each) for each in written]:
            said = ", ".join(f"{value:.4g}" for value in stored)
            faults.append(f"{page}: {figure}: expected {said}, got {', '.join(written) or 'none'}")
    return faults


def _plain(text: str) -> str:
    """A number as Python writes it; nothing is below zero."""
    text = text.replace("\u2212", "-").removeprefix("+")
    return text.removeprefix("-") if not float(text) else text


def _rounded(value: float, as_in: str) -> str:
    decimals = len(as_in.partition(".")[2])
    return _plain(f"{value:.{decimals}f}")
