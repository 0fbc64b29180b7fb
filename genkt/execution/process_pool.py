"""A pool of processes on this machine that outlives the death of its workers."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from genkt.execution.errors import portable
from genkt.execution.tasks import Progress, ShardTask, run_task
from genkt.stopping import Stopped, as_worker
from genkt.types import UserError

logger = logging.getLogger("genkt")

MOST_DEATHS = 3
"""A task is not run again after this many processes have died in it."""

_QUIET_SECONDS = 5.0  # progress is reported at least this often
_GRACE_SECONDS = 30.0  # a training ends its step and saves its state
_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy locks, threads and GPU state


def run_in_pool(
    tasks: Sequence[ShardTask], num_workers: int | None, progress: Progress, *, on_gpu: bool
) -> None:
    """Run the tasks, one after the other in each of ``num_workers`` processes.

    Args:
        num_workers: None: one per GPU if tasks compute ``on_gpu`` and there is one, else one per
        core.

    Raises:
        UserError: ``MOST_DEATHS`` processes died in one task.
        Exception: what a task raised; the other tasks were stopped.
    """
    pool = _Pool(deque(tasks), min(num_workers or num_places(on_gpu=on_gpu), len(tasks)), progress)
    with _ended(pool.workers):
        pool.run()


def num_places(*, on_gpu: bool) -> int:
    """GPUs of this machine where tasks compute ``on_gpu`` and there are some, else cores."""
    import torch

    gpus = torch.cuda.device_count() if on_gpu else 0
    return gpus or _num_cores()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker:
    """A process, its task, and the number of images reported for it."""

    process: BaseProcess
    connection: Connection
    task: ShardTask | None = None
    told: int = 0


class _Pool:
    """The tasks that wait, and the processes at work."""

    def __init__(self, waiting: deque[ShardTask], num_workers: int, progress: Progress) -> None:
        self.waiting, self.progress = waiting, progress
        self.num_threads = max(1, _num_cores() // max(1, num_workers))
        self.deaths: Counter[str] = Counter()
        self.workers: list[_Worker] = []
        self.num_workers = num_workers

    def run(self) -> None:
        """Give every worker a task until none is left."""
        for number in range(self.num_workers):
            self.workers.append(self._started(number))
            self._give(number)
        while busy := {w.connection: n for n, w in enumerate(self.workers) if w.task is not None}:
            heard = wait(list(busy), _QUIET_SECONDS)
            if not heard:
                self.progress(0)
            for connection in heard:
                assert isinstance(connection, Connection)
                self._hear(busy[connection])

    def _started(self, number: int) -> _Worker:
        mine, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=_work,
            args=(theirs, number, self.num_threads, multiprocessing.get_start_method()),
            name=f"worker {number}",
        )
        process.start()
        theirs.close()  # so that the pipe ends with the process
        return _Worker(process, mine)

    def _give(self, number: int) -> None:
        worker = self.workers[number]
        worker.task, worker.told = (self.waiting.popleft() if self.waiting else None), 0
        if worker.task is not None:
            with contextlib.suppress(BrokenPipeError):  # dead already, which the reader notices
                worker.connection.send(worker.task)

    def _hear(self, number: int) -> None:
        """A worker's message: images made (int), the task's end (None), or an exception."""
        worker = self.workers[number]
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):  # it died, perhaps while sending
            self._replace(number)
            return
        if isinstance(message, Exception):
            raise message
        if message is None:
            self._give(number)
        else:
            worker.told += message
            self.progress(message)

    def _replace(self, number: int) -> None:
        """Another process for one that died; its task comes first."""
        worker = self.workers[number]
        assert worker.task is not None
        worker.process.join()
        worker.connection.close()
        cause, name = _cause(worker.process.exitcode), worker.task.name
        self.deaths[name] += 1
        if self.deaths[name] >= MOST_DEATHS:
            raise UserError(
                f"{name}: {MOST_DEATHS} processes died in it, the last by {cause}. Out of "
                "memory? Fewer workers (executor.num_workers=N) need less; finished work "
                "is kept"
            )
        logger.warning("%s: its process died (%s); it is run again", name, cause)
        self.progress(-worker.told)
        self.waiting.appendleft(worker.task)
        self.workers[number] = self._started(number)
        self._give(number)


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return (
        f"exit code {exitcode}, its traceback is above; a script that starts a pool must do so "
        'under if __name__ == "__main__"'
    )


@contextlib.contextmanager
def _ended(workers: list[_Worker]) -> Iterator[None]:
    """End all processes in any case: idle ones at once, others at Python's next signal check."""
    try:
        yield
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _work(connection: Connection, number: int, num_threads: int, method: str) -> None:
    """A worker: run tasks and report progress until the pool closes the pipe."""
    as_worker()
    _end_with_parent()
    # It starts processes as the command does: locks of spawned ones would survive a kill.
    multiprocessing.set_start_method(method, force=True)
    os.environ["LOCAL_RANK"] = str(number)  # which GPU is this worker's
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(num_threads)
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                _do(connection, connection.recv())
    except Stopped as stopped:  # the stack is unwound: temporary files are removed
        sys.exit(stopped.exit_code)


def _end_with_parent() -> None:
    """Stop this process, as the pool would, when the pool's own process is killed.

    Otherwise it would continue until its next message: a training until the end of its student.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _do(connection: Connection, task: ShardTask) -> None:
    try:
        run_task(task, connection.send)
    except BrokenPipeError:
        raise
    except Exception as error:
        connection.send(portable(error, task.name))
    else:
        connection.send(None)
