"""What the trials came to: one line per kind, with the upper bound of its fault rate."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trials.state import general

_PACKAGES = ("genkt", "torch", "timm", "hydra-core", "numpy", "pillow")


@dataclass
class Tally:
    """The trials of one kind."""

    kind: str
    trials: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    faulty: int = 0

    def add(self, seconds: float, faults: Sequence[str]) -> None:
        """One trial more."""
        self.trials += 1
        self.seconds += seconds
        self.faulty += bool(faults)
        if faults:
            self.faults[general(faults[0])] += 1

    @property
    def bound(self) -> float:
        """The 95 % upper bound of the fault rate, one-sided, after Clopper and Pearson (1934)."""
        from scipy.stats import binomtest

        if not self.trials:
            return 1.0
        test = binomtest(self.faulty, self.trials, alternative="less")
        return float(test.proportion_ci(0.95, "exact").high)


def table(tallies: Sequence[Tally]) -> str:
    """The tallies as a Markdown table, with the kinds of faults below it."""
    lines = [
        "| kind | trials | faults | fault rate below (95 %) | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for tally in tallies:
        lines.append(
            f"| {tally.kind} | {tally.trials} | {tally.faulty} | {100 * tally.bound:.2f} % | "
            f"{tally.seconds:.0f} |"
        )
    for tally in tallies:
        if tally.faults:
            lines += ["", f"Faults of the kind {tally.kind}, by how often:", ""]
            lines += [f"- {count}: {line}" for line, count in tally.faults.most_common()]
    return "\n".join(lines)


def page(tallies: Sequence[Tally], words: Sequence[str], about: str, notes: Sequence[str]) -> str:
    """The page of documentation.

    Args:
        words: the command that made it.  about: what is tried.  notes: what else to say.
    """
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    facts = [
        f"- Command: `python tools/campaign.py {' '.join(words)}`".rstrip(),
        f"- Date: {time.strftime('%Y-%m-%d')}",
        f"- Hardware: {len(os.sched_getaffinity(0))} cores, {_processor()}",
        f"- Versions: Python {platform.python_version()}, {', '.join(versions)}",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(["# Runs under attack", "", about, "", *facts, "", table(tallies), ""])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        import genkt

        return genkt.__version__ if name == "genkt" else "not installed"


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
