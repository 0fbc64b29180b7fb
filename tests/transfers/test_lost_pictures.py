"""A run survives transfer pictures that break while it works, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hollow import hollow
from tiny import CLASSES, Ran, picture, run, transfer_words, write_images

from genkt.transfers import run_transfer

UNLABELLED = 30


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    """Makes a picture disappear when a run has opened its data."""

    def after_opening(root: Path, name: str) -> None:
        original = run_transfer.represent

        def represent(*args: object) -> object:
            (root / name).unlink(missing_ok=True)
            return original(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(run_transfer, "represent", represent)

    return after_opening


def train(home: Path, *words: str) -> Ran:
    root = home / "images"
    if not root.is_dir():
        write_images(root / "train", CLASSES, per_class=4)
        write_images(root / "test", CLASSES, per_class=2, first=5)
        (root / "unlabelled").mkdir()
        for number in range(UNLABELLED):
            picture(number, 50).save(root / "unlabelled" / f"{number}.png")
        hollow(root / "unlabelled" / "hollow.jpg")
    return run(*transfer_words(home, *words))


def test_a_picture_that_disappears_is_replaced_and_told(
    tmp_path: Path, breaking: Callable[[Path, str], None]
) -> None:
    root = tmp_path / "images"
    breaking(root, "unlabelled/7.png")
    ran = train(tmp_path)
    assert ran.code == 0, ran.err
    lost = str(root / "unlabelled" / "7.png")
    hollow_one = str(root / "unlabelled" / "hollow.jpg")
    assert ran.err.count("; another transfer image takes its place") == 1, ran.err
    folder = tmp_path / "run"
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert f"{lost}: No such file" in log and f"{hollow_one}: cannot be decoded" in log
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [each["path"] for each in report["skipped"]] == [lost, hollow_one]
    (note,) = [note for note in report["notes"] if lost in note]
    assert note.startswith("2 images could not be read")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert lost in page and hollow_one in page
    assert note in ran.err and "2 images could not be read" in page


def test_a_labelled_picture_that_disappears_is_an_error(
    tmp_path: Path, breaking: Callable[[Path, str], None]
) -> None:
    for name in ("train/dog/1.png", "test/dog/1.png"):
        home = tmp_path / name.partition("/")[0]
        breaking(home / "images", name)
        ran = train(home)
        assert ran.code == 2
        assert str(home / "images" / name) in ran.err.splitlines()[-1]
