"""What tables of pages hold: plain values that a template turns into markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TableCell:
    """A cell that is more than its text.

    Args:
        strong: bold.  ink: its colour.  dim: said behind it, in brackets.
        dot: the colour of a dot before it.
        link: the page that it opens.  code: as it is typed.
        meter: a bar of this share (0..1) in place of a text.
    """

    text: str = ""
    strong: bool = False
    ink: str = ""
    dim: str = ""
    dot: str = ""
    link: str = ""
    code: bool = False
    meter: float | None = None


Content = str | TableCell | Sequence[str | TableCell]
"""A text, a cell, or the lines of one."""

Row = Sequence[Content]


def config_lines(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key.sub=value`` lines, as they are typed on the command line."""
    found: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += config_lines(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            found.append(f"{prefix}{key}={value}")
        else:
            found.append(f"{prefix}{key}={json.dumps(value, default=str)}")
    return found
