"""Where a run keeps its students."""

from __future__ import annotations

from pathlib import Path


def student_folder(out: str | Path, draw: int, arm: str, seed: int = 0) -> Path:
    """Where the run in ``out`` keeps one student: ``draws/D/ARM``, or ``draws/D/seedR/ARM``."""
    return Path(out, "draws", *student_parts(draw, arm, seed))


def student_parts(draw: int, arm: str, seed: int) -> tuple[str, ...]:
    """The last folders of a student, one inside the other."""
    return (str(draw), f"seed{seed}", arm) if seed else (str(draw), arm)


def files_of_arm(out: Path, arm: str, name: str) -> list[Path]:
    """A file of every student of an arm, wherever it is there."""
    places = [f"draws/*/{arm}/{name}", f"draws/*/seed*/{arm}/{name}"]
    return sorted(path for place in places for path in out.glob(place))
