"""The confirmation part of a data set: kept for one last look, and read only where asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from genkt.data.splits import Splits

TestPart = Literal["test", "confirmation"]
"""What the test images of a run are."""

_NOTE = (
    "data.part=confirmation: the test images are those of the confirmation part. Look once, when "
    "all choices are made: it is no confirmation a second time."
)


def confirmed(splits: Splits, part: TestPart) -> Splits:
    """The same parts; where the confirmation part is the test, a note says so."""
    return splits if part == "test" else replace(splits, notes=(*splits.notes, _NOTE))
