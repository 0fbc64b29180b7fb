"""The points of a command at which something is written: counted, or where it kills itself."""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = frozenset("wax+")


class Points:
    """Counts the calls that change files below a folder; two points a call, before and after it.

    Args:
        home: what lies elsewhere is not counted.
        kill_at: the point where this process ends as by ``kill -9``; None: nowhere.
    """

    def __init__(self, home: Path, kill_at: int | None = None) -> None:
        self.home, self.kill_at, self.count = str(home) + os.sep, kill_at, 0
        self._process = os.getpid()

    def install(self) -> None:
        """Wrap the calls, in this process and for good."""
        self._process = os.getpid()
        for name in ("replace", "rename"):
            setattr(os, name, self._wrapped(getattr(os, name), place=1))
        for name in ("mkdir", "unlink", "rmdir", "remove"):
            setattr(os, name, self._wrapped(getattr(os, name)))
        os.fsync = self._wrapped(os.fsync, any_place=True)
        os.open = self._wrapped(os.open, writes=_flags_write)  # type: ignore[assignment]
        opened: Any = self._wrapped(io.open, writes=_mode_writes)
        io.open = builtins.open = opened

    def _wrapped(
        self,
        real: Callable[..., Any],
        place: int = 0,
        *,
        any_place: bool = False,
        writes: Callable[..., bool] = lambda *_, **__: True,
    ) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            here = any_place or self._below(args[place] if len(args) > place else "")
            if not (here and writes(*args, **settings)):
                return real(*args, **settings)
            self._point()
            result = real(*args, **settings)
            self._point()
            return result

        return call

    def _below(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.home)

    def _point(self) -> None:
        if os.getpid() != self._process:
            return  # a process that this one forked
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def _mode_writes(path: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
    return bool(_WRITING & set(mode))


def _flags_write(path: Any, flags: int, *_: Any, **__: Any) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
