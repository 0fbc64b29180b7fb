"""genkt analyze: what it refuses, in one line each, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from analyze_cases import TEACHER, exported
from tiny import CLASSES, run, write_images


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "models: required; give models=..."),
        (["models=[]"], "models: expected one or more, got an empty list"),
        ([f"models=[{TEACHER},{TEACHER}]"], "expected models that differ, got genkt:digits_teach"),
        (["models=[genkt:digit_teacher]"], 'models: model "genkt:digit_teacher": not shipped'),
        (["models=[resnet1888]"], "not a timm model. Did you mean resnet18"),
        (["models=[no/where]"], 'model "no/where": no such folder; a hub name is written hf-hub'),
        ([f"models=[{TEACHER}]", "split=validatoin"], "split: expected one of validation, "),
        ([f"models=[{TEACHER}]", "transfer.before=x"], "transfer.after: expected a model too"),
        (
            [f"models=[{TEACHER}]", "similarity.by=genkt:digit_teacher"],
            "similarity.by: expected one of models, got genkt:digit_teacher. Did you mean genkt:d",
        ),
        ([f"models=[{TEACHER}]", "similarity.by=x"], f"got x. It is one of {TEACHER}."),
        (
            [f"models=[{TEACHER}]", "similarity.by=open_clip:ViT-B-33"],
            "similarity.by: encoder open_clip:ViT-B-33: no model of open_clip. Did you mean",
        ),
        (
            [f"models=[{TEACHER}]", "similarity.by=open_clip:ViT-B-32"],
            "expected similarity.weights, a file or one of its tags",
        ),
        ([f"models=[{TEACHER}]", "text.templates=[x]"], "text.templates: expected texts with one"),
        ([f"models=[{TEACHER}]", "top_percent=[101]"], "top_percent[0]: expected a number 0 .. 10"),
        ([f"models=[{TEACHER}]", "other=/no/where"], "other: /no/where: does not exist"),
        ([f"models=[{TEACHER}]", "answer=all"], "answer: unknown setting. Did you mean answers"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    ran = run("analyze", *words, f"out={tmp_path / 'out'}")
    assert ran.code == 2 and len(ran.lines) == len(ran.err.splitlines()) == 1, ran.err
    assert message in ran.err and not (tmp_path / "out").exists()


def test_mistakes_come_together(tmp_path: Path) -> None:
    ran = run("analyze", "models=[resnet1888,no/where]", f"out={tmp_path / 'out'}")
    assert ran.code == 2 and len(ran.lines) == 2
    three = "transfer={before: a, after: b, teacher: c}"
    ran = run("analyze", f"models=[{TEACHER}]", three)
    assert ran.code == 2 and len(ran.lines) == 3 and "transfer.teacher: expected one" in ran.err


def test_a_student_without_a_head_for_the_task_cannot_be_followed(tmp_path: Path) -> None:
    exported(tmp_path / "backbone", (), 1, num_classes=7)
    ran = run(
        "analyze", f"models=[{tmp_path / 'backbone'},{TEACHER}]", "transfer.before=backbone",
        f"transfer.after={TEACHER}", f"transfer.teacher={TEACHER}", "probe_on=labelled",
        f"out={tmp_path / 'out'}",
    )  # fmt: skip
    assert ran.code == 2 and len(ran.lines) == 1
    assert "transfer: expected classifiers of these classes; " in ran.err


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    folder = exported(tmp_path / "broken", CLASSES, 0)
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["conv1.weight"][0], state["bn1.weight"][0] = -1e20, 1e30  # dark pictures overflow
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    words = [f"models=[{folder}]", "data=folder", f"data.root={tmp_path / 'images'}"]
    ran = run("analyze", *words, f"out={tmp_path / 'out'}")
    assert ran.code == 2 and len(ran.lines) == 1, ran.err
    assert "expected finite outputs" in ran.err and ".png" in ran.err
    assert not (tmp_path / "out").exists()
