"""genkt evaluate: any model on any labelled set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HOSTILE
from refusals import refused
from tiny import picture, run

from genkt.inference.evaluate_model import Evaluation
from genkt.metrics import mean_interval, paired_interval
from genkt.readers.folders import read_folder
from genkt.types import Prediction


def labelled(root: Path, names: tuple[str, ...]) -> Path:
    """A folder with train and test, classes of these names in the colours of HOSTILE."""
    for part in ("train", "test"):
        for name in names:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                label = HOSTILE.index(name) if name in HOSTILE else 0
                picture(label, 50 + number).save(folder / f"{part}{number}.png")
    return root


def test_accuracy_by_class_and_interval(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "facts.json"
    ran = run(
        "evaluate", f"model={finished / 'run'}", "data=folder", f"output={out}",
        f"data.root={finished / 'images'}", "split=train", "device=cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    facts = json.loads(out.read_text())
    right = sum(entry["right"] for entry in facts["by_class"].values())
    assert right / facts["num_images"] == pytest.approx(facts["accuracy"])
    low, high = facts["interval_95"]
    assert 0 <= low <= facts["accuracy"] <= high <= 1
    assert f"on {facts['num_images']} train images: {100 * facts['accuracy']:.1f} %" in ran.out
    assert all(name in ran.out for name in HOSTILE)
    assert any("broken.png" in entry["path"] for entry in facts["skipped"])
    assert "broken.png" in ran.out


def test_images_that_the_run_was_not_tested_on_are_told(finished: Path, tmp_path: Path) -> None:
    """Another seed carves other test images, of which the run may know some."""
    tested = json.loads((finished / "run" / "report.json").read_text())["predictions"]["ids"]
    words = ["evaluate", f"model={finished / 'run'}", "data=folder", "device=cpu"]
    words += [f"data.root={finished / 'images'}", f"output={tmp_path / 'facts.json'}"]
    assert "may have been trained on" not in run(*words).out
    ran = run(*words, "seed=1")
    facts = json.loads((tmp_path / "facts.json").read_text())
    (note,) = [note for note in facts["notes"] if "may have been trained on" in note]
    assert note in ran.out and facts["num_images"] == len(tested)
    images = carved_ids(finished / "images", seed=1)
    others = len(set(images) - set(tested))
    assert 0 < others < len(images) and note.startswith(f"{others} of these {len(images)} images")


@pytest.mark.parametrize("content", ["{", "[]", '{"predictions": {"ids": [3]}}'])
def test_a_damaged_report_does_not_stop_an_evaluation(
    content: str, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "run" / "student", tmp_path / "model")
    (tmp_path / "model" / "report.json").write_text(content)
    words = ["evaluate", f"model={tmp_path / 'model'}", "data=folder", "device=cpu"]
    ran = run(*words, f"data.root={finished / 'images'}")
    assert ran.code == 0 and "not known which images the run was tested on" in ran.out


def carved_ids(root: Path, seed: int) -> tuple[str, ...]:
    test = read_folder(root, test_fraction=0.2, seed=seed).test
    assert test is not None
    return test.ids


def test_fewer_classes_in_another_order(finished: Path, tmp_path: Path) -> None:
    """The model's own class numbers count, not the folder's."""
    names = (HOSTILE[2], HOSTILE[0])
    root = labelled(tmp_path / "data", names)
    out = tmp_path / "facts.json"
    words = ["evaluate", f"model={finished / 'run'}", "data=folder", f"data.root={root}"]
    ran = run(*words, f"output={out}", "device=cpu")
    assert ran.code == 0, ran.err
    facts = json.loads(out.read_text())
    assert set(facts["by_class"]) == set(names)
    predicted = run("predict", str(finished / "run"), str(root / "test"), "format=json")
    rows = json.loads(predicted.out)
    right = [Path(row["image"]).parent.name == row["label"] for row in rows]
    assert facts["accuracy"] == pytest.approx(sum(right) / len(right))


def test_classes_the_model_does_not_know(finished: Path, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", (HOSTILE[0], "zebra"))
    ran = run("evaluate", f"model={finished / 'run'}", "data=folder", f"data.root={root}")
    assert ran.code == 2 and "does not know the classes zebra" in ran.err


def test_messages(finished: Path) -> None:
    images = f"data.root={finished / 'images'}"
    words = ["evaluate", f"model={finished / 'run'}", "data=folder", images]
    ran = run(*words, "data.validation_fraction=0", "split=validation")
    assert ran.code == 2 and 'split "validation": not in this data; expected one of' in ran.err
    ran = run(*words, "split=tset")
    assert ran.code == 2 and "split: expected one of test, " in ran.err
    ran = run("evaluate", "model=/no/run", "split=tset", "data=foldr")
    assert ran.code == 2 and len(ran.lines) == 2


def test_the_figures_of_a_known_prediction() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    prediction = Prediction(tuple("abcd"), torch.tensor([0, 1, 1, 1]), probabilities)
    found = Evaluation("m", "test", ("x", "y"), prediction)
    assert found.accuracy == 0.75
    assert found.by_class() == {"x": (1, 1), "y": (2, 3)}
    assert found.metrics.by_class.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2)
    interval = found.interval()
    assert repr(interval) == repr(mean_interval([[1, 1, 0, 1]]))
    assert "of this model alone" in found.text()
    grouped = replace(found, groups=("a", "a", "b", "b"))
    assert repr(grouped.interval()) == repr(
        mean_interval([[1, 1, 0, 1]], groups=["a", "a", "b", "b"])
    )
    assert "over 2 groups of images" in grouped.text() and "groups" not in found.text()
    assert replace(found, groups=("a",) * 4).as_dict()["interval_95"] is None


def test_the_other_figures_of_a_known_prediction() -> None:
    labels, sure = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0.9, 0.8, 0.4, 0.6, 0.2])
    probabilities = torch.stack([sure, 1 - sure], dim=1)
    found = Evaluation("m", "test", ("x", "y"), Prediction(tuple("abcde"), labels, probabilities))
    facts = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert facts["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert facts["auroc"] == pytest.approx(5 / 6)  # five of the six pairs are in order
    assert facts["nll"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.4, 0.8]).mean())
    assert facts["by_class"]["y"] == {
        "right": 1, "images": 2, "predicted": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5,
    }  # fmt: skip
    assert facts["majority"]["class"] == "x" and facts["majority"]["accuracy"] == 0.6
    assert facts["intervals_95"].keys() == {
        "accuracy", "nll", "balanced_accuracy", "macro_f1", "auroc",
    }  # fmt: skip
    for name, (low, high) in facts["intervals_95"].items():
        assert low < facts[name] < high
    assert sum(facts["reliability"]["count"]) == 5
    text = found.text()
    assert 'always the most common class, "x": 60.0 %' in text
    assert "50.0 %  (1 of 2), precision  50.0 % of 2 answers" in text
    never = replace(
        found, prediction=replace(found.prediction, probabilities=torch.eye(2)[[0] * 5])
    )
    assert never.as_dict()["by_class"]["y"]["precision"] is None
    assert "0.0 %  (0 of 2), precision never predicted" in never.text()


def test_two_models_on_the_same_images() -> None:
    labels = torch.tensor([0, 1] * 20)
    one, two = (
        Evaluation("m", "test", ("x", "y"), Prediction(tuple(map(str, range(40))), labels, rows))
        for rows in (torch.eye(2)[labels], torch.eye(2)[torch.zeros(40, dtype=torch.int64)])
    )
    expected = paired_interval([np.ones(40)], [(labels == 0).numpy()])
    assert repr(one.minus(two)) == repr(expected)
    assert expected.design.draws == 1 and expected.mean == 0.5
    fewer = replace(two, prediction=Prediction(("a",), labels[:1], torch.eye(2)[labels[:1]]))
    with refused("evaluations", 40):
        one.minus(fewer)


def test_another_file_in_the_place_of_the_report_is_not_believed(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text('{"predictions": {"ids": []}}')
    words = ("data=folder", f"data.root={finished / 'images'}", "device=cpu")
    ran = run("evaluate", f"model={tmp_path / 'run'}", *words)
    assert ran.code == 0, ran.err
    assert "report.json: damaged, so it is not known which images the run was tested on" in ran.out
