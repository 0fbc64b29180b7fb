"""The code that a run prints: run as printed, it answers as ``genkt predict`` does."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import ExifTags, Image
from refusals import refused
from tiny import picture, run

import genkt
from genkt.inference.snippets import IMAGE, preprocessing
from genkt.inference.student_card import HERE


def turned() -> tuple[Image.Image, dict[str, object]]:
    image = picture(0, 3)
    image.paste("white", (0, 0, 20, 6))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return image, {"exif": exif, "quality": 95}


def deep_grey() -> tuple[Image.Image, dict[str, object]]:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    return Image.fromarray(ramp), {}


def see_through() -> tuple[Image.Image, dict[str, object]]:
    image = picture(1, 1).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image, {}


KINDS: dict[str, Callable[[], tuple[Image.Image, dict[str, object]]]] = {
    "turned.jpg": turned, "deep.png": deep_grey, "see-through.png": see_through,
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict]:
    """What ``genkt predict`` says of a picture of every kind, by its path."""
    folder = tmp_path_factory.mktemp("odd \"pictures'")
    for name, make in KINDS.items():
        image, options = make()
        image.save(folder / name, **options)
    ran = run("predict", str(finished / "run"), str(folder), "format=json", "device=cpu", "top=3")
    assert ran.code == 0, ran.err
    return {Path(row["image"]): row for row in json.loads(ran.out)}


def printed_by(code: str, image: Path) -> tuple[str, float]:
    """The label and the probability that a snippet prints of a picture."""
    assert repr(IMAGE) in code
    out = io.StringIO()
    with redirect_stdout(out):
        exec(code.replace(repr(IMAGE), repr(str(image))), {})
    label, _, probability = out.getvalue().strip().rpartition(" ")
    return label, float(probability)


@pytest.mark.parametrize("name", KINDS)
def test_the_printed_snippet_answers_as_predict_does(
    name: str, answers: dict[Path, dict], finished: Path
) -> None:
    code = json.loads((finished / "run" / "report.json").read_text())["snippet"]
    path, row = next((path, row) for path, row in answers.items() if path.name == name)
    label, probability = printed_by(code, path)
    assert label == row["label"]
    assert probability == pytest.approx(row["probability"], abs=1e-5)
    # ... which matters: what timm's own lines made of the file gave another answer.
    model = timm.create_model(f"local-dir:{finished / 'run' / 'student'}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    with torch.no_grad(), Image.open(path) as image:
        plain = model(transform(image.convert("RGB"))[None]).softmax(dim=1)[0]
    best = {each["label"]: each["probability"] for each in row["top"]}
    found = {
        each: float(plain[place]) for place, each in enumerate(model.pretrained_cfg["label_names"])
    }
    assert max(abs(found[each] - best[each]) for each in best) > 1e-4


def test_evaluate_answers_alike(answers: dict[Path, dict], finished: Path, tmp_path: Path) -> None:
    classes = json.loads((finished / "run" / "report.json").read_text())["classes"]
    for path in answers:
        for part in ("train", "test"):
            for name in classes:
                (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
                marked = path.read_bytes() + f"{part} {name}".encode()  # no copies of each other
                (tmp_path / part / name / path.name).write_bytes(marked)
    found = genkt.evaluate(
        finished / "run", data={"name": "folder", "root": str(tmp_path)}, device="cpu"
    )
    names = found.classes
    assert len(found.prediction.ids) == len(classes) * len(answers)
    rows = zip(found.prediction.ids, found.prediction.probabilities, strict=True)
    expected = {path.name: row for path, row in answers.items()}
    for sample_id, probabilities in rows:
        row = expected[Path(sample_id.rpartition("#")[0]).name]
        assert names[int(probabilities.argmax())] == row["label"]
        assert float(probabilities.max()) == pytest.approx(row["probability"], abs=1e-5)


def test_every_place_holds_the_same_code(finished: Path) -> None:
    report = json.loads((finished / "run" / "report.json").read_text())
    page = html.unescape((finished / "run" / "report.html").read_text())
    assert report["snippet"].splitlines()[1] in page
    card = (finished / "run" / "student" / "README.md").read_text()
    (sure,) = (each["text"] for each in report["scope"] if each["title"] == "How sure")
    assert f"{report['headline']} {sure}" in card
    blocks = re.findall(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
    code = "\n\n".join(blocks).replace(HERE, str(finished / "run" / "student"))
    assert code == report["snippet"]
    assert preprocessing(genkt.load_classifier(finished / "run").model.transform) in card


def test_onnx_by_the_printed_lines(
    answers: dict[Path, dict], finished: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / 'a "model".onnx'
    ran = run("export", str(finished / "run"), f"output={out}")
    assert ran.code == 0, ran.err
    code = ran.out[ran.out.index("import genkt") :]
    for path, row in answers.items():
        space: dict[str, np.ndarray] = {}
        exec(code.replace(repr(IMAGE), repr(str(path))), space)
        shares = torch.from_numpy(space["logits"])[0].softmax(dim=0)
        assert float(shares.max()) == pytest.approx(row["probability"], abs=1e-4)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    transform = genkt.load_classifier(finished / "run").model.transform
    assert json.loads(facts["preprocessing"]) == preprocessing(transform)


def test_pictures_in_every_form_are_one(answers: dict[Path, dict], finished: Path) -> None:
    student = genkt.load_classifier(finished / "run")
    path = next(path for path in answers if path.name == "turned.jpg")
    with Image.open(path) as image:
        found = student.predict([path, str(path), path.read_bytes(), image], batch_size=3)
        alone = student.predict(image)
    assert [answer.label for answer in found] == [answers[path]["label"]] * 4
    for answer in found:
        assert torch.allclose(answer.probabilities, alone[0].probabilities, atol=1e-6)
    with refused("missing.png", kind=genkt.UserError):
        student.predict(["missing.png"])
