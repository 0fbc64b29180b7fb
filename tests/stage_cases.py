"""Interrupting a command in the middle of a stage, as Ctrl-C does, in this process."""

from __future__ import annotations

from unittest.mock import patch

from tiny import Ran, run

from genkt.runs.run_log import StageLog
from genkt.training.stage import Record


def run_and_interrupt(words: list[str], stage: str, count: int) -> Ran:
    """Run a command, with Ctrl-C when a stage has written ``count`` records; 130 is its code."""
    original, seen = StageLog.record, 0

    def record(log: StageLog, line: Record) -> None:
        nonlocal seen
        original(log, line)
        seen += line.get("stage") == stage
        if seen == count:
            raise KeyboardInterrupt

    with patch.object(StageLog, "record", record):
        return run(*words)
