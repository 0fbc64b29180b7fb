"""SIGKILL at every point where something is written, at random times, twice, and of a worker."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from trials.bench import Bench, seeded
from trials.cases import CASES
from trials.child import Running
from trials.points import Points

_AT_POINTS = 3
"""Of five trials of a command so many are at points: in a seeded order, until all were."""
_START_SECONDS = 5.0
"""About what a new Python needs until the command begins."""


class Kills:
    """Trials of this kind."""

    name = "kills"

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        alone = bench.names(lambda case: case.writes and not case.processes)
        others = bench.names(lambda case: case.processes)
        self._cycle = [name for other in others for name in (*alone, other)] or alone

    def title(self, trial: int) -> str:
        """What the trial does."""
        return self._plan(trial)[0]

    def run(self, trial: int) -> list[str]:
        """Kill, then the same command; what is wrong."""
        _, name, kill = self._plan(trial)
        self.bench.restore(self.bench.reference(name).before)
        faults = kill()
        return faults or self.bench.again(
            name, fresh=seeded(self.seed, "again", trial).random() < 0.05
        )

    def _plan(self, trial: int) -> tuple[str, str, Callable[[], list[str]]]:
        rng = seeded(self.seed, self.name, trial)
        name = self._cycle[trial % len(self._cycle)]
        turn, points = self._turn(trial, name), self.bench.reference(name).points
        if CASES[name].processes and rng.random() < 0.7:
            seconds = rng.uniform(0, self.bench.reference(name).seconds)
            return (
                f"{name}, a worker after {seconds:.2f} s",
                name,
                lambda: self._worker(name, seconds),
            )
        round_, place = divmod(turn, 5)
        if place < _AT_POINTS:
            point = self._point(name, round_ * _AT_POINTS + place, points)
            return f"{name}, point {point} of {points}", name, lambda: self._at(name, point)
        if place == _AT_POINTS:
            fresh = rng.random() < 0.3
            most = self.bench.reference(name).seconds + (_START_SECONDS if fresh else 0)
            seconds = rng.uniform(0, most)
            how = "as a new Python" if fresh else "forked"
            title = f"{name}, after {seconds:.2f} s, {how}"
            return title, name, lambda: self._after(name, seconds, fresh=fresh)
        first, second = rng.randrange(points), rng.randrange(points)
        title = f"{name}, point {first}, then point {second} of the rest"
        return title, name, lambda: self._at(name, first) or self._at(name, second)

    def _turn(self, trial: int, name: str) -> int:
        """How many trials of the command were before this one."""
        rounds, place = divmod(trial, len(self._cycle))
        return rounds * self._cycle.count(name) + self._cycle[:place].count(name)

    def _point(self, name: str, number: int, points: int) -> int:
        rounds, place = divmod(number, points)
        order = list(range(points))
        random.Random(f"{self.seed}/{name}/{rounds}").shuffle(order)
        return order[place]

    def _at(self, name: str, point: int) -> list[str]:
        points = Points(self.bench.home, point)
        ended = self.bench.run(self.bench.reference(name).words, setup=points.install)
        return self.bench.faults(ended, (0, -signal.SIGKILL))

    def _after(self, name: str, seconds: float, *, fresh: bool) -> list[str]:
        running = Running(self.bench.job(self.bench.reference(name).words, fresh=fresh))
        ended = running.wait(seconds, lambda other: other.signal(signal.SIGKILL))
        return self.bench.faults(ended, (0, -signal.SIGKILL))

    def _worker(self, name: str, seconds: float) -> list[str]:
        """Kill one of the command's own processes; the command itself may go on or give up."""
        rng = seeded(self.seed, name, int(1000 * seconds))

        def kill(running: Running) -> None:
            workers = [pid for pid, words in running.members() if "tracker" not in words]
            with suppress(ProcessLookupError):
                if workers:
                    os.kill(rng.choice(workers), signal.SIGKILL)

        ended = Running(self.bench.job(self.bench.reference(name).words)).wait(seconds, kill)
        # A loader's death ends the run with torch's own words: what must hold is the rerun.
        return self.bench.faults(ended, (0, 2) if CASES[name].name.endswith("pool") else (0, 1, 2))
