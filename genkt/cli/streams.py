"""The standard streams of a command, whatever state they are in when it starts and ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prefer_utf8() -> None:
    """Start the command again in Python's UTF-8 mode where file names would be read as ASCII.

    Under ``LC_ALL=POSIX`` with that mode switched off a folder with umlauts has no name.
    """
    ascii_names = sys.getfilesystemencoding().lower().replace("-", "") not in ("utf8", "mbcs")
    if ascii_names and os.environ.get("PYTHONUTF8") != "1":
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, "PYTHONUTF8": "1"})


def open_streams() -> None:
    """Give closed streams a place to go, and let every text be written.

    A closed descriptor would be the next file's that is opened, and get what is printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def flush() -> str | None:
    """Write what is left of standard output; why it could not be written, None where it was.

    A reader that is gone (head, less) has seen enough: that is no fault.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
    except OSError as error:
        return error.strerror or str(error)
    return None


def drop_output() -> None:
    """The rest of standard output goes nowhere; else Python complains once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def folder_is_gone() -> bool:
    """Whether the current folder has been deleted."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
