"""A student that sees far more pixels than the pictures have: told once, with words that work."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import ARGS, CLASSES, picture, run, transfer_words

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import RunFolder
from genkt.transfers.open_run import open_run
from genkt.transfers.size_notes import size_notes

SMALL_VIT = ["student=vit_tiny_patch16_224", "student.pretrained=false"]
VIT_ARGS = "embed_dim: 12, depth: 1, num_heads: 1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 60 pixels."""
    home = tmp_path_factory.mktemp("sizes")
    for label, name in enumerate(CLASSES):
        (home / "images" / name).mkdir(parents=True)
        for number in range(8):
            picture(label, number, 60).save(home / "images" / name / f"{number}.png")
    return home


def words_of(home: Path, *more: str) -> list[str]:
    """Of a run whose student sees what its network declares."""
    words = [*transfer_words(home, "method=stl", "executor=inline")]
    given = ("student.transform=", *(f"{word.partition('=')[0]}=" for word in more))
    return [*(word for word in words if not word.startswith(given)), *more]


def notes(home: Path, *words: str) -> list[str]:
    config = read_config(TransferConfig, "transfer", words_of(home, *words)[1:])
    return size_notes(open_run(config, RunFolder(home / "none", {}, overwrite=False)))


def test_a_student_of_the_pictures_size_needs_no_word(home: Path) -> None:
    assert notes(home, "student.size=64") == notes(home, "student.size=96") == []


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([f"student.args={ARGS}", "student.size=160"], "student.size=64"),
        ([*SMALL_VIT, f"student.args={{{VIT_ARGS}}}"], "student.size=64"),
        ([*SMALL_VIT, f"student.args={{{VIT_ARGS}, img_size: 160}}"], "student.args.img_size=64"),
    ],
)
def test_a_large_one_is_told_with_words_that_work(home: Path, words: list[str], asked: str) -> None:
    (note,) = notes(home, *words)
    assert f": {asked} computes" in note and "\n" not in note and "60" in note
    assert notes(home, *words, asked) == []


def test_a_size_that_does_not_work_is_not_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import genkt.transfers.size_notes as module

    monkeypatch.setattr(module, "_works", lambda spec, _: spec.transform["input_size"] == [96, 96])
    (note,) = notes(home, "student.size=224")
    assert "student.size=96" in note
    monkeypatch.setattr(module, "_works", lambda *_: False)
    (note,) = notes(home, "student.size=224")
    assert "student.size" not in note and "224 x 224" in note


def test_a_run_says_it_once_at_its_start(home: Path) -> None:
    words = words_of(
        home, "student.size=128", "baseline=false",
        "train.steps=1", "finetune.steps=0", "train.batch_size=4", "overwrite=true",
    )  # fmt: skip
    ran = run(*words)
    assert ran.code == 0 and ran.err.count("student.size=64 computes about 4 times less") == 1
    assert ran.err.index("student.size=64") < ran.err.index("finetune: begins")
