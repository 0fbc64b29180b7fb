"""Arms that turned out to be the same students are one row of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genkt.report.compare.compare_data import ComparedArm, ComparedCell


def merge_identical(arms: Sequence[ComparedArm]) -> list[ComparedArm]:
    """Arms whose students are the same become one row "A = B", at the place of the first.

    They are where every student of the one has the weights of its counterpart, the same scores
    before its last stage and the same figure on validation images. What it took to get there does
    not count: an arm that also fine-tunes a teacher and then takes another is the same in the end.
    Arms of an earlier genkt, which kept no scores, stay as they are, and so do those of sweeps
    alone.
    """
    rows: list[list[ComparedArm]] = []
    for arm in arms:
        same = (row for row in rows if arm.listed and row[0].listed and _identical(row[0], arm))
        row = next(same, None)
        if row is None:
            rows.append([arm])
        else:
            row.append(arm)
    return [row[0] if len(row) == 1 else _one(row) for row in rows]


def _one(arms: Sequence[ComparedArm]) -> ComparedArm:
    title = " = ".join(arm.title for arm in arms)
    return replace(arms[0], title=title, merged=tuple(arms))


def _identical(a: ComparedArm, b: ComparedArm) -> bool:
    mine, theirs = ({cell.place: cell for cell in arm.cells} for arm in (a, b))
    if mine.keys() != theirs.keys() or a.head_taught != b.head_taught:
        return False
    return all(_same(cell, theirs[place]) for place, cell in mine.items())


def _same(a: ComparedCell, b: ComparedCell) -> bool:
    if a.scores is None or b.scores is None or not a.weights:
        return False
    before, after = a.scores.distilled, b.scores.distilled
    alike = before is after if before is None or after is None else np.array_equal(before, after)
    return alike and a.weights == b.weights and a.result.validated == b.result.validated
