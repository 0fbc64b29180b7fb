"""Progress: a bar on a terminal; elsewhere when work begins, how far it is, when it ends."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import run, transfer_words

from genkt import progress
from genkt.progress import EVERY_SECONDS, Reporter, duration, log_alone, say, seconds_left
from genkt.runs.estimate import timed
from genkt.runs.run_log import log_to_file


class Clock:
    """Time that passes where the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(clock: Clock, steps: int = 10, seconds: float = 10.0, done: int = 0) -> None:
    with Reporter(
        steps, "distil", done=done, where="draw 1, aft", unit="steps", announced=True, clock=clock
    ) as reporter:
        for step in range(done, steps):
            clock.now += seconds
            reporter.show(loss=f"{step}")
            reporter.advance()


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    work(Clock())
    assert capsys.readouterr().err.splitlines() == [
        "draw 1, aft, distil: begins, 10 steps",
        "draw 1, aft, distil: 3 of 10 steps, 0.1/s, about 1 min 10 s left, loss 2",
        "draw 1, aft, distil: 6 of 10 steps, 0.1/s, about 40.0 s left, loss 5",
        "draw 1, aft, distil: 9 of 10 steps, 0.1/s, about 10.0 s left, loss 8",
        "draw 1, aft, distil: ends after 1 min 40 s, 10 steps, 0.1/s",
    ]


def test_what_was_done_before_does_not_count_for_the_pace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    work(Clock(), done=6)
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0].endswith("continuing from step 6 of 10")
        and "about 10.0 s left" in lines[1]
        and len(lines) == 3
    )
    work(Clock(), done=10)
    assert capsys.readouterr().err == ""


def test_short_work_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    for seconds, num_lines in ((EVERY_SECONDS / 3, 0), (EVERY_SECONDS / 2, 2)):
        clock = Clock()
        with Reporter(2, "reading", clock=clock) as reporter:
            for _ in range(2):
                clock.now += seconds
                reporter.advance()
        assert len(capsys.readouterr().err.splitlines()) == num_lines


def test_work_that_fails_does_not_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), Reporter(1, "work", announced=True):
        raise KeyError
    assert capsys.readouterr().err.splitlines() == ["work: begins, 1 image"]


def test_nothing_is_said_where_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(5, "work", announced=True, shown=False) as reporter:
        reporter.reach(5)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar_and_the_log_has_the_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handler = log_to_file(tmp_path / "train.log")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    try:
        work(Clock())
        say("a warning")
    finally:
        logging.getLogger("genkt").removeHandler(handler)
        handler.close()
    drawn = terminal.getvalue()
    assert "distil: " in drawn and "10/10" in drawn and "loss=9" in drawn
    assert "begins" not in drawn and "a warning\n" in drawn
    log = (tmp_path / "train.log").read_text().splitlines()
    assert len(log) == 5 and "INFO draw 1, aft, distil: begins" in log[0]


def test_another_pace_than_that_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Reporter(4, "arms", unit="students", bar=False, clock=clock) as reporter:
        clock.now += EVERY_SECONDS
        reporter.reach(1, left=7.0)
        clock.now += EVERY_SECONDS
        reporter.reach(0)
    lines = capsys.readouterr().err.splitlines()
    assert "about 7.0 s left" in lines[0] and lines[1] == "arms: 0 of 4 students, 1 min 0 s so far"
    assert lines[2] == "arms: stops after 1 min 0 s, 0 of 4 students"


def told(capsys: pytest.CaptureFixture[str], expected: str) -> str:
    """What standard error holds as soon as the text is there."""
    found, until = "", time.monotonic() + 20
    while expected not in found and time.monotonic() < until:
        time.sleep(0.01)
        found += capsys.readouterr().err
    return found


def test_a_slow_first_step_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    with Reporter(240, "distil", unit="steps"):
        assert "distil: 0 of 240 steps, " in told(capsys, "so far")
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""  # what has ended says no more


def test_of_nested_work_the_inner_one_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    with Reporter(2, "students", unit="students"):
        with Reporter(3, "distil", unit="steps"):
            capsys.readouterr()
            assert "students" not in told(capsys, "distil: 0 of 3")
        assert "students: 0 of 2" in told(capsys, "students: 0 of 2")


def test_a_slow_step_whose_lines_go_to_the_log_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "genkt")
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    with log_alone(), Reporter(3, "distil", unit="steps"):
        until = time.monotonic() + 20
        while not caplog.messages and time.monotonic() < until:
            time.sleep(0.01)
    assert "0 of 3 steps" in caplog.messages[0] and capsys.readouterr().err == ""


def test_work_that_turns_out_to_be_half_done(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Reporter(100, "work", clock=clock) as reporter:
        reporter.continue_at(90)
        clock.now += EVERY_SECONDS
        reporter.reach(95)
        assert "95 of 100 images, 0.17/s, about 30.0 s left" in capsys.readouterr().err


def test_the_log_alone(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "genkt")
    with log_alone():
        work(Clock())
    assert capsys.readouterr().err == "" and len(caplog.messages) == 5


def test_a_reader_that_is_gone_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    work(Clock())


@given(st.floats(0, 1e7))
def test_durations_never_say_sixty(seconds: float) -> None:
    text = duration(seconds)
    assert not re.search(r"\b60(\.0)? (s|min)", text)
    amounts = {"s": 1, "min": 60, "h": 3600}
    told = sum(float(n) * amounts[unit] for n, unit in re.findall(r"([\d.]+) (s|min|h)", text))
    assert abs(told - seconds) <= (60 if seconds >= 3599 else 0.6)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_rest_takes_what_is_in_proportion(done: int, more: int, seconds: int) -> None:
    left = seconds_left(done, done + more, seconds)
    assert left is not None and left * done == pytest.approx(seconds * more, rel=1e-9)


def test_of_two_attempts_the_second_counts() -> None:
    tried: list[str] = []

    def attempt(name: str) -> int:
        tried.append(name)
        return len(tried)

    result, seconds = timed(attempt)
    assert tried == ["warm-up", "timed"] and result == 2 and 0 <= seconds < 60


def test_a_transfer_tells_its_stages(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path))
    assert ran.code == 0, ran.err
    log = (tmp_path / "run" / "train.log").read_text()
    for arm, stage in (("stl", "finetune"), ("logit_kd", "distil"), ("logit_kd", "finetune")):
        for text in ("begins, ", "ends after "):
            line = f"draw 0, {arm}, {stage}: {text}"
            assert ran.err.count(line) == 1 and log.count(line) == 1, line
