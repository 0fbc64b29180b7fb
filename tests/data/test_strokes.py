"""Handwritten forms."""

from __future__ import annotations

import numpy as np

from genkt.data.builtin.glyphs import CLASSES
from genkt.data.builtin.strokes import FORMS, write_forms


def test_forms_are_reproducible_jittered_and_inside_the_canvas() -> None:
    first = write_forms(2, seed=3, side=128, box=80)
    second = write_forms(2, seed=3, side=128, box=80)
    assert [name for name, _ in first] == [name for name, _ in second]
    assert len(first) == 2 * len(FORMS)
    for (name, ink), (_, again) in zip(first, second, strict=True):
        assert name in CLASSES
        assert np.array_equal(ink, again)
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        longer = max(np.ptp(rows), np.ptp(columns))
        assert 75 <= longer <= 100 and rows[0] > 0 and rows[-1] < 127
    assert not np.array_equal(first[0][1], first[1][1]), "copies of one form differ"
    assert not np.array_equal(first[0][1], write_forms(2, seed=4, side=128, box=80)[0][1])
