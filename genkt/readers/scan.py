"""Reading many image files: a thread pool, and the limit of unusable ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from genkt.data.images import Skipped, left_out_text, reasons_text
from genkt.progress import Reporter
from genkt.types import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_TOGETHER = 16
"""Items that a thread takes at once: handing over one costs as much as reading a small file."""


def as_list(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """One path, or several, as a list."""
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def map_in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    description: str,
    num_threads: int | None = None,
    progress: bool | None = None,
    unit: str = "images",
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, and show progress unless ``progress`` is False."""
    threads = num_threads or min(8, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(threads) as pool,
        Reporter(len(items), description, unit=unit, shown=progress is not False) as reporter,
    ):

        def several(group: Sequence[Item]) -> list[Result]:
            return [function(item) for item in group]

        groups = (items[at : at + _TOGETHER] for at in range(0, len(items), _TOGETHER))
        while chunk := list(islice(groups, 4 * threads)):  # a few in flight: flat memory
            for results in pool.map(several, chunk):
                for result in results:
                    reporter.advance()
                    yield result


def left_out_notes(skipped: Sequence[Skipped], more: str = "") -> list[str]:
    """One sentence on all damaged files, and one on each kind of system files.

    Args:
        more: added to the sentence on the damaged ones.
    """
    damaged = [entry for entry in skipped if entry.is_damage]
    notes = [f"Left out: {e.path}: {e.reason}." for e in skipped if not e.is_damage]
    if damaged:
        notes.insert(0, f"{left_out_text(damaged)}{more}.")
    return notes


def check_skipped(
    skipped: Sequence[Skipped], total: int, max_skipped: int | float, place: str
) -> None:
    """Refuse a set of ``total`` files of which too many cannot be used.

    Args:
        skipped: what was left out; only damaged files count.
        max_skipped: a number of files (int), or a share of ``total`` (float 0..1, rounded up).
        place: what was read, for the message.

    Raises:
        UserError: more than that are skipped (with the reasons), or a bad limit.
    """
    share = isinstance(max_skipped, float)
    if isinstance(max_skipped, bool) or max_skipped < 0 or (share and not max_skipped <= 1):
        raise UserError(
            f"max_skipped={max_skipped}: expected a whole number of files, or a share 0.0 to 1.0"
        )
    skipped = [entry for entry in skipped if entry.is_damage]
    limit = math.ceil(max_skipped * total) if share else max_skipped
    if len(skipped) > limit:
        raise UserError(
            f"{place}: {len(skipped)} of {total} image files cannot be used, max_skipped="
            f"{max_skipped} allows {limit}: {reasons_text(skipped)}"
        )
