"""Who may write a run's folder, and logs that stay whole when a run resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import refused
from tiny import tree

from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog, lines_by_stage
from genkt.training.stage import Record
from genkt.types import UserError, counted

CONFIG: dict[str, Any] = {
    "out": "x", "seed": 0, "overwrite": False, "device": "cpu",
    "method": {"name": "a", "x": 1}, "train": {"lr": 0.1, "num_workers": 0, "sizes": (1, 2)},
}  # fmt: skip


def folder(path: Path, overwrite: bool = False, **changes: Any) -> RunFolder:
    return RunFolder(path, {**CONFIG, "overwrite": overwrite, **changes}, overwrite=overwrite)


def finish(path: Path) -> None:
    (path / "report.json").write_text("{}")


def test_nothing_is_written_before_the_claim(tmp_path: Path) -> None:
    run = folder(tmp_path / "new" / "run")
    assert not run.finished and not (tmp_path / "new").exists()
    run.claim("genkt transfer\nsecond line")
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "run.json"]
    text = (run.path / "config.yaml").read_text()
    assert text.startswith("# genkt transfer second line\n")
    assert yaml.safe_load(text)["train"] == {"lr": 0.1, "num_workers": 0, "sizes": [1, 2]}


def test_the_same_settings_continue_and_others_are_listed(tmp_path: Path) -> None:
    folder(tmp_path / "run").claim("first")
    again = folder(tmp_path / "run", device="cuda", out="moved")
    again.claim("second")
    with pytest.raises(UserError) as caught:
        folder(tmp_path / "run", seed=1, train={"lr": 0.2, "num_workers": 3, "sizes": [1, 2]})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("overwrite=true, or the same settings to continue it")
    assert lines[1:] == ["seed: was 0, now 1", "train.lr: was 0.1, now 0.2"]
    with pytest.raises(UserError) as caught:
        folder(tmp_path / "run", method={"name": "b", "y": 2})
    assert str(caught.value).splitlines()[1:] == ['method.name: was "a", now "b"']


def test_overwrite_replaces_finished_and_other_runs_only_when_claimed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder(path).claim("first")
    (path / "state").touch()
    continued = folder(path, overwrite=True)  # interrupted, same settings: not thrown away
    continued.claim("again")
    assert (path / "state").exists()
    finish(path)
    replaced = folder(path, overwrite=True)
    assert not replaced.finished and (path / "report.json").exists()
    replaced.claim("third")
    assert not (path / "report.json").exists() and not (path / "state").exists()
    (path / "state").touch()
    other = folder(path, overwrite=True, seed=5)
    assert (path / "state").exists()
    other.claim("fourth")
    assert not (path / "state").exists()
    assert yaml.safe_load((path / "config.yaml").read_text())["overwrite"] is False


def test_other_images_are_not_taken_for_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder(path).claim("first", {"images": "1", "student": "2"})
    finish(path)
    folder(path).claim("same", {"images": "1", "student": "2"})
    before = tree(path)
    with refused("run"):
        folder(path).claim("other", {"images": "3", "student": "4"})
    assert tree(path) == before
    folder(path, overwrite=True).claim("other", {"images": "3"})
    assert not (path / "report.json").exists()


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("file"):
        folder(tmp_path / "file", overwrite=True)
    with pytest.raises(UserError, match="holds no genkt run"):
        folder(tmp_path, overwrite=True)
    assert (tmp_path / "file").exists()
    (tmp_path / "empty").mkdir()
    folder(tmp_path / "empty").claim("x")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_stage_writes_no_record_twice(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    stage = log.stage(0, "stl")
    stage.begin("finetune", 0)
    for step in (1, 2, 3, 4):
        stage.record({"step": step, "stage": "finetune", "total": 0.5})
    stage.close()
    other = log.stage(1, "stl")
    other.begin("finetune", 0)
    other.record({"step": 4, "stage": "finetune", "total": 0.5})
    other.close()
    with open(log.path, "a") as stream:
        stream.write('{"draw": 0, "arm": "st')  # torn by a kill
    resumed = RunLog(tmp_path).stage(0, "stl")
    resumed.begin("finetune", 2)
    resumed.record({"step": 3, "stage": "finetune", "total": 0.25})
    resumed.close()
    steps = [(r["draw"], r["step"], r["total"]) for r in records(log.path)]
    assert steps == [(0, 1, 0.5), (0, 2, 0.5), (1, 4, 0.5), (0, 3, 0.25)]


@pytest.mark.parametrize("damage", ["gone", "cut", "altered", "torn in the middle"])
def test_records_that_were_lost_are_written_again_and_told(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path)
    log.stage(0, "baseline").record({"step": 1, "stage": "finetune", "total": 2.0})
    known: list[Record] = [{"step": s, "stage": "finetune", "total": 0.1 * s} for s in (1, 2)]
    for record in known:
        log.stage(0, "stl").record(record)
    text = log.path.read_text()
    whole = sorted(text.splitlines())
    lines = text.splitlines(keepends=True)
    if damage == "gone":
        log.path.unlink()
    elif damage == "cut":
        log.path.write_text(lines[0])
    elif damage == "altered":
        log.path.write_text(text.replace('"total": 0.1', '"total": 0.9'))
    else:
        log.path.write_text(lines[0] + lines[1][:9] + lines[2])
    resumed = log.stage(0, "stl")
    resumed.begin("finetune", 2, known)
    resumed.close()
    found = sorted(log.path.read_text().splitlines())
    assert found == (whole if damage != "gone" else [each for each in whole if "stl" in each])
    assert f"{log.path}: " in caplog.text and "written again" in caplog.text
    caplog.clear()
    log.stage(0, "stl").begin("finetune", 2, known)
    assert sorted(log.path.read_text().splitlines()) == found and not caplog.text


def test_a_finished_student_brings_its_lines_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path)
    stage = log.stage(0, "stl")
    for name, known in (("probe", [{"step": 1, "stage": "probe", "total": 1.0}]), ("tune", None)):
        stage.begin(name, len(known or ()), known)
        stage.record({"step": 2, "stage": name, "total": 0.5})
    stage.close()
    other = {"step": 1, "stage": "tune", "total": 3.0}
    log.stage(1, "stl").record(other)
    whole = log.path.read_text().splitlines()
    assert (
        len(whole) == 4 and [each for lines in stage.known.values() for each in lines] == whole[:3]
    )
    caplog.clear()
    for damage in (whole[2:], [whole[0].replace("1.0", "7.0"), *whole[1:]], [*whole, "torn"]):
        log.path.write_text("\n".join(damage))
        log.put_right(lines_by_stage(whole[:3]))
        assert sorted(log.path.read_text().splitlines()) == sorted(whole)
    told = [f"{log.path}: {counted(number, 'record')}" in caplog.text for number in (2, 1, 0)]
    assert told == [True, True, False]
    unknown = log.stage(0, "prime")
    unknown.begin("vqgan", 6)  # of an older genkt, whose states hold no records
    assert not unknown.known and sorted(log.path.read_text().splitlines()) == sorted(whole)


def test_a_silent_log_writes_nothing(tmp_path: Path) -> None:
    stage = RunLog(tmp_path, enabled=False).stage(0, "stl")
    stage.begin("finetune", 0)
    stage.record({"step": 1, "stage": "finetune"})
    stage.close()
    assert not list(tmp_path.iterdir())
