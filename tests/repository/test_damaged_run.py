"""A finished run of which a file is damaged: the same results, or one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HOSTILE
from refusals import refused
from tiny import Ran, run, transfer_words

from genkt.files import seals_of, write_signed
from genkt.io import read_json
from genkt.runs.run_folder import OUTPUTS, RunFolder
from genkt.runs.student_files import read_result
from genkt.types import DamagedError


def flipped(path: Path) -> None:
    """One bit in the middle of the content, or of a number where it is text."""
    data = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    place = digits[len(digits) // 2] if path.suffix == ".json" and digits else len(data) * 3 // 4
    data[place] ^= 1
    path.write_bytes(data)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flipped,
    "other type": lambda path: path.write_text("[1, 2]"),
    "folder": as_folder,
}
LINK = {"link": as_link}
CELL, KEPT = "draws/1/stl", "kept"
MADE_AGAIN = (
    f"{CELL}/result.json", f"{CELL}/probabilities.npy", f"{CELL}/student.safetensors",
    f"{CELL}/finetune/last.safetensors", "student/model.safetensors", "student/config.json",
    "checkpoints/last.safetensors", "report.json", "report.html", "digests.json",
)  # fmt: skip
"""Files that the same command makes again."""

NAMED = ("run.json",)
"""Files that only the user can put back."""

NOT_READ = ("metrics.jsonl", "config.yaml", "train.log")
"""Files that are written, and read by nobody else when the run has ended."""

ALIKE = {f"{CELL}/finetune/last.safetensors", "checkpoints/last.safetensors", "report.html"}
"""Files that are read as others are: one damage will do."""

CASES = [
    (name, damage)
    for name in (*MADE_AGAIN, *NAMED, *NOT_READ)
    for damage in (["flipped"] if name in ALIKE else DAMAGES)
] + [(f"{CELL}/result.json", "link")]


@pytest.fixture(scope="module")
def whole(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a finished run, and a copy of it that stays as it is."""
    home = tmp_path_factory.mktemp("damaged")
    shutil.copytree(finished / "images", home / "images")
    ran = run(*words(home))
    assert ran.code == 0, ran.err
    shutil.copytree(home / "run", home / KEPT)
    return home


@pytest.fixture
def home(whole: Path) -> Path:
    """The same with the whole run: no test sees what another one has damaged or made again."""
    shutil.rmtree(whole / "run")
    shutil.copytree(whole / KEPT, whole / "run")
    return whole


def words(home: Path) -> list[str]:
    return transfer_words(home, "draws=2")


def figures(folder: Path) -> dict[str, Any]:
    """What the run has found, without what it took."""
    report = read_json(folder / "report.json")
    return {
        "report": {key: report[key] for key in ("headline", "verdict", "predictions", "flips")},
        "weights": (folder / "student" / "model.safetensors").read_bytes(),
        "accuracies": [
            read_result(folder / "draws" / str(draw) / arm)[0].accuracy
            for draw in (0, 1)
            for arm in ("stl", "logit_kd")
        ],
    }


def assert_one_line(ran: Ran, name: str) -> None:
    assert ran.code == 2 and len(ran.lines) == 1, (ran.code, ran.err)
    assert name in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_the_same_results_or_one_line(home: Path, name: str, damage: str) -> None:
    before = figures(home / KEPT)
    picture = str(home / "images" / HOSTILE[1] / "1.png")
    answer = run("predict", str(home / "run"), picture).out
    assert "1.png" in answer
    (DAMAGES | LINK)[damage](home / "run" / name)
    predicted = run("predict", str(home / "run"), picture)
    if name.startswith("student/") or name == "digests.json":
        assert_one_line(predicted, name)
    elif name == "run.json" and damage == "folder":
        assert_one_line(predicted, "run")
    else:
        assert (predicted.code, predicted.out) == (0, answer), predicted.err
    ran = run(*words(home))
    if name in NAMED or (name in NOT_READ and ran.code):
        assert_one_line(ran, name)
        return
    assert ran.code == 0, ran.err
    after = figures(home / "run")
    assert after == before and not (home / "run" / name).is_symlink()
    assert run("predict", str(home / "run"), picture).out == answer


def test_evaluate_and_export_take_no_damaged_student(home: Path) -> None:
    flipped(home / "run" / "student" / "model.safetensors")
    evaluated = run(
        "evaluate", f"model={home / 'run'}", "data=folder", f"data.root={home / 'images'}",
        "device=cpu",
    )  # fmt: skip
    exported = run("export", str(home / "run"), f"output={home / 'student.onnx'}")
    assert_one_line(evaluated, "model.safetensors")
    assert_one_line(exported, "model.safetensors")
    assert not (home / "student.onnx").exists()


def test_files_of_another_student_are_not_taken(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = figures(home / KEPT)
    draws = home / "run" / "draws"
    for name in ("probabilities.npy", "result.json", "student.safetensors"):
        shutil.copyfile(draws / "0" / "logit_kd" / name, draws / "1" / "logit_kd" / name)
    with refused("draw 0", kind=DamagedError):
        read_result(draws / "1" / "logit_kd")
    ran = run(*words(home))
    assert ran.code == 0 and "draw 1, logit_kd: trained again" in caplog.text
    assert figures(home / "run")["accuracies"] == before["accuracies"]


def test_runs_of_an_older_genkt_still_open(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = figures(home / KEPT)
    for path in (home / "run").glob("draws/*/*/result.json"):
        saved = read_json(path)
        path.write_text(json.dumps({key: saved[key] for key in ("result", "stages")}))
    claim = read_json(home / "run" / "run.json")
    claim.pop("digest")
    (home / "run" / "run.json").write_text(json.dumps(claim))
    (home / "run" / "digests.json").unlink()
    ran = run(*words(home))
    assert ran.code == 0 and "trained again" not in caplog.text
    assert (home / "run" / "train.log").read_text().count("written by an older genkt") == 1
    array = home / "run" / "draws" / "1" / "stl" / "probabilities.npy"
    stored = np.load(array)
    np.save(array, np.concatenate([stored, stored]))
    assert run(*words(home)).code == 0 and "trained again" in caplog.text
    assert figures(home / "run")["accuracies"] == before["accuracies"]


def test_a_run_has_ended_when_all_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed between its last files goes on; the digests alone may follow the report."""
    out = home / "run"
    expected = figures(out)
    (out / "digests.json").unlink()
    assert run(*words(home)).code == 0
    assert set(read_json(out / "digests.json")) >= {"report.json", "student/model.safetensors"}
    (out / "report.json").unlink()
    for last in (
        "genkt.transfers.run_transfer.student_card",
        "genkt.report.transfer.write_report.render",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(last, _interrupted)
            assert run(*words(home)).code == 130
        assert not (out / "report.json").exists()
    assert run(*words(home)).code == 0 and figures(out) == expected


def test_files_lost_between_the_report_and_its_digest_are_made_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = home / "run"
    expected, config = figures(out), (out / "student" / "config.json").read_bytes()
    (out / "report.json").unlink()
    calls = []

    def seal(folder: RunFolder, names: Sequence[str]) -> None:
        calls.append(names)
        if "report.json" in names:
            raise KeyboardInterrupt
        write_signed(folder.path / "digests.json", seals_of(folder.path, names))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "seal", seal)
        assert run(*words(home)).code == 130
    assert len(calls) == 2 and (out / "report.json").is_file()
    (out / "student" / "config.json").unlink()
    flipped(out / "report.html")
    assert run(*words(home)).code == 0
    assert figures(out) == expected and (out / "student" / "config.json").read_bytes() == config
    assert {"report.json", "student/config.json"} <= set(read_json(out / "digests.json"))


def test_what_only_training_needs_goes_though_it_was_killed_before(home: Path) -> None:
    out = home / "run"
    for place in ("draws/0/stl/finetune", "draws/1/logit_kd/distil"):
        (out / place / "state.pt").write_bytes(b"a state")
    (out / "draws" / "1" / OUTPUTS).mkdir()
    assert run(*words(home)).code == 0
    assert not list(out.rglob("state.pt")) and not (out / "draws" / "1" / OUTPUTS).exists()


def _interrupted(*_: Any) -> str:
    raise KeyboardInterrupt
