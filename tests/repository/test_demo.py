"""The demo on a reduced budget: shipped teacher and generator, real digits, and a real gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genkt.cli.main import main
from genkt.io import read_json


def test_the_demo_teaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["transfer", "experiment=quick", "draws=1", "cache=cache", "device=cpu"]
    words += ["train.steps=60", "finetune.steps=20"]
    assert main(words) == 0
    report = read_json("runs/transfer/report.json")
    accuracy = accuracies(report)
    teacher = next(model for model in report["models"] if model["role"] == "teacher")
    assert teacher["accuracy"] > 0.85  # a teacher that is lost or mislabelled is near 0.1
    assert accuracy["stl"] > 0.5
    assert accuracy["logit_kd"] > 0.5
    printed = capsys.readouterr().out
    assert "runs/transfer/report.html" in printed
    page = (tmp_path / "runs/transfer/report.html").read_text(encoding="utf-8")
    assert "1,000" in page and "synthesized" in page
    assert (tmp_path / "runs/transfer/transfer_sets/0/contact_sheet.html").is_file()
    own = ["transfer_set=unlabelled", "baseline=false", "out=runs/unlabelled"]
    assert main([*words, *own]) == 0  # so few steps are enough with the real images
    gained = accuracies(read_json("runs/unlabelled/report.json"))["logit_kd"]
    assert gained > accuracy["stl"] + 0.02


def accuracies(report: dict[str, Any]) -> dict[str, float]:
    return {cell["arm"]: cell["accuracy"] for cell in report["cells"]}
