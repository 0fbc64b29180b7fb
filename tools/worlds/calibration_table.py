"""What was measured in the worlds, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worlds.calibration import Cell


def table(cells: Mapping[str, Sequence[Cell]]) -> str:
    """One line a run."""
    lines = []
    for name, own in cells.items():
        for cell in own:
            lines.append(f"{name} {cell['key']} {float(cell['test']):.3f}")
    return "\n".join(lines)
