"""How far long work is: a bar on a terminal, plain lines elsewhere and in a run's log.

Lines say where work begins, every 30 seconds how far it is, and where it ends. A timer brings
the line while a single step takes minutes, as a first one may that compiles.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

EVERY_SECONDS = 30.0
"""Least time between two lines of one piece of work."""

_SHORT = {"images": "img", "tars": "tar"}
"""What a bar calls its units; others are "it"."""

_printing: ContextVar[bool] = ContextVar("printing", default=True)
_innermost: ContextVar[Reporter | None] = ContextVar("innermost", default=None)

logger = logging.getLogger("genkt")


def duration(seconds: float) -> str:
    """Wall time.

    >>> duration(8.42), duration(125), duration(4800)
    ('8.4 s', '2 min 5 s', '1 h 20 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seconds_left(done: float, total: float, seconds: float) -> float | None:
    """Time that the rest of ``total`` takes at the pace of what is done; None: nothing is done.

    >>> seconds_left(20, 100, 5.0), seconds_left(0, 100, 5.0)
    (20.0, None)
    """
    return seconds * max(0.0, total - done) / done if done > 0 else None


def say(text: str, stream: TextIO | None = None) -> None:
    """One line above the bars, on standard error where no stream is given."""
    from tqdm import tqdm

    tqdm.write(text, file=stream or sys.stderr)


@contextlib.contextmanager
def log_alone() -> Iterator[None]:
    """Lines go to the log meanwhile, not to standard error: where both are the same file."""
    token = _printing.set(False)
    try:
        yield
    finally:
        _printing.reset(token)


class Reporter:
    """Tells how far one piece of work is; used in a ``with`` statement.

    Args:
        total: units of work.  done: of them before this start.
        title: what a bar is called.  where: precedes it in lines, such as "draw 0, aft".
        unit: what is counted, in the plural.
        announced: lines say where the work begins and ends; else there are none unless it takes
            longer than ``EVERY_SECONDS``.
        shown: False says nothing at all.  bar: False shows nothing on a terminal.
        leave: a bar stays on the terminal when it is full.
        clock: seconds, for tests.
    """

    def __init__(
        self, total: int, title: str, *, done: int = 0, where: str = "", unit: str = "images",
        announced: bool = False, shown: bool = True, bar: bool = True, leave: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.total, self.done, self.unit = total, done, unit
        self.title, self.name = title, f"{where}, {title}" if where else title
        self._announced, self._shown, self._leave = announced, shown, leave
        self._before, self._clock, self._told = done, clock, False
        self._started = self._last = clock()
        self._left: float | None = None
        self._figures: dict[str, str] = {}
        self._stream = sys.stderr  # another thread may redirect it while this one works
        self._terminal = self._stream.isatty()
        self._bar: tqdm[Any] | None = None
        self._wants_bar = bar
        self._outer: Reporter | None = None
        self._inside = 0
        self._lines, self._ended = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        self._started = self._last = self._clock()
        self._outer = _innermost.get()
        _innermost.set(self)
        if self._outer is not None:
            self._outer._inside += 1
        if self._shown and self._wants_bar and self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, initial=self.done, desc=self.title, leave=self._leave,
                unit=_SHORT.get(self.unit, "it"),
            )  # fmt: skip
        if self._announced and self.done < self.total:
            place = f"{self.unit.removesuffix('s')} {self.done:,} of {self.total:,}"
            self._tell(f"continuing from {place}" if self.done else f"begins, {self._units()}")
        if self._shown and self.done < self.total:
            context = copy_context()  # a new thread's own would not know of ``log_alone``
            threading.Thread(target=context.run, args=(self._watch,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with self._lines:
            self._ended.set()
        _innermost.set(self._outer)
        if self._outer is not None:
            self._outer._inside -= 1
        if self._bar is not None:
            self._bar.close()
        if kind is None and self._told:
            ends, count = "ends", self._units()
            if self.done < self.total:
                ends, count = "stops", f"{self.done:,} of {count}"
            took = duration(self._clock() - self._started)
            self._tell(f"{ends} after {took}, {count}{self._rate()}")

    def advance(self, count: int = 1) -> None:
        """So many more units are done; fewer than none where work is lost."""
        self.done += count
        if self._bar is not None and count:
            self._bar.update(count)
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        with self._lines:
            now = self._clock()
            if now - self._last >= EVERY_SECONDS and not self._ended.is_set():
                self._last = now
                self._tell(self._state())

    def _watch(self) -> None:
        """Says the line that is due while a step takes long; work inside this one has its own."""
        wait = EVERY_SECONDS
        while not self._ended.wait(max(0.01, wait)):
            if self._inside:
                wait = EVERY_SECONDS
                continue
            self._tell_if_due()
            wait = EVERY_SECONDS - (self._clock() - self._last)

    def continue_at(self, done: int) -> None:
        """So many units were done before this start: they do not count for the pace."""
        if self._bar is not None:
            self._bar.update(done - self.done)
        self.done = self._before = done

    def reach(self, done: int, left: float | None = None) -> None:
        """So many units are done in all.

        Args:
            left: seconds that the rest takes, where more is known than the pace so far.
        """
        self._left = left
        self.advance(done - self.done)

    def show(self, **figures: str) -> None:
        """What else is to be known of the work at this moment, such as its loss."""
        self._figures = figures
        if self._bar is not None:
            self._bar.set_postfix(figures, refresh=False)

    def _state(self) -> str:
        left = self._left
        if left is None:
            done, total = self.done - self._before, self.total - self._before
            left = seconds_left(done, total, self._clock() - self._started)
        when = "" if left is None else f", about {duration(left)} left"
        if left is None and self.done <= self._before:
            when = f", {duration(self._clock() - self._started)} so far"
        more = "".join(f", {name} {value}" for name, value in self._figures.items())
        return f"{self.done:,} of {self._units()}{self._rate()}{when}{more}"

    def _units(self) -> str:
        unit = self.unit.removesuffix("s") if self.total == 1 else self.unit
        return f"{self.total:,} {unit}"

    def _rate(self) -> str:
        seconds, done = self._clock() - self._started, self.done - self._before
        if seconds <= 0 or done <= 0:
            return ""
        rate = done / seconds
        return f", {rate:,.0f}/s" if rate >= 99.5 else f", {rate:.2g}/s"

    def _tell(self, text: str) -> None:
        """A line to the log, and to standard error where no bar can be drawn."""
        if not self._shown:
            return
        self._told = True
        logger.info("%s: %s", self.name, text)
        if not self._terminal and _printing.get():
            with contextlib.suppress(OSError, ValueError):  # a reader that is gone stops no work
                print(f"{self.name}: {text}", file=self._stream, flush=True)
