"""dry_run=true: builds everything, estimates, leaves no trace."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from tiny import run, transfer_words, tree, write_images


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["1 draw x 2 arms, 6 steps each", "6 labelled, 15 transfer", "42 views to answer"]),
        (["method=aft", "method.beta=search", "draws=3"],
         ["3 draws x 2 arms", "and 12 steps per draw to search beta"]),
        (["method=stl", "baseline=false"], ["1 draw x 1 arm,", "teachers   none"]),
        (["teacher.adapt=fine_tune"], ["each once, anew for every draw"]),
        (["teacher.outputs=online", "data.views.num_views=0"], ["teachers   online"]),
        (["train.steps=0", "finetune.steps=0"], ["0 steps each"]),
        (["executor=pool", "executor.num_workers=2", "draws=3"], ["in each of 2 processes"]),
    ],
)  # fmt: skip
def test_estimates_and_writes_nothing(
    words: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write_images(tmp_path / "images")
    before = tree(tmp_path)
    ran = run(*transfer_words(tmp_path, "dry_run=true", *words))
    assert ran.code == 0, ran.err
    for text in ("nothing was written", "time ", "memory ", "disk ", *expected):
        assert text in ran.out, ran.out
    assert tree(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "scratch"]
    left = [path.name for path in scratch.iterdir()]
    assert all(name.startswith("torchinductor") for name in left), left  # torch's own, on import


def test_what_would_stop_the_run_stops_the_dry_run(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "dry_run=true")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").touch()
    ran = run(*words)
    assert ran.code == 2 and "holds no genkt run" in ran.err
    ran = run(*words, f"out={tmp_path / 'other'}", "data.labels_per_class=99")
    assert ran.code == 2 and "per_class=99" in ran.err


def test_a_dry_run_over_a_finished_run_leaves_it(finished: Path) -> None:
    before = tree(finished / "run")
    words = transfer_words(finished, "dry_run=true", "seed=3")
    assert run(*words).code == 2
    assert run(*words, "overwrite=true").code == 0
    assert tree(finished / "run") == before
