"""What choices go by: ``task.metric``, wherever a run chooses between students or teachers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import run, transfer_words

from genkt.metrics.choice_values import choice_share, choice_values
from genkt.runs.run_images import RunImages
from genkt.stages import cross_validation

WORDS = ("data.validation_fraction=0.4", "train.eval_every=2", "train.select=best")


def test_every_choice_of_a_run_goes_by_the_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[np.ndarray] = []
    values = RunImages.values

    def seen(self: RunImages, found: Any) -> Any:
        assert self.metric == "macro_f1"
        kept = values(self, found)
        rows = found.labels.numpy(), found.probabilities.numpy()
        np.testing.assert_array_equal(kept, choice_values(*rows, "macro_f1"))
        judged.append(kept)
        return kept

    asked: list[list[Any]] = []

    def second(found: list[Any], default: int) -> int:
        asked.append(found)
        return 1

    monkeypatch.setattr(RunImages, "values", seen)
    monkeypatch.setattr(cross_validation, "chosen", second)
    more = ("task.metric=macro_f1", "teacher.adapt=better", "method.beta=search", "method=aft")
    ran = run(*transfer_words(tmp_path, *WORDS, *more))
    assert ran.code == 0, ran.err
    for candidates in asked:  # all that is chosen from was judged by it
        for each in candidates:
            assert any(np.array_equal(each, one) for one in judged)
    assert len(asked) >= 2
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert any("task.metric=macro_f1" in note for note in report["notes"])
    cell = report["cells"][-1]
    kept = np.load(tmp_path / "run" / "draws" / "0" / cell["arm"] / "validation.npy")
    assert cell["extras"]["validation_macro_f1"] == choice_share(kept, "macro_f1")
    assert "validation_accuracy" not in cell["extras"]
    curve = [record for record in cell["curve"] if "validation_macro_f1" in record]
    assert curve and all(0 <= record["validation_macro_f1"] <= 1 for record in curve)
    assert "Validation macro F1" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_what_was_kept_is_told_by_the_metric(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *WORDS, "task.metric=nll"))
    assert ran.code == 0, ran.err
    assert "(likelihood)" in ran.out
    extras = json.loads((tmp_path / "run" / "report.json").read_text())["cells"][-1]["extras"]
    assert 0 < extras["validation_likelihood"] < 1 and 0 < extras["validation.earlier"] < 1


def test_another_metric_is_refused_with_the_choices(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, "task.metric=macro_f2"))
    assert ran.code == 2 and "macro_f1" in ran.err and len(ran.lines) == 1
