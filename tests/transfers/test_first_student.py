"""The first student of a run can be used while the run goes on, and after it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import run, transfer_words, tree

from genkt.transfers import run_transfer
from genkt.transfers.export_student import export_student

STUDENT = "student/model.safetensors"
MORE = ("draws=2", "validation=none")


class Stopped(BaseException):
    """A kill at a certain place."""


def stop_at(monkeypatch: pytest.MonkeyPatch, draw: int, arm: str) -> None:
    """The process ends where this student would be trained."""
    train = run_transfer.train_student

    def stopped(opened: object, one: object, name: str) -> object:
        if (one.index, name) == (draw, arm):  # type: ignore[attr-defined]
            raise Stopped
        return train(opened, one, name)  # type: ignore[arg-type]

    monkeypatch.setattr(run_transfer, "train_student", stopped)


def stopped_run(monkeypatch: pytest.MonkeyPatch, home: Path, draw: int, arm: str) -> list[str]:
    """A run that was killed; the words to continue it."""
    words = transfer_words(home, *MORE)
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        stop_at(patched, draw, arm)
        run(*words)
    return words


def test_the_methods_first_student_is_there_before_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = stopped_run(monkeypatch, tmp_path, 0, "stl")
    files = tree(tmp_path / "run")
    own = files["draws/0/logit_kd/finetune/last.safetensors"]
    assert files["checkpoints/last.safetensors"] == own
    assert "report.json" not in files and "draws/0/stl/result.json" not in files
    assert "has not finished" in files["student/README.md"].decode()
    caplog.clear()
    pictures = str(tmp_path / "images")
    answers = run("predict", str(tmp_path / "run"), pictures)
    assert answers.code == 0 and "has not finished" in caplog.text
    assert run("export", str(tmp_path / "run"), f"output={tmp_path / 'x.onnx'}").code == 0
    assert run(*words).code == 0
    assert tree(tmp_path / "run")[STUDENT] == files[STUDENT]  # nothing compared the students
    caplog.clear()
    assert run("predict", str(tmp_path / "run"), pictures).out == answers.out
    assert "has not finished" not in caplog.text


def test_the_student_that_is_best_on_validation_takes_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_transfer, "_best", lambda students: 1)
    assert run(*transfer_words(tmp_path, "draws=2")).code == 0
    files = tree(tmp_path / "run")
    assert (
        files["checkpoints/last.safetensors"] == files["draws/1/logit_kd/finetune/last.safetensors"]
    )
    assert "has not finished" not in files["student/README.md"].decode()
    assert not (tmp_path / "run" / "student.new").exists()


def test_a_kill_between_the_two_leaves_no_student_that_is_half_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = transfer_words(tmp_path, "draws=2")

    def killed(*given: object) -> None:
        export_student(*given)  # type: ignore[arg-type]
        raise Stopped

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(run_transfer, "_best", lambda students: 1)
        patched.setattr(run_transfer, "export_student", killed)
        run(*words)
    assert run("predict", str(tmp_path / "run"), str(tmp_path / "images")).code == 2
    monkeypatch.setattr(run_transfer, "_best", lambda students: 0)
    assert run(*words).code == 0
    files = tree(tmp_path / "run")
    assert (
        files["checkpoints/last.safetensors"] == files["draws/0/logit_kd/finetune/last.safetensors"]
    )


def test_a_damaged_first_student_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = stopped_run(monkeypatch, tmp_path, 1, "logit_kd")
    path = tmp_path / "run" / STUDENT
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = run("predict", str(tmp_path / "run"), str(tmp_path / "images"))
    assert refused.code == 2 and STUDENT in refused.err
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        stop_at(patched, 1, "logit_kd")
        run(*words)
    assert path.read_bytes() == whole
