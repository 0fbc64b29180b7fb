"""Progress of a comparison: a line per finished arm, with the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from genkt.comparison.arm_task import ArmTask
from genkt.progress import Reporter, duration, say, seconds_left

_POLL_SECONDS = 1.0


class Watch:
    """Reports progress from the arms' folders while any process trains them.

    Args:
        tasks: all arms, or all candidates.  what: name of these.
        clock: seconds, for tests.
    """

    def __init__(
        self, tasks: Sequence[ArmTask], what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what = what
        self.tasks = list(tasks)
        self._told = {task.name for task in self.tasks if task.is_done()}
        self._before = sum(map(_work_done, self.tasks))
        self._clock, self._started = clock, clock()
        self._reporter = Reporter(
            sum(task.config.num_students for task in self.tasks), what, done=self._num_students(),
            unit="students", announced=True, bar=False, clock=clock,
        )  # fmt: skip
        self._stream = sys.stderr  # an arm that this process trains redirects it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._reporter.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.tell()
        self._reporter.__exit__(kind, error, trace)

    def seconds_left(self) -> float | None:
        """The time left, from the work since the start; None if none is done."""
        total = sum(task.size for task in self.tasks) - self._before
        done = sum(map(_work_done, self.tasks)) - self._before
        return seconds_left(done, total, self._clock() - self._started)

    def _watch(self) -> None:
        first_student = False
        while not self._stop.wait(_POLL_SECONDS):
            self.tell()
            if not first_student and (left := self.seconds_left()) is not None:
                first_student = True
                self._say(
                    f"first students are there; about {duration(left)} left for all {self.what}"
                )

    def tell(self) -> None:
        """Report the arms that ended, and the progress of all from time to time."""
        for task in self.tasks:
            if task.name in self._told or not task.is_done():
                continue
            self._told.add(task.name)
            left = self.seconds_left()
            when = f"; about {duration(left)} left" if left else ""
            failure = task.failure()
            how = f"ended early: {failure}" if failure else "finished"
            self._say(f"[{len(self._told)}/{len(self.tasks)}] {task.name} {how}{when}")
        self._reporter.reach(self._num_students(), self.seconds_left())

    def _say(self, line: str) -> None:
        say(f"genkt compare: {line}", self._stream)

    def _num_students(self) -> int:
        return sum(task.num_finished() for task in self.tasks)


def _work_done(task: ArmTask) -> float:
    """The remaining work of an arm, from its finished students; 0 after its end."""
    share = task.num_finished() / task.config.num_students
    return task.size * (1.0 if task.is_done() else share)
