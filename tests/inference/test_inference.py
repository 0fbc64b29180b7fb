"""predict and export on a finished run."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import HOSTILE
from refusals import refused
from tiny import picture, run, tree

from genkt.inference.load_classifier import load_classifier, load_student
from genkt.inference.onnx_export import export_onnx


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two good pictures, one in a sub-folder, and a broken one."""
    folder = tmp_path / "some, pictures=x"
    (folder / "deep").mkdir(parents=True)
    picture(0, 1).save(folder / "a=1.png")
    picture(2, 2).convert("L").save(folder / "deep" / "b é.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return folder


def test_tables_csv_and_json_say_the_same(finished: Path, pictures: Path) -> None:
    words = ["predict", str(finished / "run"), str(pictures), "device=cpu"]
    table, as_csv, as_json = run(*words), run(*words, "format=csv"), run(*words, "format=json")
    assert table.code == as_csv.code == as_json.code == 0, table.err
    rows = json.loads(as_json.out)
    assert [Path(row["image"]).name for row in rows] == ["a=1.png", "b é.jpg"]
    read = list(csv.DictReader(io.StringIO(as_csv.out)))
    for row, other, line in zip(rows, read, table.out.splitlines(), strict=True):
        assert row["label"] in HOSTILE
        assert other == {
            "image": row["image"], "label": row["label"], "probability": str(row["probability"]),
        }  # fmt: skip
        assert line.startswith(row["image"]) and row["label"] in line
        assert sum(best["probability"] for best in row["top"]) == pytest.approx(1, abs=1e-4)
    assert "broken.png: left out: " in table.err
    assert "broken" not in table.out + as_csv.out + as_json.out


def test_files_by_name_and_an_output_file(finished: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "answers.csv"
    ran = run(
        "predict", str(finished / "run"), str(pictures / "a=1.png"), f"output={out}", "format=csv",
        "top=1",
    )  # fmt: skip
    assert ran.code == 0 and ran.out.strip() == str(out), ran.err
    assert len(out.read_text().splitlines()) == 2


def test_a_prediction_does_not_depend_on_its_company(finished: Path, pictures: Path) -> None:
    words = ["predict", str(finished / "run"), "format=json", "device=cpu"]
    together = json.loads(run(*words, str(pictures), "batch_size=2").out)
    alone = json.loads(run(*words, str(pictures / "a=1.png")).out)
    assert alone[0]["label"] == together[0]["label"]
    assert alone[0]["probability"] == pytest.approx(together[0]["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "run: required; give run=..."),
        (["RUN"], "images: expected files or folders after the run folder, got none"),
        (["RUN", "/no/such.png", "/nor/this"], "no such file or folder: /no/such.png, /nor/this"),
        (["/no/run", "x.png"], "run /no/run: no such folder"),
        (["IMAGES", "IMAGES"], "expected a folder written by genkt transfer"),
        (["RUN", "IMAGES", "format=xml"], "format: expected one of "),
        (["RUN", "IMAGES", "top=0"], "top: expected a number 1 .. 1000000000, got 0"),
        (["RUN", "BROKEN"], "no readable image in "),
        (["resnet1888", "IMAGES"], "not a timm model. Did you mean resnet18"),
        (["runs/nope", "IMAGES"], 'model "runs/nope": no such folder'),
    ],
)
def test_messages(words: list[str], expected: str, finished: Path) -> None:
    broken = finished / "images" / HOSTILE[0] / "broken.png"
    places = {"RUN": finished / "run", "IMAGES": finished / "images", "BROKEN": broken}
    ran = run("predict", *(str(places.get(word, word)) for word in words))
    assert ran.code == 2 and expected in ran.err and "Traceback" not in ran.err, ran.err


def test_export_equals_torch(finished: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "deep" / "model.onnx"
    ran = run("export", str(finished / "run"), f"output={path}")
    assert ran.code == 0 and "largest difference" in ran.out, ran.err
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(HOSTILE)
    classifier = load_student(finished / "run")
    pixels = classifier.model.transform.to_uint8(picture(1, 5))[None]
    images = classifier.model.normalize(pixels)
    found = session.run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, classifier.model(images).logits.numpy(), atol=1e-4)
    with refused("export", 0):
        export_onnx(classifier, tmp_path / "no.onnx", tolerance=0.0)
    assert not (tmp_path / "no.onnx").exists()


def test_export_without_its_packages(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    before = tree(finished / "run" / "student")
    ran = run("export", str(finished / "run"))
    assert ran.code == 2 and len(ran.lines) == 1
    assert "is not installed; pip install 'genkt[onnx]'" in ran.err
    assert tree(finished / "run" / "student") == before


def test_export_takes_one_run(finished: Path) -> None:
    ran = run("export", str(finished / "run"), "another")
    assert ran.code == 2 and '"another": expected key=value' in ran.err


def test_models_by_folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_run = load_classifier(str(finished / "run"))
    by_folder = load_classifier(str(finished / "run" / "student"))
    assert by_run.classes == by_folder.classes == HOSTILE
    assert by_run.model.fingerprint() == by_folder.model.fingerprint()
    monkeypatch.chdir(finished)
    assert load_classifier("run").classes == HOSTILE
    (tmp_path / "empty").mkdir()
    with refused("run.json"):
        load_student(tmp_path / "empty")


@pytest.mark.parametrize("opset", ["17", "99", "100000000000000000000"])
def test_an_opset_that_cannot_be_written_is_refused(
    opset: str, finished: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    ran = run("export", str(finished / "run"), f"output={path}", f"opset={opset}")
    assert ran.code == 2 and len(ran.lines) == 1 and "opset: expected" in ran.err, ran.err
    assert not path.exists() and not ran.out


def test_the_opset_that_was_asked_for_is_written(finished: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    assert run("export", str(finished / "run"), f"output={path}", "opset=20").code == 0
    assert [each.version for each in onnx.load(path).opset_import if not each.domain] == [20]
    content = path.read_bytes()  # nothing of the code that made it: whoever gets it cannot read it
    assert b"genkt." not in content and b".py" not in content


def test_an_export_sends_and_keeps_nothing_about_the_device(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    ran = subprocess.run(
        [sys.executable, "-m", "genkt", "export", str(finished / "run"),
         f"output={tmp_path / 'model.onnx'}"],
        env={**kept, "HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not [path for path in home.rglob("*") if path.is_file() and "onnxruntime" in str(path)]
