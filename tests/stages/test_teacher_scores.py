"""How teachers did on the test images: by their own head, a probe, or fine-tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analyze_cases import exported
from numpy.typing import NDArray
from refusals import refused
from stage_cases import last_wins
from tiny import CLASSES, run, transfer_words, write_images

import genkt
from genkt.data.builtin.digits import digits
from genkt.files import read_tensors
from genkt.models.load import ModelSpec, load_model
from genkt.runs.scores import TEACHER_SCORES, read_teacher_scores, write_teacher_scores
from genkt.stages import prepare_teachers
from genkt.stages.teacher_scores import knows_classes, own_head_scores, scores_of
from genkt.types import DamagedError, TeacherScores


def scores(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_scores_of_logits() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert scores_of(logits, np.array([1, 1, 1])).tolist() == [1, 0, 1]


def test_a_head_answers_among_all_classes_that_it_knows() -> None:
    model, images = load_model(ModelSpec("genkt:digits_teacher")), digits().test
    assert images is not None and knows_classes(model, images) and model.num_classes > 10
    few = images.select(range(3))
    logits = torch.full((3, model.num_classes), -1.0)
    places = [model.class_names.index(few.classes[label]) for label in few.labels.tolist()]
    logits[range(3), places] = 0.0
    logits[2, model.num_classes - 1] = 1.0  # another class than a digit
    assert own_head_scores(model, logits, few).tolist() == [1, 1, 0]
    assert not knows_classes(load_model(ModelSpec("resnet18", pretrained=False)), few)


def test_scores_are_kept_and_read_back(tmp_path: Path) -> None:
    kept = (TeacherScores(), TeacherScores(taught=scores(1, 0), own=scores(0, 0)))
    assert write_teacher_scores(tmp_path, kept)
    first, second = read_teacher_scores(tmp_path)
    assert first == TeacherScores() and second.probe is None
    assert second.taught is not None and second.taught.tolist() == [1, 0]
    assert second.own is not None and second.own.dtype == np.float32
    assert not write_teacher_scores(tmp_path / "none", [TeacherScores()])
    assert read_teacher_scores(tmp_path / "none") == ()
    (tmp_path / TEACHER_SCORES).write_bytes(b"no")
    with refused(kind=DamagedError):
        read_teacher_scores(tmp_path)


def student(home: Path) -> tuple[dict[str, list[float]], dict[str, Any], list[Any]]:
    """Scores of the teachers of the first student, its extras, and the arms of the report."""
    folder = home / "run" / "draws" / "0" / "logit_kd"
    kept = {
        key: found.tolist()
        for key, found in (
            read_tensors(folder / TEACHER_SCORES).items()
            if (folder / TEACHER_SCORES).is_file()
            else ()
        )
    }
    result = json.loads((folder / "result.json").read_text())["result"]
    return kept, result["extras"], json.loads((home / "run" / "report.json").read_text())["arms"]


def test_a_probe_teaches_and_its_own_head_is_told_apart(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    teacher = exported(tmp_path / "teacher", CLASSES[::-1], seed=1)
    words = [word for word in transfer_words(tmp_path) if not word.startswith("teacher")]
    ran = run(*words, f"teacher=local-dir:{teacher}")
    assert ran.code == 0, ran.err
    kept, extras, arms = student(tmp_path)
    assert set(kept) == {"0.taught", "0.probe", "0.own"} and kept["0.probe"] == kept["0.taught"]
    assert np.mean(kept["0.taught"]) == pytest.approx(extras["teacher_accuracy.0"], abs=1e-12)
    found = genkt.evaluate(
        str(teacher), data={"name": "folder", "root": str(tmp_path / "images")}, device="cpu"
    )
    assert kept["0.own"] == found.prediction.scores.tolist()
    names = {arm["arm"]: arm for arm in arms if arm["role"] == "teacher"}
    assert set(names) == {"teacher0", "teacher0_own_head"}
    assert names["teacher0"]["name"] == "Teacher's linear probe"
    mean = names["teacher0"]["accuracy"]["mean_percent"]
    assert mean == pytest.approx(100 * np.mean(kept["0.taught"]))
    assert "Teacher's linear probe" in ran.out


@pytest.mark.parametrize(
    ("words", "kinds", "names"),
    [
        (["teacher.adapt=fine_tune"], {"0.taught"}, ["Teacher"]),
        (
            ["teacher.adapt=better", "data.validation_fraction=0.3"],
            {"0.taught", "0.probe"},
            ["Teacher", "Teacher's linear probe"],
        ),
    ],
)
def test_a_fine_tuned_teacher_is_an_arm(
    words: list[str], kinds: set[str], names: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(prepare_teachers, "choose", last_wins)
    ran = run(*transfer_words(tmp_path, *words))
    assert ran.code == 0, ran.err
    kept, extras, arms = student(tmp_path)
    assert set(kept) == kinds and extras["teacher_adapted.0"] == "fine_tune"
    assert np.mean(kept["0.taught"]) == pytest.approx(extras["teacher_accuracy.0"], abs=1e-12)
    assert [arm["name"] for arm in arms if arm["role"] == "teacher"] == names


def test_a_teacher_of_other_classes_without_a_probe_is_no_arm_and_that_is_said(
    tmp_path: Path,
) -> None:
    words = transfer_words(tmp_path, "method=feature_kd", "method.beta=1", "teacher.adapt=none")
    ran = run(*words)
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert not [arm for arm in report["arms"] if arm["role"] == "teacher"]
    assert any("it is no arm here" in note for note in report["notes"])
    assert not list((tmp_path / "run").rglob(TEACHER_SCORES))
