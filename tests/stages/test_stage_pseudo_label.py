"""Rounds of pseudo-labels: who gets one, what is trained, what is told, going on when killed."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_recipes import cell_of, mine
from test_transfer import kill_at
from tiny import Ran, run, transfer_words, tree

from genkt.data.images import from_arrays
from genkt.runs.pool import Draw
from genkt.stages.pseudo_label import StudentAnswers
from genkt.training.batches import TransferPart

KEY = "recipe.stages.pseudo_label"
SHORT = ["recipe=pseudo_label", "recipe.stages.finetune.steps=6", "recipe.stages.finetune.lr=0.01"]
SHORT += [f"{KEY}.steps=3", f"{KEY}.rounds=2", f"{KEY}.threshold=0.4", "finetune.steps=1"]
SHORT += ["baseline=false"]


def trained(home: Path, *more: str) -> Ran:
    ran = run(*transfer_words(home, *SHORT, *more))
    assert ran.code == 0, ran.err
    return ran


def folder(home: Path, stage: str) -> Path:
    return home / "run" / "draws" / "0" / "pseudo_label" / stage


def answers(home: Path, number: int) -> list[dict[str, str]]:
    path = folder(home, f"pseudo_label-{number}") / "answers.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def extras(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = cell_of(home, "pseudo_label")["result"]["extras"]
    return found


def a_draw(parts: tuple[TransferPart, ...] = ()) -> Draw:
    """Seven images: 0 and 1 are labelled, 1 to 5 are transfer images, 6 is neither."""
    images = from_arrays(np.zeros((7, 2, 2), np.uint8), [-1] * 7, (), "zero")
    labels = np.array([2, 0, -1, -1, -1, -1, -1])
    return Draw(0, 1, images, labels, np.array([0, 1]), np.array([1, 2, 3, 4, 5]), parts)


ANSWERS = StudentAnswers(
    rows=np.array([2, 3, 4, 5]), classes=np.array([1, 1, 0, 2]),
    probabilities=np.array([0.9, 0.6, 0.7, 0.3]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("threshold", "labels", "transfer"),
    [
        (0.0, [2, 0, 1, 1, 0, 2, -1], [1, 2, 3, 4, 5]),
        (0.7, [2, 0, 1, -1, 0, -1, -1], [1, 2, 4]),
        (0.9, [2, 0, 1, -1, -1, -1, -1], [1, 2]),  # just sure enough
        (0.91, [2, 0, -1, -1, -1, -1, -1], [1]),
    ],
)
def test_who_gets_a_label(threshold: float, labels: list[int], transfer: list[int]) -> None:
    before = a_draw()
    found = ANSWERS.label(before, threshold)
    assert found.labels.tolist() == labels and found.transfer.tolist() == transfer
    assert found.labelled.tolist() == [0, 1]
    assert before.labels.tolist() == [2, 0, -1, -1, -1, -1, -1]


def test_parts_lose_their_unsure_rows() -> None:
    parts = (TransferPart(np.array([1, 2, 3]), 0.5), TransferPart(np.array([4, 5]), 0.5))
    found = ANSWERS.label(a_draw(parts), 0.75)
    assert [part.rows.tolist() for part in found.parts] == [[1, 2]]


def test_every_round_is_a_stage_of_its_own(tmp_path: Path) -> None:
    trained(tmp_path, "baseline=true")
    cell = cell_of(tmp_path, "pseudo_label")
    steps = {name: cost["steps"] for name, cost in cell["stages"].items()}
    assert steps == {"finetune": 6, "pseudo_label-0": 3, "pseudo_label-1": 3, "last": 1}
    assert cell_of(tmp_path, "stl")["result"]["cost"]["steps"] == 13  # the same budget
    log = (tmp_path / "run" / "train.log").read_text()
    for number in (0, 1):
        found = answers(tmp_path, number)
        sure = [line for line in found if float(line["probability"]) >= 0.4]
        assert len(found) == len({line["image"] for line in found}) == 15
        assert {line["class"] for line in found} <= {"cat", "dog", "elk"}
        assert extras(tmp_path)[f"labelled.pseudo_label-{number}"] == len(sure)
        assert f"pseudo_label-{number}: {len(sure)} of 15 transfer images labelled" in log
        assert (folder(tmp_path, f"pseudo_label-{number}") / "last.safetensors").is_file()
    assert extras(tmp_path)["labelled.pseudo_label-0"] > 0
    assert {"accuracy.finetune", "accuracy.pseudo_label"} <= set(extras(tmp_path))


def test_a_threshold_of_0_labels_all(tmp_path: Path) -> None:
    trained(tmp_path, f"{KEY}.threshold=0")
    assert extras(tmp_path)["labelled.pseudo_label-1"] == 15


def test_without_a_sure_answer_it_says_so_and_trains_on_the_labels(tmp_path: Path) -> None:
    """The round is then a fine-tuning, bit for bit."""
    stages = "  first: {{do: finetune, steps: 2}}\n  {}\n"
    rounds = "learn: {do: pseudo_label, rounds: 1, threshold: 1, restart: false, steps: 3, lr: 0.1}"
    ran = mine(tmp_path / "a", stages.format(rounds), "baseline=false")
    assert ran.code == 0, ran.err
    lines = [line for line in ran.err.splitlines() if "learn-0: none of 15" in line]
    assert len(lines) == 1 and "trains on the labelled images alone" in lines[0]
    assert cell_of(tmp_path / "a", "mine")["result"]["extras"]["labelled.learn-0"] == 0
    same = "learn-0: {do: finetune, steps: 3, lr: 0.1}"
    ran = mine(tmp_path / "b", stages.format(same), "baseline=false")
    assert ran.code == 0 and "none of" not in ran.err
    one, other = (
        tree(tmp_path / home / "run" / "draws" / "0" / "mine")["learn-0/last.safetensors"]
        for home in "ab"
    )
    assert one == other


@pytest.mark.parametrize("restart", [True, False])
def test_a_round_starts_from_before_the_stage_or_goes_on(restart: bool, tmp_path: Path) -> None:
    """Two rounds on the same labels: from the same start they end with the same weights."""
    trained(tmp_path, f"{KEY}.threshold=1", f"{KEY}.restart={restart}")
    rounds = [folder(tmp_path, f"pseudo_label-{n}") / "last.safetensors" for n in (0, 1)]
    first, second = (load_file(path) for path in rounds)
    assert all(torch.equal(first[name], second[name]) for name in first) == restart


def test_answers_are_the_same_for_any_workers_and_batches(tmp_path: Path) -> None:
    found = []
    for number, more in enumerate([[], ["train.num_workers=1"], [f"{KEY}.batch_size=6"]]):
        home = tmp_path / str(number)
        trained(home, f"{KEY}.rounds=1", f"data.root={tmp_path / '0' / 'images'}", *more)
        found.append((folder(home, "pseudo_label-0") / "answers.csv").read_bytes())
    assert found[0] == found[1] == found[2]


def test_killed_in_a_round_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = [*SHORT, f"{KEY}.steps=20", "train.save_seconds=0"]
    killed = transfer_words(tmp_path, *words)
    log = tmp_path / "run" / "metrics.jsonl"
    kill_at(killed, log, "pseudo_label-1", 8)
    state = torch.load(folder(tmp_path, "pseudo_label-1") / "state.pt", weights_only=True)
    assert 0 < state["progress"]["step"] < 20
    answered = folder(tmp_path, "pseudo_label-1") / "answers.csv"
    written = answered.stat().st_mtime_ns
    assert run(*killed).code == 0
    assert answered.stat().st_mtime_ns == written  # read, not answered again
    assert run(*transfer_words(tmp_path, *words, f"out={tmp_path / 'through'}")).code == 0
    one, other = tree(tmp_path / "run"), tree(tmp_path / "through")
    same = [path for path in one if re.search(r"(safetensors|answers\.csv|metrics\.jsonl)$", path)]
    assert len(same) >= 8 and all(one[path] == other[path] for path in same)


def test_epochs_are_over_all_transfer_images(tmp_path: Path) -> None:
    """So a round's length, and the baseline's budget, do not hang on how many are sure."""
    trained(tmp_path, f"{KEY}.steps=null", f"{KEY}.epochs=2", f"{KEY}.threshold=1")
    # 15 images, 8 of them a step beside the 4 labelled rows
    assert cell_of(tmp_path, "pseudo_label")["stages"]["pseudo_label-0"]["steps"] == 4


def test_no_steps_no_rounds(tmp_path: Path) -> None:
    trained(tmp_path, f"{KEY}.steps=0")
    assert set(cell_of(tmp_path, "pseudo_label")["stages"]) == {"finetune", "last"}


def test_a_dry_run_warns_of_nothing(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *SHORT, f"{KEY}.threshold=1", "dry_run=true"))
    assert ran.code == 0 and "everything fits" in ran.out and "none of" not in ran.err


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        (f"{KEY}.threshold=1.5", f"{KEY}.threshold: expected a number 0 .. 1, got 1.5"),
        (f"{KEY}.rounds=0", f"{KEY}.rounds: expected a number 1 .. 10000, got 0"),
        (f"~{KEY}.threshold", f"{KEY}.threshold: missing"),
        (f"{KEY}.tresh=1", f"{KEY}.tresh: unknown setting. Did you mean threshold"),
    ],
)
def test_faults(word: str, fault: str, tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *SHORT, word))
    assert ran.code == 2 and fault in ran.err
