"""Comparisons end to end: trained side by side, continued after a kill, honest about failures."""

from __future__ import annotations

import json
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_cases import STUDY, arm, compare_words
from filelock import FileLock
from forked import Command, until
from test_cli import save_teacher
from tiny import run, tree

import genkt
from genkt.cli.compare import read_comparison
from genkt.comparison import collect_arms
from genkt.comparison.arm_task import ArmTask, differences
from genkt.comparison.collect_arms import warnings
from genkt.comparison.plan_arms import make_plan
from genkt.comparison.watch_arms import Watch
from genkt.config.compare_settings import Arm
from genkt.metrics.scored_arms import DrawDesign
from genkt.settings.words import Words

SWEEP = {
    "name": "Real",
    "setting": "transfer_set.max_images",
    "values": [3, 6],
    "words": ["transfer_set=unlabelled"],
}
ARMS = {
    "stl": ["method=stl", "transfer_set=labelled"],
    "few": ["transfer_set=labelled"],
    "real": ["transfer_set=unlabelled", "transfer_set.max_images=6"],
}
CHANGES: dict[str, Any] = {
    "arms": ARMS, "sweeps": [SWEEP], "reference": "few", "pairs": [["real", "few"]],
}  # fmt: skip


def words_of(home: Path, *more: str, **changes: Any) -> list[str]:
    """A comparison whose teacher is the same in every process: its weights are a file."""
    home.mkdir(exist_ok=True)
    if not (home / "teacher.pth").is_file():
        save_teacher(home / "teacher.pth")
    weights = f"teacher.weights={home / 'teacher.pth'}"
    return compare_words(home, weights, *more, **{**CHANGES, **changes})


def numbers(home: Path) -> dict[str, Any]:
    """What compare.json says, without what another start changes."""
    found: dict[str, Any] = json.loads((home / "comparison" / "compare.json").read_text())
    for cell in found["cells"]:
        del cell["cost"], cell["stages"]
    for each in found["arms"]:
        del each["seconds_a_student"], each["cost"], each["config"], each["versions"]
        del each["budget"]["seconds"]
    return {key: found[key] for key in ("arms", "cells", "minus_baseline", "pairs", "sweeps")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of four arms, trained by a pool of two processes."""
    home = tmp_path_factory.mktemp("compared")
    words = words_of(home, "executor=pool", "executor.num_workers=2")
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert "report: " in ran.out and ran.err.count("finished") == 4
    return home


def test_every_cell_is_that_of_the_arms_own_run(home: Path) -> None:
    found = json.loads((home / "comparison" / "compare.json").read_text())
    assert [each["arm"] for each in found["arms"]] == ["stl", "few", "real", "Real-3"]
    assert len(found["cells"]) == 8 and found["failed"] == [] and found["notes"] == []
    for cell in found["cells"]:
        out = home / "comparison" / "arms" / cell["arm"]
        report = json.loads((out / "report.json").read_text())
        (own,) = [each for each in report["cells"] if each["draw"] == cell["draw"]]
        for key in ("accuracy", "accuracy_distilled", "extras", "cost"):
            mine = {**cell, "extras": cell["extras"] | {
                "validation_accuracy": cell["validation_accuracy"]}}[key]  # fmt: skip
            assert mine == own[key]
    assert found["sweeps"][0]["arms"] == ["Real-3", "real"]
    by_arm = {(c["arm"], c["draw"]): c["accuracy"] for c in found["cells"]}
    (pair,) = found["pairs"]
    gains = [100 * (by_arm["real", draw] - by_arm["few", draw]) for draw in (0, 1)]
    assert pair["accuracy"]["mean_points"] == pytest.approx(sum(gains) / 2)


def test_arms_of_a_draw_share_teacher_and_first_weights(home: Path) -> None:
    found = json.loads((home / "comparison" / "compare.json").read_text())
    for draw in (0, 1):
        cells = [cell for cell in found["cells"] if cell["draw"] == draw]
        assert len({cell["extras"]["first_weights"] for cell in cells}) == 1
        teachers = {cell["extras"].get("teacher_accuracy.0") for cell in cells} - {None}
        assert len(teachers) == 1
    assert len({cell["extras"]["first_weights"] for cell in found["cells"]}) == 2


def test_scores_of_all_students_are_kept(home: Path) -> None:
    study = genkt.scores_of_study(home / "comparison")
    found = json.loads((home / "comparison" / "compare.json").read_text())
    assert found["scores"] == "scores.npz" and len(study.test_ids) == 6
    for cell in found["cells"]:
        scores = study.arms[cell["arm"]].final[cell["draw"], cell["seed"]]
        assert scores.mean() == pytest.approx(cell["accuracy"])
        before = study.arms[cell["arm"]].distilled.get((cell["draw"], cell["seed"]))
        assert (before is None) == (cell["accuracy_distilled"] is None)
    for each in found["arms"]:
        again = study.interval(each["arm"])
        assert again is not None
        assert 100 * again.mean == pytest.approx(each["accuracy"]["mean_percent"])
        assert each["accuracy"]["low_percent"] is None and again.design.draws == 2


def test_groups_and_the_share_of_the_pool_reach_the_intervals(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = plan_of(home)[0]
    facts = json.loads((task.folder / "report.json").read_text())
    assert facts["predictions"]["groups"] is None
    facts["design"] = {"labels_vary": True, "pool_share": 0.5}
    facts["predictions"]["groups"] = [*"aabbcc"]
    monkeypatch.setattr(collect_arms, "read_json", lambda *_: facts)
    found = collect_arms.read_arm(task, Arm("stl", "Plain", ()))
    assert found is not None
    assert found.design == DrawDesign(True, 0.5, (*"aabbcc",))
    assert found.test_ids == tuple(facts["predictions"]["ids"])


def test_arms_of_other_test_images_have_means_alone() -> None:
    found = [
        collect_arms.ReadArm(arm(name, (0.5, 0.6), scored=scored), ids, DrawDesign())
        for name, ids, scored in [
            ("old", ("a",), False), ("first", ("b",) * 200, True), ("same", ("b",) * 200, True),
            ("other", ("c",) * 200, True), ("fewer", ("b",), True),
        ]
    ]  # fmt: skip
    shared = collect_arms.with_shared_images(found)
    kept = {each.name for each in shared.arms for cell in each.cells if cell.scores is not None}
    assert kept == {"first", "same"} and shared.test_ids == ("b",) * 200
    old, other = shared.notes
    assert ": old." in old and ": other, fewer." in other


def test_the_same_command_trains_nothing_again(home: Path) -> None:
    before, arms = numbers(home), tree(home / "comparison" / "arms")
    ran = run(*words_of(home))  # whoever runs them: the executor is no setting of an arm
    assert ran.code == 0 and "finished" not in ran.err
    assert numbers(home) == before and tree(home / "comparison" / "arms") == arms


def test_another_arm_leaves_those_that_are_there(home: Path) -> None:
    arms = {**ARMS, "more": ["transfer_set=unlabelled", "transfer_set.max_images=5"]}
    kept = tree(home / "comparison" / "arms" / "real")
    ran = run(*words_of(home, arms=arms))
    assert ran.code == 0, ran.err
    assert [line for line in ran.lines if "finished" in line] == [
        "genkt compare: [5/5] more finished"
    ]
    assert tree(home / "comparison" / "arms" / "real") == kept
    changed = {**arms, "more": ["transfer_set=unlabelled", "transfer_set.max_images=4"]}
    ran = run(*words_of(home, arms=changed))
    assert ran.code == 2 and len(ran.lines) == 2
    assert "overwrite=true trains these again" in ran.lines[0]
    assert ran.lines[1] == "genkt compare: arm more: transfer_set.max_images: was 5, now 4"
    ran = run(*words_of(home, "overwrite=true", arms=changed))
    assert ran.code == 0 and ran.err.count("finished") == 1
    assert tree(home / "comparison" / "arms" / "real") == kept


def test_a_killed_comparison_goes_on_to_the_same_numbers(home: Path, tmp_path: Path) -> None:
    there = tmp_path / "killed"
    there.mkdir()
    (there / "images").symlink_to(home / "images")
    (there / "teacher.pth").symlink_to(home / "teacher.pth")
    words = words_of(there)
    process = Command(words)
    arms = there / "comparison" / "arms"
    until(lambda: list(arms.glob("*/draws/*/*/result.json")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (there / "comparison" / "compare.json").exists()
    (first,) = list(arms.glob("*/draws/*/*/result.json"))[:1]
    trained = first.stat().st_mtime_ns
    assert run(*words).code == 0
    assert first.stat().st_mtime_ns == trained
    whole = numbers(home)
    again = numbers(there)
    names = [each["arm"] for each in again["arms"]]
    whole["cells"] = [cell for cell in whole["cells"] if cell["arm"] in names]
    assert again["cells"] == whole["cells"] and again["pairs"] == whole["pairs"]


def test_an_arm_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    arms = {**STUDY["arms"], "bad": ["method=aft", "method.beta=1", "train.batch_size=2"]}
    words = words_of(tmp_path, arms=arms, sweeps=[], reference="bad", pairs=[["bad", "stl"]])
    ran = run(*words)
    assert ran.code == 2 and "report: " in ran.out
    reason = "train.batch_size: method aft needs at least 3 rows, got 2"
    assert f"genkt compare: arm bad: {reason}" in ran.lines
    found = json.loads((tmp_path / "comparison" / "compare.json").read_text())
    assert found["failed"] == [{"arm": "bad", "reason": reason}]
    assert [each["arm"] for each in found["arms"]] == ["stl", "real"]
    assert found["pairs"] == [] and found["minus_reference"] == []
    assert reason in (tmp_path / "comparison" / "compare.html").read_text()
    assert run(*words).err.count("ended early") == 1  # tried again, and it alone
    for each in (tmp_path / "comparison" / "arms").iterdir():
        assert each.name != "bad" or not (each / "report.json").exists()


def plan_of(home: Path, *more: str, **changes: Any) -> tuple[ArmTask, ...]:
    found = read_comparison(words_of(home, *more, **changes)[1:])
    return make_plan(found.config.study, found.arms, Path(found.config.out)).tasks


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArmTask, ...]:
    """The arms of a comparison that nobody has started."""
    return plan_of(tmp_path_factory.mktemp("planned"))


def test_what_no_user_caused_is_told_in_one_line_with_its_log(
    tasks: tuple[ArmTask, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        print("half of the work")
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("genkt.transfers.run_transfer.run_transfer", broken)
    task = tasks[2]
    assert task.failure() is None and not task.is_done()
    task.run(lambda _: None)
    log = Path(task.home) / "logs" / "real.log"
    assert task.failure() == f"RuntimeError: out of memory (see {log})"
    assert "half of the work" in log.read_text() and "Traceback" in log.read_text()


def test_two_comparisons_in_one_folder_at_once(home: Path) -> None:
    with FileLock(home / "comparison" / ".lock"):
        ran = run(*words_of(home))
    assert ran.code == 2 and "another genkt compare is running there" in ran.err


def test_arms_are_tasks_that_travel_and_know_their_work(tasks: tuple[ArmTask, ...]) -> None:
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    assert tasks[0].size > 0
    with Watch(tasks, "arms") as watch:
        assert watch.seconds_left() is None
        tasks[0].end(None, 1.0)
        assert (watch.seconds_left() or 0) > 0


def test_other_weights_of_a_generator_are_seen(home: Path) -> None:
    task = plan_of(home)[0]
    assert differences(task, {"genkt:x": "new"}) == []  # this arm's run used no generator
    facts = task.folder / "run.json"
    before = facts.read_text()
    try:
        written = {key: json.loads(before)[key] for key in ("config", "command")}
        facts.write_text(json.dumps({**written, "inputs": {"generator genkt:x": "old"}}))
        (line,) = differences(task, {"genkt:x": "new"})
    finally:
        facts.write_text(before)
    assert line == "generator genkt:x: other weights than the arm was started with"


def test_what_arms_do_not_share_is_noticed(tasks: tuple[ArmTask, ...]) -> None:
    shared = {"teacher_accuracy.0": 0.9, "first_weights": "a" * 32}

    def with_extras(name: str, **extras: Any) -> Any:
        found = arm(name, (0.5, 0.6))
        for cell in found.cells:
            cell.result.extras |= {**shared, **extras}
        return found

    arms = [with_extras(task.name) for task in tasks]
    del arms[0].cells[0].result.extras["teacher_accuracy.0"]  # plain fine-tuning has no teacher
    assert warnings(tasks, arms) == []
    (note,) = warnings(tasks, [*arms[:2], with_extras("real", **{"teacher_accuracy.0": 0.8})])
    assert note.startswith("The teacher must be the same in all arms of a draw, and is not (draw 0")
    assert "few 90.00 %, real 80.00 %" in note
    (note,) = warnings(tasks, [*arms[:2], with_extras("real", first_weights="b" * 32)])
    assert note.startswith("The students' first weights must be the same")
    (note,) = warnings(tasks, [replace(arms[0], versions={"torch": "1", "date": "x"}), *arms[1:]])
    assert "same versions" in note
    other = replace(tasks[1].config.teacher, pretrained=True)
    changed = replace(tasks[1], config=replace(tasks[1].config, teacher=other))
    unequal = [with_extras("few", **{"teacher_accuracy.0": 0.8}), with_extras("real")]
    assert warnings([changed, tasks[2]], unequal) == []  # teachers that are meant to differ


def test_every_method_runs_without_a_labelled_row_in_its_batches(tmp_path: Path) -> None:
    reads_labels = {"stl", "cd", "mcl"}  # refused without labelled rows: tests of the methods
    methods = sorted(set(Words().choices("method")) - reads_labels)
    words = [word for word in words_of(tmp_path) if not word.startswith("study=")]
    ran = run(
        *words, f"methods=[{','.join(methods)}]", "transfer_sets=[unlabelled]", "draws=1",
        "train.labelled_per_batch=0", "train.steps=1", "finetune.steps=1",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "comparison" / "compare.json").read_text())
    names = [each["arm"] for each in found["arms"]]
    assert names == ["stl", *(f"{method}-unlabelled" for method in methods)]
    assert all(cell["accuracy_distilled"] is not None for cell in found["cells"][1:])


def test_students_whose_classifier_no_loss_reaches_are_named(tmp_path: Path) -> None:
    mixed = ["transfer_set=mix", "transfer_set.parts=[unlabelled,labelled]"]
    arms = {**STUDY["arms"], "l2": ["method=l2_feature", "transfer_set=unlabelled"],
            "l2_few": ["method=l2_feature", "transfer_set=labelled"],
            "kd": ["method=feature_kd", *mixed]}  # fmt: skip
    tasks = plan_of(tmp_path, arms=arms, sweeps=[], reference=None, pairs=[])
    (note,) = warnings(tasks, [arm(task.name, (0.5,)) for task in tasks])
    assert "that column is chance for: l2, l2_few (" in note
