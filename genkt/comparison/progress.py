"""What a comparison says while it runs: a line per arm that ended, with the time that is left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from genkt.comparison.arm_task import ArmTask
from genkt.report.kit.html_tables import duration

_POLL_SECONDS = 1.0


class Watch:
    """Looks at the arms' folders while they are trained, whoever trains them, and tells.

    Args:
        tasks: all arms, or all candidates.  what: these are.
    """

    def __init__(self, tasks: Sequence[ArmTask], what: str) -> None:
        self.what = what
        self.tasks = list(tasks)
        self._told = {task.name for task in self.tasks if task.is_done()}
        self._before = sum(map(_work_done, self.tasks))
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
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
        self._tell()

    def seconds_left(self) -> float | None:
        """From the work that was done since the start; None where none was."""
        total = sum(task.size for task in self.tasks)
        now = sum(map(_work_done, self.tasks))
        done = now - self._before
        if done <= 0:
            return None
        return (time.monotonic() - self._started) * max(0.0, total - now) / done

    def _watch(self) -> None:
        first_cell = False
        while not self._stop.wait(_POLL_SECONDS):
            self._tell()
            if not first_cell and (left := self.seconds_left()) is not None:
                first_cell = True
                _say(f"first students are there; about {duration(left)} left for all {self.what}")

    def _tell(self) -> None:
        for task in self.tasks:
            if task.name in self._told or not task.is_done():
                continue
            self._told.add(task.name)
            left = self.seconds_left()
            when = f"; about {duration(left)} left" if left else ""
            failure = task.failure()
            how = f"ended early: {failure}" if failure else "finished"
            _say(f"[{len(self._told)}/{len(self.tasks)}] {task.name} {how}{when}")


def _work_done(task: ArmTask) -> float:
    """Of its size, by the students that are there; an arm that has ended leaves nothing to do."""
    share = task.num_finished() / task.config.draws
    return task.size * (1.0 if task.is_done() else share)


def _say(line: str) -> None:
    print(f"genkt compare: {line}", file=sys.stderr, flush=True)
