"""Which students were kept: those after the last stage, or those before it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import cells_of
from genkt.types import EARLIER, JUDGED, KEPT, LATER, StudentResult


def kept_texts(data: ReportData) -> list[str]:
    """A sentence on every arm with a choice: both accuracies, and what was kept."""
    found = []
    for arm in data.arms:
        if chose := [cell for cell in cells_of(data, arm) if KEPT in cell.extras]:
            found.append(_sentence(data, arm, chose))
    return found


def _sentence(data: ReportData, arm: str, chose: Sequence[StudentResult]) -> str:
    before, after = (
        100 * fmean(float(cell.extras[f"{JUDGED}{name}"]) for cell in chose)
        for name in (EARLIER, LATER)
    )
    number = sum(cell.extras[KEPT] == EARLIER for cell in chose)
    is_plain = arm == data.baseline
    name = f"{data.name_of(arm)}: " if is_plain else ""
    first, last = ("earlier", "at its end") if is_plain else ("distilled", "fine-tuned")
    kept = {
        0: "kept its end" if is_plain else f"kept the {last} one",
        len(chose): f"kept the {first} one",
    }
    which = kept.get(number, f"kept the {first} one in {number} of {len(chose)}")
    where = "held-out labels" if data.config.get("validation") == "cross" else "validation"
    mean = f" (mean of {len(chose)} students)" if len(chose) > 1 else ""
    return f"{name}{first} {before:.1f}, {last} {after:.1f} on {where}{mean}: {which}."
