"""What a dry run says: time, memory and disk of the real one, measured on a little of its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from genkt.disk import require_writable, size_text
from genkt.progress import duration

Row = tuple[str, str]
"""A line of the estimate: its name and its text."""

_Result = TypeVar("_Result")


def timed(work: Callable[[str], _Result]) -> tuple[_Result, float]:
    """Run the work twice; return the result and seconds of the second, faster attempt.

    Args:
        work: gets the name of the attempt.
    """
    work("warm-up")
    started = time.perf_counter()
    return work("timed"), time.perf_counter() - started


def time_row(seconds: float, where: str) -> Row:
    """The estimated time.

    Args:
        where: end of the line, such as "on cuda:0".
    """
    return "time", f"about {duration(seconds)} {where}"


def memory_row(num_bytes: float, where: str = "") -> Row:
    """Its peak."""
    return "memory", f"about {size_text(num_bytes)}{where}"


def disk_row(out: str | Path, num_bytes: float, what: str) -> Row:
    """The bytes that would be written, and the free ones.

    Args:
        what: name of the written data, for the message if there is no room.

    Raises:
        UserError: there is not enough free space, or no file can be written there.
    """
    free = require_writable(out, num_bytes, what)
    return "disk", f"about {size_text(num_bytes)} ({size_text(free)} free)"


def estimate_text(rows: Sequence[Row]) -> str:
    """The estimate as lines."""
    lines = [f"  {name:<10} {text}" for name, text in rows]
    return "\n".join(["dry run: everything fits; nothing was written", *lines])
