"""From what a pilot has measured to numbers: pure functions, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from genkt.metrics.choices import chosen
from genkt.types import UserError

LEAST_GAIN = 0.01
"""The gain of agreement that twice the steps must bring."""

MOST_DRAWS, FEW_DRAWS = 5, 3
"""Of ``draws=auto``: what an interval wants, and what it needs."""

SHORT_SECONDS = 1800.0
"""A run that takes longer has few draws."""

LEAST_TRIAL = 25
"""Fewer steps than these tell no rates apart."""

_SHARE = 4
"""Where the steps are given, the trials of the student's rates take at most this part of them."""


@dataclass(frozen=True)
class Point:
    """The student after so many steps.

    Args:
        steps: so far.  scores: [N] 1 where it agrees with the teacher on a held-out image.
    """

    steps: int
    scores: Sequence[float]

    @property
    def agreement(self) -> float:
        """Mean of the scores, 0..1."""
        return float(np.mean(self.scores))


def pays(before: ArrayLike, after: ArrayLike) -> bool:
    """Whether more steps brought more than luck (``chosen``), and enough to be worth them."""
    gain = float(np.mean(np.asarray(after, float)) - np.mean(np.asarray(before, float)))
    return gain >= LEAST_GAIN and chosen([before, after]) == 1


def steps_for(curve: Sequence[Point], most: int) -> tuple[int, bool, bool]:
    """How many steps to take, by a curve whose points have twice the steps of those before.

    Args:
        curve: at least one point, the fewest steps first.
        most: steps of the run, at most.

    Returns:
        The steps of the last doubling that paid; whether the curve says it all, so that nothing is
        left to measure; and whether it still rose where it had to end.
    """
    for before, after in pairwise(curve):
        if not pays(before.scores, after.scores):
            return before.steps, True, False
    last = curve[-1].steps
    at_end = last >= most
    return min(last, most), at_end, at_end and len(curve) > 1


def next_steps(steps: int, most: int) -> int:
    """Where the curve is measured next: after twice the steps, or at the last.

    >>> next_steps(250, 4000), next_steps(250, 400)
    (500, 400)
    """
    return min(2 * steps, most)


def trial_steps(least: int, given: int | None, num_rates: int, num_students: int) -> int:
    """Steps of a trial of one rate; 0: the run is so short that trying rates is not worth it.

    Args:
        least: of the settings; half of them tell rates apart.
        given: steps of every student, where they are given.
        num_rates: rates to try.  num_students: of the run, those of the baseline too.

    >>> trial_steps(250, None, 3, 10), trial_steps(250, 240, 3, 10), trial_steps(250, 20, 3, 10)
    (125, 125, 0)
    """
    half = (least + 1) // 2
    if given is None:
        return half
    room = min(half, given, given * num_students // (_SHARE * max(1, num_rates)))
    return room if room >= LEAST_TRIAL else 0


def most_pilot_steps(least: int, most: int, num_rates: int) -> int:
    """Steps of a pilot at most: of the student's trials, the best of which goes on, and as many
    trials of the baseline.

    >>> most_pilot_steps(250, 4000, 3)
    4625
    """
    return most + (2 * num_rates - 1) * trial_steps(least, None, num_rates, 1)


def draws_for(seconds: Callable[[int], float], limit: float) -> int:
    """``draws=auto``: as many as fit.

    Args:
        seconds: of a run with so many draws.
        limit: in seconds.
    """
    return MOST_DRAWS if seconds(MOST_DRAWS) <= limit else FEW_DRAWS


@dataclass(frozen=True)
class Clock:
    """The time that is left, and what a run takes of it.

    Args:
        left: seconds; None: no limit.
        run_seconds: (steps, draws) -> seconds of a run.
        draws: of the run; None: they are open too.
        minutes: the limit as it was given, for messages.
    """

    left: float | None
    run_seconds: Callable[[int, int], float]
    draws: int | None
    minutes: float | None = None

    def most_steps(self, least: int, most: int) -> int:
        """The most steps that fit, from ``least`` to ``most``.

        Raises:
            UserError: not even the fewest steps on the fewest draws fit.
        """
        if fitting := self.fitting(least, most):
            return fitting
        assert self.left is not None
        draws = self._options[-1]
        needed = (self.minutes or 0) + (self.run_seconds(least, draws) - self.left) / 60
        raise UserError.of(
            "minutes", f"at least {needed:.2g}, for {draws} draws of {least} steps",
            f"{self.minutes:g}", "; give more, fewer draws or a smaller pilot.least_steps",
        )  # fmt: skip

    @property
    def _options(self) -> list[int]:
        return [self.draws] if self.draws else [MOST_DRAWS, FEW_DRAWS]

    def fitting(self, least: int, most: int) -> int:
        """The same, but 0 where nothing fits. Steps are fewer before draws are."""
        if self.left is None:
            return most
        for draws in self._options:
            if self.run_seconds(least, draws) <= self.left:
                return self._fitting(least, most, draws, self.left)
        return 0

    def _fitting(self, least: int, most: int, draws: int, left: float) -> int:
        """The most steps that fit on so many draws, by halving."""
        low, high = least, max(least, most)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.run_seconds(middle, draws) <= left
            low, high = (middle, high) if fits else (low, middle - 1)
        return low
