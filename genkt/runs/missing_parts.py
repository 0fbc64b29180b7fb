"""Advice if the data do not have a part that a run needs."""

from __future__ import annotations

from genkt.config.data_settings import DataSettings, HeldOut
from genkt.data.splits import Splits


def how_to_get(part: HeldOut, data: DataSettings, splits: Splits) -> str:
    """What to give for a missing part; the rules are those of ``carve_missing``.

    Args:
        data: the settings by which ``splits`` were read; they show if the splits came from Python.
        splits: without the part.
    """
    if data.in_python:
        return f"give Splits with a {part} part"
    own = data.own_part(part)
    if part == "validation" or "validation" not in splits.parts:
        return f"give {own}, or data.{part}_fraction above 0"
    rule = "data.test_fraction counts only where the data have no validation part of their own"
    # These settings split off no test part: the data have their own validation part.
    if data.test_was_refused:
        return f"give {own}; {rule}, and these have one"
    return f"give {own}, or data.test_fraction above 0 ({rule})"
