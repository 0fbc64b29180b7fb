"""What is printed: names of files and classes must not steer the terminal they are shown on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from genkt.io import printable

_UP = "\x1b[A"
"""What progress bars write, on its own, to move up a line."""


class Printable:
    """A stream that spells control characters out (``printable``); all else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, harmless; the movements of progress bars stay as they are."""
        self.stream.write(text if _only_moves(text) else printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _only_moves(text: str) -> bool:
    return not text.replace(_UP, "").strip("\r\n")


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """All that is printed meanwhile, messages, tables, logs and bars alike, is ``printable``."""
    out, err = cast("TextIO", Printable(sys.stdout)), cast("TextIO", Printable(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
