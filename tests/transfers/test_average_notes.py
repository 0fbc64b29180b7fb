"""What averages of a short training cannot do is said before it trains, and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Ran, run, transfer_words

MCL = ["method=mcl", "method.decay=0.5", "method.every=2", "baseline=false", "finetune.steps=0"]


def notes_of(home: Path) -> list[str]:
    found: list[str] = json.loads((home / "run" / "report.json").read_text())["notes"]
    return found


def estimated(home: Path, *words: str) -> Ran:
    ran = run(*transfer_words(home, "dry_run=true", *words))
    assert ran.code == 0, ran.err
    return ran


def test_what_mcl_keeps_of_its_start_is_said_everywhere_once(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *MCL))
    assert ran.code == 0, ran.err
    (note,) = [note for note in notes_of(tmp_path) if note.startswith("method.decay=0.5")]
    assert "still 25 %" in note and "4 steps of distil" in note and "0.5^2" in note
    log = (tmp_path / "run" / "train.log").read_text()
    assert ran.err.count(note) == 1 and log.count(note) == 1
    assert log.index(note) < log.index("draw 0,")  # before any student
    again = run(*transfer_words(tmp_path, *MCL))
    assert again.code == 0 and note not in again.err  # nothing is trained


def test_a_dry_run_tells_it_too(tmp_path: Path) -> None:
    assert "still 25 %" in estimated(tmp_path, *MCL).out
    stages = ["recipe.stages.distil.steps=40"]  # 0.5^20
    assert "still" not in estimated(tmp_path, *MCL, *stages).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.ema=0.999"], ["distil (4 steps)", "1,000 steps", "9,000"]),
        (["train.ema=0.5", "train.steps=30", "finetune.steps=0"], []),
        (["train.ema=0.5", "train.ema_every=5"], ["train.ema_every=5", "distil (4 steps)"]),
        ([], []),
    ],
)
def test_an_average_longer_than_the_training(
    words: list[str], said: list[str], tmp_path: Path
) -> None:
    printed = estimated(tmp_path, *words).out
    notes = [line for line in printed.splitlines() if line.startswith("  note")]
    assert bool(notes) == bool(said)
    for text in said:
        assert any(text in note for note in notes), notes
