"""Interrupting a command in the middle of a stage, as Ctrl-C does, in this process."""

from __future__ import annotations

import _thread
import threading
from pathlib import Path

from tiny import Ran, run


def run_and_interrupt(words: list[str], log: Path, mark: str, count: int) -> Ran:
    """Run a command until its log holds ``count`` lines with ``mark``; 130 is its exit code."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            if log.is_file() and log.read_text().count(mark) >= count:
                _thread.interrupt_main()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    ran = run(*words)
    ended.set()
    watcher.join()
    return ran
