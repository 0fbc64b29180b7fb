"""genkt analyze: end to end, its numbers against those of other commands, its page, its faults."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analyze_cases import TEACHER, exported
from chromium import PROGRAM
from chromium import Page as Browser
from conftest import HOSTILE
from package_cases import brought, write_fashion, write_stamps
from test_retrieve_runs import tiny_clip
from tiny import CLASSES, Ran, run, transfer_words, write_images

import genkt
from genkt.config.analysis_settings import AnalyzeConfig, short_names
from genkt.config.read_config import read_config
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.inference.load_classifier import load_classifier
from genkt.retrieval import clip
from genkt.settings.words import Words
from genkt.training.predictions import outputs
from genkt.training.probe import fit_head

KEYS = {
    "schema", "schema_version", "title", "headline", "split", "num_images", "answers", "num_train",
    "probe_on", "classes", "class_sizes", "models", "classifiers", "logme_ranking", "any_right",
    "flips", "pairs", "class_similarity", "transfer", "weighted_features", "frechet", "kl",
    "top1_agreement", "cka", "notes", "skipped", "command", "versions", "config",
}  # fmt: skip


class Texts(HTMLParser):
    """What a page says, and the tags that it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def analyzed(out: Path, *words: str) -> tuple[Ran, dict[str, Any]]:
    ran = run("analyze", *words, f"out={out}", "device=cpu")
    assert ran.code == 0, ran.err

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return ran, json.loads((out / "analyze.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped teacher beside two tiny networks, one of them without a head for digits."""
    home = tmp_path_factory.mktemp("analysis")
    exported(home / "tiny", tuple("9876543210"), 0)
    exported(home / "backbone", (), 1, num_classes=7)
    write_images(home / "others", per_class=4)
    ran, _ = analyzed(
        home / "out", f"models=[{TEACHER},{home / 'tiny'},local-dir:{home / 'backbone'}]",
        "data=digits", "probe_on=labelled", f"other={home / 'others'}", "transfer.before=tiny",
        f"transfer.after={TEACHER}", f"transfer.teacher={TEACHER}",
    )  # fmt: skip
    (home / "printed").write_text(ran.out, encoding="utf-8")
    return home


def found_in(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "out" / "analyze.json").read_text())
    return found


def test_every_key_and_every_matrix_is_there(digits: Path) -> None:
    found = found_in(digits)
    assert found.keys() == KEYS and found["schema"] == "genkt.analyze"
    assert [model["title"] for model in found["models"]] == [TEACHER, "tiny", "backbone"]
    assert found["classifiers"] == [TEACHER, str(digits / "tiny")]
    for name, size in (("flips", 2), ("kl", 2), ("top1_agreement", 2), ("cka", 3)):
        assert np.array(found[name]).shape == (size, size), name
    assert (found["num_images"], found["num_train"], sum(found["class_sizes"])) == (797, 20, 797)
    assert found["frechet"] == {"num_images": 12, "other": str(digits / "others")}
    assert all(model["frechet_train"] > 0 < model["frechet_other"] for model in found["models"])
    assert found["notes"] == [
        f"local-dir:{digits / 'backbone'}: features alone, as its head is not for these classes "
        f"(model local-dir:{digits / 'backbone'}: has 7 classes, the data 10)"
    ]
    assert set(found["logme_ranking"]) == {model["model"] for model in found["models"]}
    assert found["logme_ranking"][0] == TEACHER


def test_accuracies_are_those_of_evaluate_and_flips_their_difference(digits: Path) -> None:
    """The tiny network numbers the classes the other way round."""
    found = found_in(digits)
    for model in found["models"][:2]:
        told = genkt.evaluate(model["model"], data="digits", device="cpu")
        assert model["accuracy"]["value"] == pytest.approx(told.accuracy, abs=1e-12)
        interval = told.interval()
        assert interval is not None
        assert model["accuracy"]["interval_95"] == [interval.low, interval.high]
        by_class = {name: right for name, (right, _) in told.by_class().items()}
        assert model["right_by_class"] == [by_class[name] for name in found["classes"]]
    two = genkt.evaluate(
        [each["model"] for each in found["models"][:2]], data="digits", device="cpu"
    )
    difference = two[1].minus(two[0])
    (pair,) = (each for each in found["pairs"] if each["student"] == found["models"][0]["model"])
    assert pair["difference"]["low_points"] == 100 * difference.low
    assert pair["difference"]["mean_points"] == pytest.approx(100 * difference.mean)
    first, second = (model["accuracy"]["value"] for model in found["models"][:2])
    flips = found["flips"]
    assert flips[0][1] - flips[1][0] == pytest.approx(second - first, abs=1e-12)
    assert found["any_right"]["value"] == pytest.approx(first + flips[0][1])
    for pair in found["pairs"]:
        assert sum(pair["by_class"]) == round(pair["positive_flips"] * 797)
        assert 0 <= pair["entropy"] <= math.log(10)


def test_features_are_probed_and_ranked_as_by_hand(digits: Path) -> None:
    from genkt.data.builtin.digits import digits as read_digits
    from genkt.data.splits import draw_labels
    from genkt.io import derive_seed
    from genkt.metrics.frechet import equal_sizes, frechet_distance
    from genkt.metrics.logme import logme

    splits = read_digits()
    assert splits.test is not None
    rows, _ = draw_labels(splits.train, per_class=2, seed=derive_seed(0, "draw", 0))
    model = load_classifier(str(digits / "backbone")).model
    train, test = (
        outputs(model, ViewDataset(images, FIXED_VIEW, [model.transform])).features
        for images in (splits.train.select(rows), splits.test)
    )
    labels = splits.train.labels[rows]
    told = found_in(digits)["models"][2]
    right = fit_head(train, labels, 10, 1)(test).argmax(1).numpy() == splits.test.labels
    assert told["linear_probe"]["num_right"] == right.sum()
    assert told["logme"] == pytest.approx(logme(train, torch.from_numpy(labels), 10).evidence)
    near, far, _ = equal_sizes([test, train, train[:12]], 0)
    assert told["frechet_train"] == pytest.approx(frechet_distance(near, far), rel=1e-6)


def test_the_triple(digits: Path) -> None:
    """The teacher itself as the student after: all of what it offers is taken over."""
    found = found_in(digits)["transfer"]
    assert found["transfer_rate"] == 1 and (found["before"], found["after"]) == ("tiny", TEACHER)
    assert {top["transfer_rate"] for top in found["top_classes"]} == {1.0}
    delta = found["gain_points"] - found["loss_points"]
    assert found["transfer_delta_points"] == pytest.approx(delta)
    assert sum(each["offered"] for each in found["by_class"].values()) == round(
        found["gain_points"] * 7.97
    )


def test_what_is_printed_and_the_page(digits: Path) -> None:
    printed = (digits / "printed").read_text(encoding="utf-8")
    found = found_in(digits)
    for expected in (found["headline"], f"{TEACHER} → tiny", "LogME", "CKA", "12 images a side",
                     "note: local-dir:", "20 labelled training images", "100 %", "analyze.html",
                     f"{100 * found['models'][0]['accuracy']['value']:.1f}"):  # fmt: skip
        assert expected in printed, expected
    text = (digits / "out" / "analyze.html").read_text(encoding="utf-8")
    page = Texts(text)
    assert "script" not in page.tags and "link" not in page.tags and "url(" not in text
    assert "http" not in text.replace("http-equiv", "")
    for expected in ("Complementary knowledge", "Areas of expertise", "Transfer", "Agreement",
                     "genkt analyze 'models=", "As teachers", "Settings"):  # fmt: skip
        assert expected in page.words, expected
    assert "Weighted" not in page.words


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_the_page_opens(digits: Path, tmp_path: Path) -> None:
    with Browser(digits / "out" / "analyze.html", tmp_path) as page:
        assert page.value("document.querySelectorAll('svg').length") == 6
        assert page.value("document.title") == "digits · genkt analyze"
        width = page.value("document.documentElement.scrollWidth - window.innerWidth")
        assert width <= 0 and page.messages() == []


@pytest.fixture(scope="module")
def aft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of AFT on a folder of images, its teacher in a file."""
    home = tmp_path_factory.mktemp("aft")
    exported(home / "teacher", (), 3, num_classes=5)
    words = [word for word in transfer_words(home) if not word.startswith("teacher")]
    teacher = f"teacher=local-dir:{home / 'teacher'}"
    ran = run(*words, teacher, "method=aft", "method.beta=1", "draws=2", "method.mu_lr=1")
    assert ran.code == 0, ran.err
    return home


def test_weighted_features_of_a_run_of_aft(aft: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    data = ["data=folder", f"data.root={aft / 'images'}"]
    models = f"models=[{aft / 'run'},local-dir:{aft / 'teacher'}]"
    ran, found = analyzed(tmp_path / "out", models, *data)
    (probe,) = found["weighted_features"]
    assert (probe["run"], probe["feature_width"]) == ("run", 16) and not found["transfer"]
    assert probe["linear_probe"] == found["models"][1]["linear_probe"]  # the same psi
    assert len(probe["weighted_linear_probe"]) == 2
    assert "teacher features in" in ran.out and "aft" not in found["notes"]
    assert "Weighted teacher features" in (tmp_path / "out" / "analyze.html").read_text()
    result = genkt.analyze(
        [aft / "run"], data={"name": "folder", "root": aft / "images"}, out=None, device="cpu"
    )
    assert result.out is None and [len(p.weighted) for p in result.data.weighted] == [2]
    saved = load_file(aft / "run" / "draws" / "0" / "aft" / "artifacts.safetensors")
    assert not torch.allclose(saved["weights.0"], torch.tensor(0.5))
    splits = genkt.read_folder(aft / "images", validation_fraction=0.1, test_fraction=0.2)
    model = load_classifier(f"local-dir:{aft / 'teacher'}").model
    assert splits.test is not None
    train, test = (
        outputs(model, ViewDataset(images, FIXED_VIEW, [model.transform])).features
        for images in (splits.train, splits.test)
    )
    head = fit_head(train * saved["weights.0"], splits.train.labels, 3, 1)
    right = head(test * saved["weights.0"]).argmax(1).numpy() == splits.test.labels
    assert probe["weighted_linear_probe"][0]["num_right"] == right.sum()


def test_runs_whose_weighted_features_cannot_be_made_say_why(aft: Path, tmp_path: Path) -> None:
    data = ["data=folder", f"data.root={aft / 'images'}", f"models=[{aft / 'run'}]"]
    facts = aft / "run" / "run.json"
    kept = facts.read_text()
    try:
        changed = {key: value for key, value in json.loads(kept).items() if key != "digest"}
        changed["inputs"]["teacher 0"] = "x"
        facts.write_text(json.dumps(changed))
        _, found = analyzed(tmp_path / "a", *data)
        assert found["weighted_features"] == [] and "given in Python" in found["notes"][0]
        del changed["inputs"]["teacher 0"]
        changed["config"]["teacher"]["model"] = TEACHER
        facts.write_text(json.dumps(changed))
        _, found = analyzed(tmp_path / "b", *data)
        assert "weights are for 16 features, the teachers have 256" in found["notes"][0]
    finally:
        facts.write_text(kept)


def test_one_model_and_no_classifier(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    exported(tmp_path / "backbone", (), 1, num_classes=7)
    words = [f"models={tmp_path / 'backbone'}", "data=folder", f"data.root={tmp_path / 'images'}"]
    ran, found = analyzed(tmp_path / "out", *words, "split=train")
    assert found["headline"].startswith("Best features: backbone, a linear probe has ")
    assert found["flips"] == found["pairs"] == [] and found["any_right"] is None
    assert found["models"][0]["frechet_train"] is None  # the same images
    assert "→" not in ran.out and "Best features" in (tmp_path / "out/analyze.html").read_text()


def test_answers_among_the_classes_of_the_data_alone(tmp_path: Path) -> None:
    """The shipped teacher knows letters too."""
    words = [f"models=[{TEACHER}]", "data=digits", "probe_on=labelled"]
    _, every = analyzed(tmp_path / "all", *words)
    _, alone = analyzed(tmp_path / "data", *words, "answers=data")
    right = [found["models"][0]["accuracy"]["num_right"] for found in (every, alone)]
    assert right[0] < right[1]


def test_texts_as_class_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_clip()
    monkeypatch.setattr(clip, "load_clip", lambda spec, device: encoder)
    write_images(tmp_path / "images")
    for name, seed in (("a", 0), ("b", 1)):
        exported(tmp_path / name, CLASSES, seed)
    _, found = analyzed(
        tmp_path / "out", f"models=[{tmp_path / 'a'},{tmp_path / 'b'}]", "data=folder",
        f"data.root={tmp_path / 'images'}", "similarity.by=open_clip:tiny", "top_percent=[100]",
        "text.templates=['a {}','the {}']", "split=train",
    )  # fmt: skip
    texts = encoder.encode_texts([f"{form} {name}" for name in CLASSES for form in ("a", "the")])
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    means = unit.reshape(3, 2, -1).mean(axis=1)
    lengths = np.linalg.norm(means, axis=1)
    cosines = means @ means.T / np.outer(lengths, lengths)
    expected = cosines[np.triu_indices(3, 1)].mean()
    assert found["class_similarity"]["by"] == "open_clip:tiny"
    assert found["class_similarity"]["all_classes"] == pytest.approx(expected, abs=2e-3)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    write_images(tmp_path / "images", HOSTILE)
    for name, seed in (("<b>a</b>", 0), ("b", 1)):
        exported(tmp_path / name, HOSTILE, seed)
    _, found = analyzed(
        tmp_path / "out", f"models=['{tmp_path / '<b>a<'}/b>','{tmp_path / 'b'}']", "split=train",
        "data=folder", f"data.root={tmp_path / 'images'}", "transfer.before=b",
        f"transfer.after={tmp_path / '<b>a<'}/b>", "transfer.teacher=b",
    )  # fmt: skip
    assert found["classes"] == sorted(HOSTILE)
    page = Texts((tmp_path / "out" / "analyze.html").read_text(encoding="utf-8"))
    assert HOSTILE[1] in page.words and "script" not in page.tags


def test_nothing_of_the_users_is_replaced(digits: Path, tmp_path: Path) -> None:
    words = ["analyze", f"models=[{TEACHER}]", "probe_on=labelled"]
    ran = run(*words, f"out={digits / 'out'}")
    assert ran.code == 2 and "overwrite=true to replace it" in ran.err
    (tmp_path / "killed").mkdir()  # before its last file
    (tmp_path / "killed" / "analyze.html").write_text("half of it")
    ran = run(*words, f"out={tmp_path / 'killed'}")
    assert ran.code == 0 and (tmp_path / "killed" / "analyze.json").is_file(), ran.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    ran = run(*words, f"out={tmp_path / 'mine'}", "overwrite=true")
    assert ran.code == 2 and "not empty and holds no analysis of genkt" in ran.err
    ran = run(*words, f"out={tmp_path / 'mine' / 'notes.txt'}")
    assert ran.code == 2 and "expected a folder, got a file" in ran.err


def test_null_turns_the_transfer_off() -> None:
    for words in (["transfer=null"], []):
        config = read_config(AnalyzeConfig, "analyze", ["models=[x,y]", *words])
        assert config.triple is None
    one = read_config(AnalyzeConfig, "analyze", ["models=runs/a"])
    assert one.names == ["runs/a"] and one.titles == {"runs/a": "a"}


def test_short_names_stay_apart() -> None:
    assert short_names(["a/run", "b/run", "c/other"]) == ["a/run", "b/run", "other"]
    assert short_names(["x", "y/x"]) == ["x", "y/x"]
    assert short_names(["runs/a/student", "hf-hub:o/n", "."]) == ["a", "hf-hub:o/n", "."]


@pytest.mark.parametrize("name", Words().choices("data"))
def test_every_data_group_can_be_analysed(name: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    (tmp_path / "train.csv").write_text("cat/1.png,cat\ndog/1.png,dog\n")
    own = {
        "folder": [f"data.root={images}"],
        "split_list": [f"data.root={images}", f"data.train={tmp_path / 'train.csv'}"],
        "torchvision": [f"data.root={images}", "data.dataset=cifar10"],
    }
    words = [f"models={TEACHER}", f"data={name}", *own.get(name, [])]
    write = {"stamps": write_stamps, "fashion_mnist": write_fashion}.get(name)
    packages = {} if write is None else {name: write(tmp_path)}
    with brought(tmp_path, **packages):
        assert read_config(AnalyzeConfig, "analyze", words).data.name == name
