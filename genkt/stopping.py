"""Ending on a signal: where a training has saved its state, elsewhere at once.

Handlers are there only while a command runs (``until_stopped``) or a pool's process works
(``as_worker``); used from Python as a library, genkt leaves signals alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

_SAME_SECONDS = 0.5
"""A launcher may pass a signal on that the process has got by itself: still the first one."""

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_BEFORE_TIME_LIMIT = "SIGUSR1"
"""Of a SLURM job that asks for it: ``#SBATCH --signal=USR1@60``."""


class Stopped(KeyboardInterrupt):
    """A signal has ended the work.

    Args:
        number: of the signal.
        place: where it ended and what was saved, "" where nothing is known of that.
    """

    def __init__(self, number: int, place: str = "") -> None:
        super().__init__(number, place)
        self.number, self.place = number, place

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}{self.place and f' {self.place}'}"

    @property
    def exit_code(self) -> int:
        """As a shell tells the end by a signal."""
        return 128 + self.number


class _State:
    """What the handler of this process knows."""

    def __init__(self) -> None:
        self.owner = 0
        self.asked: int | None = None
        self.asked_at = 0.0
        self.deferring = 0


_state = _State()


def stop_asked() -> bool:
    """Whether a signal has asked this process to end as soon as its state is saved."""
    return _state.asked is not None


def stop(place: str) -> Stopped:
    """What to raise where ``stop_asked`` and the state is saved; ``place``: "at step 3 of x"."""
    assert _state.asked is not None
    return Stopped(_state.asked, place)


@contextlib.contextmanager
def deferring() -> Iterator[None]:
    """A block that looks at ``stop_asked`` itself, after every step; a second signal ends it.

    Raises:
        Stopped: at the end of the block, where it has not looked in time.
    """
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1
    if _state.asked is not None and not _state.deferring:
        raise Stopped(_state.asked)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """A stop in this block tells the part that it fell in."""
    try:
        yield
    except Stopped as stopped:
        if stopped.place:
            stopped.place = stopped.place.replace(", state", f" of {name}, state", 1)
        raise


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """End a command by Ctrl-C, SIGTERM, SIGHUP and, on SLURM, SIGUSR1, as this module says.

    Does nothing outside of the main thread of the main process; a signal that is ignored (nohup,
    the background of a shell) stays so.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or multiprocessing.parent_process() is not None:
        yield
        return
    names = [*_ENDING, *([_BEFORE_TIME_LIMIT] if "SLURM_JOB_ID" in os.environ else [])]
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    _begin()
    try:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, _handle)
        yield
    finally:
        _state.asked = None
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def as_worker() -> None:
    """End this process of a pool by SIGTERM alone, which the pool sends when it is stopped."""
    _begin()
    for name in ("SIGINT", "SIGHUP", _BEFORE_TIME_LIMIT):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _handle)


def _begin() -> None:
    _state.owner, _state.asked, _state.deferring = os.getpid(), None, 0


def _handle(number: int, _: FrameType | None) -> None:
    if os.getpid() != _state.owner:  # a process that loads images: its parent ends it
        if number == signal.SIGTERM:
            sys.exit(128 + number)
        return
    now = time.monotonic()
    if _state.asked is not None:
        if now - _state.asked_at > _SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    _state.asked, _state.asked_at = number, now
    if not _state.deferring:
        raise Stopped(number)
