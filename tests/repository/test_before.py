"""What earlier versions have written still opens: the files in ``before``, see its README."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from before.make import COMMANDS, pixels
from safetensors.torch import load_file
from tiny import run, tree
from torch import Tensor

import genkt
from genkt.io import read_json
from genkt.runs.run_log import StageLog
from genkt.stores.embeddings import EmbeddingStore
from genkt.stores.teacher_outputs import StoreWriter

BEFORE = Path(__file__).parents[1] / "before"
MADE_WITH = read_json(BEFORE / "made_with.json", "versions")
PIXELS = read_json(BEFORE / "pixels.json", "fingerprints")
INTERRUPTED = Path("interrupted/draws/0/feature_kd")
OF_A_START = {"config.yaml", "train.log"}
"""What every start of a run writes anew."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files at another place than where they were made; commands run there."""
    shutil.copytree(BEFORE, tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")


def forbid(monkeypatch: pytest.MonkeyPatch, kind: type, method: str) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError(f"{kind.__name__}.{method}: made again")

    monkeypatch.setattr(kind, method, refuse)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all weights are the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_no_file_names_a_place_of_the_machine_that_made_it() -> None:
    stored = {name: content for name, content in tree(BEFORE).items() if "__pycache__" not in name}
    assert "run/report.json" in stored
    for name, content in stored.items():
        for place in (b"/work", b"/tmp", b"/root", b"/home"):
            assert place not in content, name


def test_a_run_that_was_moved_predicts_what_it_did() -> None:
    shutil.move("run", "elsewhere")
    ran = run("predict", "elsewhere", "images", "format=json", "top=3", "device=cpu")
    assert ran.code == 0, ran.err
    recorded = read_json("answers.json", "answers")
    for now, before in zip(json.loads(ran.out), recorded, strict=True):
        assert now["image"] == before["image"]
        found, expected = (
            {each["label"]: each["probability"] for each in row["top"]} for row in (now, before)
        )
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_run_that_was_moved_is_evaluated_as_it_was() -> None:
    shutil.move("run", "elsewhere")
    exported = load_file("elsewhere/student/model.safetensors")
    of_draws = [Path(f"elsewhere/draws/{draw}/logit_kd") for draw in (0, 1)]
    (chosen,) = (
        each for each in of_draws if same(load_file(each / "student.safetensors"), exported)
    )
    accuracy = read_json(chosen / "result.json", "a result")["result"]["accuracy"]
    found = genkt.evaluate("elsewhere", "data.root=images", data="folder", device="cpu")
    assert found.accuracy == pytest.approx(accuracy)
    assert genkt.load_classifier("elsewhere").names == ("cat", "dog", "elk")


def test_a_finished_run_is_told_again_and_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(Path("run"))
    forbid(monkeypatch, StageLog, "begin")
    forbid(monkeypatch, StoreWriter, "__init__")
    ran = run(*COMMANDS["run"])
    assert ran.code == 0, ran.err
    after = tree(Path("run"))
    assert {name for name in after if after[name] != before.get(name)} <= OF_A_START


def test_a_report_that_is_made_again_has_the_figures_that_came_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Students have kept their probabilities from the start."""
    forbid(monkeypatch, StageLog, "begin")
    Path("run/report.json").unlink()
    ran = run(*COMMANDS["run"])
    assert ran.code == 0, ran.err
    arms = read_json("run/report.json", "a report")["arms"]
    for arm in (each for each in arms if each["role"] == "student"):
        accuracy, metrics = arm["accuracy"]["mean_percent"], arm["metrics"]
        assert metrics["accuracy"]["mean_percent"] == pytest.approx(accuracy)
        assert metrics["nll"]["mean"] > 0 and metrics["nll"]["num_draws"] == 2


def test_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits as without the interruption, where this machine computes as that one did."""
    starts: list[tuple[str, int]] = []
    begin = StageLog.begin

    def told(self: StageLog, stage: str, step: int, *known: Any) -> None:
        starts.append((stage, step))
        begin(self, stage, step, *known)

    monkeypatch.setattr(StageLog, "begin", told)
    ran = run(*COMMANDS["interrupted"])
    if torch.__version__ != MADE_WITH["torch"]:  # another version rounds otherwise: refused
        assert ran.code == 2 and "state.pt" in ran.err
        return
    assert ran.code == 0, ran.err
    state = torch.load(BEFORE / INTERRUPTED / "distil" / "state.pt", weights_only=True)
    assert starts[0][1] == state["progress"]["step"] > 0, starts
    resumed = load_file(INTERRUPTED / "student.safetensors")
    recorded = load_file("uninterrupted.safetensors")
    torch.testing.assert_close(resumed, recorded, atol=1e-3, rtol=1e-3)
    assert run(*COMMANDS["uninterrupted"]).code == 0
    whole = load_file("uninterrupted/draws/0/feature_kd/student.safetensors")
    assert same(resumed, recorded) or not same(whole, recorded)


def test_a_teacher_cache_is_read_and_the_teacher_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tree(Path("teacher_cache"))
    forbid(monkeypatch, StoreWriter, "__init__")
    ran = run(*COMMANDS["cache"])
    assert ran.code == 0, ran.err
    assert tree(Path("teacher_cache")).items() >= before.items()


def test_embeddings_are_read_and_the_same_images_retrieved(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(Path("embeddings"))
    forbid(monkeypatch, EmbeddingStore, "write")
    ran = run(*COMMANDS["retrieved"][:-1], "out=again")
    assert ran.code == 0, ran.err
    assert tree(Path("embeddings")).items() >= before.items()
    assert pixels("again") == PIXELS["retrieved"]


@pytest.mark.parametrize("name", PIXELS)
def test_a_set_has_the_images_that_it_had(name: str) -> None:
    shutil.move(name, "elsewhere")
    found = genkt.TransferSet.open("elsewhere")
    assert pixels("elsewhere") == PIXELS[name]
    lines = [
        json.loads(line)
        for path in sorted(Path("elsewhere/manifest").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert [found.record(row).parent for row in range(len(found))] == [
        line["parent"] for line in lines
    ]


def test_the_shares_of_a_saved_mix_are_kept() -> None:
    found = genkt.TransferSet.open("saved")
    assert {part.name: part.share for part in found.parts} == {"made": 3, "found": 1}


@pytest.mark.parametrize("command", ["synthesized", "retrieved"])
def test_a_finished_set_is_told_again_and_not_made_again(command: str) -> None:
    before = tree(Path(command))
    ran = run(*COMMANDS[command])
    assert ran.code == 0, ran.err
    after = tree(Path(command))
    assert {name for name in after if after[name] != before.get(name)} <= {
        "config.yaml", f"{COMMANDS[command][0]}.log",
    }  # fmt: skip


def test_a_generator_draws_and_decodes_the_tokens_of_its_set() -> None:
    generator = genkt.load_generator("generator")
    header = read_json("synthesized/transfer_set.json", "a set")
    assert generator.fingerprint() == header["generator"]["fingerprint"]
    found = genkt.TransferSet.open("synthesized")
    files = [path.read_bytes() for path in sorted(Path("synthesized/images").rglob("*.webp"))]
    again = [data for _, data in genkt.redecode("synthesized", generator)]
    assert len(again) == len(files) == len(found)
    images = generator.as_images([found.images.load(0)])
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[8:] = True
    assert generator.complete(images, mask).images.shape == (1, 1, 3, 16, 16)


def test_a_comparison_is_told_again_and_no_arm_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    arms = tree(Path("comparison/arms"))
    old = json.loads(Path("comparison/compare.json").read_text("utf-8"))
    forbid(monkeypatch, StageLog, "begin")
    ran = run(*COMMANDS["comparison"])
    assert ran.code == 0, ran.err
    assert tree(Path("comparison/arms")) == arms
    found = json.loads(Path("comparison/compare.json").read_text("utf-8"))
    means = [[each["accuracy"]["mean_percent"] for each in told["arms"]] for told in (old, found)]
    assert means[0] == means[1]
    assert {each["accuracy"]["low_percent"] for each in found["arms"]} == {None}
    assert len(found["notes"]) == 1  # these students kept no score for each image
    table = Path("comparison/compare.md").read_text("utf-8")
    assert "| real | 33.3 | 33.3 | 0.0 |" in table
