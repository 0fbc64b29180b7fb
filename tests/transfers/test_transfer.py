"""The main job end to end on a tiny budget: folder, repeats, interruptions, the student itself."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import HOSTILE
from forked import Command, until
from tiny import picture, run, transfer_words, tree

from genkt.runs.run_log import StageLog
from genkt.training.stage import Record


def report_of(home: Path) -> dict[str, Any]:
    """report.json, which must be strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in report.json")

    text = (home / "report.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


def test_the_run_folder(finished: Path) -> None:
    found = {path.split("/")[0] for path in tree(finished / "run")}
    assert found == {
        "config.yaml", "metrics.jsonl", "train.log", "tensorboard", "checkpoints", "student",
        "report.json", "report.html", "run.json", "digests.json", "draws",
    }  # fmt: skip
    files = tree(finished / "run")
    for path in (
        "checkpoints/last.safetensors",
        "student/config.json",
        "student/model.safetensors",
    ):
        assert files[path]
    assert not [path for path in files if path.endswith("state.pt")]
    page = files["report.html"].decode()
    assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
    assert '<b>"x"<b>' not in page  # a class name is text, not markup


def test_the_report_tells_what_ran(finished: Path) -> None:
    report = report_of(finished / "run")
    assert report["classes"] == list(HOSTILE)
    assert {cell["arm"] for cell in report["cells"]} == {"stl", "logit_kd"}
    assert [cell["draw"] for cell in report["cells"]] == [0, 1, 0, 1]
    assert report["models"][0]["size_bytes"] > 0
    assert any("broken.png" in str(entry) for entry in report["skipped"])
    assert report["command"].startswith("genkt transfer ")
    method = [cell for cell in report["cells"] if cell["arm"] == "logit_kd"]
    stl = [cell for cell in report["cells"] if cell["arm"] == "stl"]
    for one, other in zip(method, stl, strict=True):  # the same budget
        assert one["cost"]["steps"] == other["cost"]["steps"] == 14
        assert one["cost"]["samples"] == other["cost"]["samples"]


def test_metrics_hold_every_step_once(finished: Path) -> None:
    lines = (finished / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [record for record in map(json.loads, lines) if "total" in record]
    seen = [(r["draw"], r["arm"], r["stage"], r["step"]) for r in losses]
    expected = [
        (draw, arm, stage, step)
        for draw in (0, 1)
        for arm, stages in (("logit_kd", {"distil": 12, "finetune": 2}), ("stl", {"finetune": 14}))
        for stage, steps in stages.items()
        for step in range(1, steps + 1)
    ]
    assert seen == expected


def test_the_report_says_what_evaluating_the_student_says(finished: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    ran = run(
        "evaluate", f"model={finished / 'run'}", "data=folder", f"data.root={finished / 'images'}",
        f"output={facts}", "device=cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found, report = json.loads(facts.read_text()), report_of(finished / "run")
    assert found["accuracy"] == report["exported"]["accuracy"]
    assert found["interval_95"] == pytest.approx(report["exported"]["interval_95"])
    assert found["num_images"] == len(report["predictions"]["ids"])


def test_the_last_printed_lines_run_as_printed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(*transfer_words(finished, "draws=2", "train.steps=12"))
    code = ran.out[ran.out.index("import genkt") :]
    monkeypatch.chdir(tmp_path)
    picture(1, 99).save("IMAGE.png")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    named = run("predict", str(finished / "run"), "IMAGE.png", "format=json", "device=cpu")
    row = json.loads(named.out)[0]
    label, probability = printed.getvalue().strip().rsplit(" ", 1)
    assert label == row["label"] and float(probability) == pytest.approx(row["probability"], 1e-4)


def test_a_finished_run_is_told_again_without_training(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(log: StageLog, stage: str, *_: Any) -> None:
        raise AssertionError(f"{log.arm}: {stage} is trained again")

    monkeypatch.setattr(StageLog, "begin", refuse)
    before = tree(finished / "run")
    first = run(*transfer_words(finished, "draws=2", "train.steps=12"))
    assert first.code == 0 and "report: " in first.out and "Logit KD" in first.out
    after = tree(finished / "run")
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed <= {"train.log", "config.yaml"} and after.keys() == before.keys()


def test_other_settings_are_refused_and_overwrite_replaces(tmp_path: Path) -> None:
    assert run(*transfer_words(tmp_path)).code == 0
    before = tree(tmp_path / "run")
    ran = run(*transfer_words(tmp_path, "seed=4", "method=stl"))
    assert ran.code == 2 and tree(tmp_path / "run") == before
    assert [line.split(": ", 2)[-1] for line in ran.lines[1:]] == [
        'was "logit_kd", now "stl"', "was 0, now 4",
    ]  # fmt: skip
    failed = run(*transfer_words(tmp_path, "overwrite=true", "data.labels_per_class=99"))
    assert failed.code == 2 and tree(tmp_path / "run") == before
    ran = run(*transfer_words(tmp_path, "overwrite=true", "method=stl"))
    assert ran.code == 0, ran.err
    assert report_of(tmp_path / "run")["method"] == "stl"


def test_images_that_changed_since_are_refused(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "method=stl")
    assert run(*words).code == 0
    picture(2, 77).save(tmp_path / "images" / "cat" / "new.png")
    ran = run(*words)
    assert ran.code == 2 and "started with other" in ran.err and "images" in ran.err


def test_config_yaml_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    ran = run(
        "transfer", "--config-dir", str(finished / "run"), "--config-name", "config",
        f"out={tmp_path / 'again'}",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    first, second = report_of(finished / "run"), report_of(tmp_path / "again")
    assert [c["accuracy"] for c in first["cells"]] == [c["accuracy"] for c in second["cells"]]
    for path in ("student/model.safetensors", "checkpoints/last.safetensors"):
        assert tree(finished / "run")[path] == tree(tmp_path / "again")[path]
    assert tree(finished / "run")["metrics.jsonl"] == tree(tmp_path / "again")["metrics.jsonl"]


def test_another_seed_is_another_run(finished: Path, tmp_path: Path) -> None:
    words = transfer_words(finished, "draws=2", "train.steps=12", "seed=1")
    assert run(*words, f"out={tmp_path / 'other'}").code == 0
    path = "student/model.safetensors"
    assert tree(finished / "run")[path] != tree(tmp_path / "other")[path]


def test_all_labels_and_nothing_to_transfer(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "data.labels_per_class=null")
    ran = run(*words)
    assert ran.code == 2
    assert "all training images are labelled" in ran.err and "transfer_set=labelled" in ran.err
    assert run(*words, "transfer_set=labelled", "baseline=false").code == 0


LONG = ["train.steps=40", "finetune.steps=20", "train.save_seconds=0", "method=aft"]
LONG += ["method.beta=search", "method.beta_grid=[1,5]", "train.eval_every=7"]


def stopping_at(mark: str, most: int) -> None:
    """Let the process write ``most`` records of an arm or a stage: there it waits to be killed."""
    record, left = StageLog.record, [most]

    def told(log: StageLog, values: Record) -> None:
        record(log, values)
        left[0] -= mark in (log.arm, values["stage"])
        while left[0] < 0:
            time.sleep(600)

    StageLog.record = told  # type: ignore[method-assign]


def kill_at(words: list[str], log: Path, mark: str, count: int) -> None:
    """Start the command, SIGKILL it soon after the log holds ``count`` lines with ``mark``."""

    def written() -> bool:
        lines = log.read_text().splitlines() if log.is_file() else []
        return sum(f'"{mark}"' in line for line in lines) >= count

    process = Command(words, before=functools.partial(stopping_at, mark, count + 5))
    until(written, process)
    process.kill()


def test_killed_and_started_again_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    ran = run(*transfer_words(tmp_path, *LONG, f"out={tmp_path / 'through'}"))
    assert ran.code == 0, ran.err
    words = transfer_words(tmp_path, *LONG, f"out={tmp_path / 'killed'}", f"cache={tmp_path / 'c'}")
    log = tmp_path / "killed" / "metrics.jsonl"
    kill_at(words, log, "distil", 15)
    assert not (tmp_path / "killed" / "report.json").exists()
    unfinished = run("predict", str(tmp_path / "killed"), str(tmp_path / "images"))
    assert unfinished.code == 2 and "its first student is not trained yet" in unfinished.err
    kill_at(words, log, "stl", 20)
    usable = run("predict", str(tmp_path / "killed"), str(tmp_path / "images"))
    assert usable.code == 0
    last = run(*words)
    assert last.code == 0, last.err
    one, other = tree(tmp_path / "through"), tree(tmp_path / "killed")
    for path in ("student/model.safetensors", "checkpoints/last.safetensors"):
        assert one[path] == other[path]
    assert one["metrics.jsonl"] == other["metrics.jsonl"]
    for name in ("cells", "exported", "predictions"):
        first, second = report_of(tmp_path / "through"), report_of(tmp_path / "killed")
        assert without_cost(first[name]) == without_cost(second[name])


def without_cost(value: Any) -> Any:
    """The same without times and memory."""
    if isinstance(value, list):
        return [without_cost(item) for item in value]
    if isinstance(value, dict):
        return {key: without_cost(item) for key, item in value.items() if key != "cost"}
    return value
