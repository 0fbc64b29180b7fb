"""Arms that turned out to be the same students are one row of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genkt.report.compare.compare_data import ComparedArm, ComparedCell


def merge_identical(arms: Sequence[ComparedArm]) -> list[ComparedArm]:
    """Arms whose students are the same become one row "A = B", at the place of the first.

    They are where every student of the one scored as its counterpart on every test image, at the
    end and before its last stage, has the same validation accuracy, and saw as many images in as
    many steps. Seconds differ whenever the same work is done again, so they do not count. Arms
    whose scores were not kept stay as they are, and so do those of sweeps alone.
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
    if a.scores is None or b.scores is None:
        return False
    pairs = [(a.scores.final, b.scores.final), (a.scores.distilled, b.scores.distilled)]
    facts = [
        (c.result.cost.samples, c.result.cost.steps, c.result.extras.get("validation_accuracy"))
        for c in (a, b)
    ]
    return facts[0] == facts[1] and all(
        (x is None) == (y is None) and (x is None or y is None or np.array_equal(x, y))
        for x, y in pairs
    )
