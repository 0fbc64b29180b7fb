"""Typed settings of what a run measures before it starts, and of the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genkt.settings.bounds import Count, Rate
from genkt.settings.faults import Fault, SettingsError


@dataclass(frozen=True)
class PlainSettings:
    """``plain``: the baseline; other settings as in ``train``.

    Args:
        lr: None: that of ``train``; "auto": the pilot chooses it among as many as the student's.
    """

    lr: Rate | Literal["auto"] | None


@dataclass(frozen=True)
class PilotSettings:
    """``pilot``: what is tried where settings say "auto" (``genkt.transfers.pilot``).

    Args:
        rates: learning rates; the first wins ties.
        least_steps: of the run; a trial of a rate takes half of them.
        most_steps: of the run.
    """

    rates: list[Rate]
    least_steps: Count
    most_steps: Count

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to try. Raises: UserError."""
        if not self.rates:
            raise SettingsError([Fault("rates", "expected at least one learning rate, got []")])
        if self.most_steps < self.least_steps:
            text = f"expected at least least_steps ({self.least_steps}), got {self.most_steps}"
            raise SettingsError([Fault("most_steps", text, "together")])
