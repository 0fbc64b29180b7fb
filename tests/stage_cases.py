"""Stages that are interrupted, as Ctrl-C does, in this process; choices with a known end."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from tiny import Ran, run

from genkt.runs.run_log import StageLog
from genkt.stages.cross_validation import Exam, Judge, choose
from genkt.training.stage import Record
from genkt.types import Cost


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


def last_wins(exams: Sequence[Exam], judge: Judge, default: int) -> tuple[int, Cost]:
    """A choice between two that asks all questions and takes the second, whatever the answers."""
    return 1, choose(exams, judge, default)[1]
