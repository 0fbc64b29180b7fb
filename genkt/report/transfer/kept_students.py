"""Which students were kept: those after the last stage, or those before it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from genkt.metrics.choice_values import SHOWN
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.summary import cells_of
from genkt.types import EARLIER, JUDGED, KEPT, LATER, STAGE, StudentResult


def kept_texts(data: ReportData) -> list[str]:
    """A sentence on every arm with a choice: both accuracies, and what was kept."""
    found = []
    for arm in sorted(data.arms, key=lambda name: name != data.method):
        if chose := [cell for cell in cells_of(data, arm) if KEPT in cell.extras]:
            found.append(_sentence(data, arm, chose))
    return found


def _sentence(data: ReportData, arm: str, chose: Sequence[StudentResult]) -> str:
    before, after = (
        100 * fmean(float(cell.extras[f"{JUDGED}{name}"]) for cell in chose)
        for name in (EARLIER, LATER)
    )
    number = sum(cell.extras[KEPT] == EARLIER for cell in chose)
    name = f"{data.name_of(arm)}: " if arm == data.baseline else ""
    (first, first_one), (last, last_one) = _words(chose[0])
    kept = {0: f"kept {last_one}", len(chose): f"kept {first_one}"}
    which = kept.get(number, f"kept {first_one} in {number} of {len(chose)}")
    where = "held-out labels" if data.config.get("validation") == "cross" else "validation"
    metric = data.config.get("task", {}).get("metric", "accuracy")
    where = where if metric == "accuracy" else f"{where} ({SHOWN[metric]})"
    mean = f" (mean of {len(chose)} students)" if len(chose) > 1 else ""
    return f"{name}{first} {before:.1f}, {last} {after:.1f} on {where}{mean}: {which}."


def _words(student: StudentResult) -> tuple[tuple[str, str], tuple[str, str]]:
    """How the two students are called, each before its figure and as what was kept."""
    names = [student.extras.get(f"{STAGE}{which}") for which in (EARLIER, LATER)]
    if None in names:  # the baseline has one stage
        return ("earlier", "the earlier one"), ("at its end", "its end")
    first, last = (_after(str(name)) for name in names)
    return first, last


def _after(stage: str) -> tuple[str, str]:
    """The same of the student after a stage."""
    done = {"distil": "distilled", "finetune": "fine-tuned"}.get(stage)
    if done is None:
        return f"after {stage}", f"the one after {stage}"
    return done, f"the {done} one"
