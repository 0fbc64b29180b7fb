"""The demo on a reduced budget: shipped teacher, real digits, both arms, and a real gain."""

from __future__ import annotations

from pathlib import Path

import pytest

from genkt.cli.main import main
from genkt.io import read_json


def test_the_demo_teaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["transfer", "experiment=quick", "draws=1", "cache=cache", "device=cpu"]
    assert main(words) == 0
    report = read_json("runs/transfer/report.json")
    accuracy = {cell["arm"]: cell["accuracy"] for cell in report["cells"]}
    teacher = next(model for model in report["models"] if model["role"] == "teacher")
    assert teacher["accuracy"] > 0.85  # a teacher that is lost or mislabelled is near 0.1
    assert accuracy["stl"] > 0.5
    assert accuracy["logit_kd"] > accuracy["stl"]
    printed = capsys.readouterr().out
    assert "runs/transfer/report.html" in printed
    assert "880" in (tmp_path / "runs/transfer/report.html").read_text(encoding="utf-8")
