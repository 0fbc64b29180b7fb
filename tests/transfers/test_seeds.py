"""Several students a draw: the first is the usual one, the others differ in their seed alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused
from test_phases import opened
from tiny import KEPT, Ran, run, student_bits, transfer_words

from genkt.cli.app import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import OUTPUTS
from genkt.runs.student_files import read_result
from genkt.runs.student_places import files_of_arm, student_folder
from genkt.training.checkpoint import STATE
from genkt.transfers.make_sets import with_sets
from genkt.transfers.side_by_side import num_processes, student_tasks
from genkt.types import DamagedError, draw_text

WORDS = [
    "draws=2", "transfer_set=unlabelled", "teacher.adapt=fine_tune", "executor=inline",
    "method=aft", "method.beta=search", "method.beta_grid=[1,10]", "train.steps=2",
]  # fmt: skip


def run_words(home: Path, *more: str) -> list[str]:
    """A run of two draws that searches and adapts its teachers, into ``home/run``."""
    words = [word for word in transfer_words(home) if word not in ("draws=1", "train.steps=4")]
    return [*words, *WORDS, *more]


def started(home: Path, *more: str) -> Ran:
    ran = run(*run_words(home, *more))
    assert ran.code == 0, ran.err
    return ran


def result(home: Path, draw: int, arm: str, seed: int) -> dict[str, Any]:
    path = student_folder(home / "run", draw, arm, seed) / "result.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def every(home: Path, arm: str = "aft") -> dict[tuple[int, int], dict[str, Any]]:
    return {(draw, seed): result(home, draw, arm, seed) for draw in (0, 1) for seed in (0, 1)}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("single")
    started(home)
    return home


@pytest.fixture(scope="module")
def several(single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("several")
    shutil.copytree(single / "images", home / "images")
    started(home, "seeds_per_draw=2")
    return home


def test_the_first_student_of_a_draw_is_the_one_of_a_run_without_seeds(
    single: Path, several: Path
) -> None:
    alone, first = student_bits(single), student_bits(several)
    assert len(alone) == 2 * 2 * len(KEPT) and len(first) == 2 * len(alone)
    assert alone.items() <= first.items()


def test_arms_of_a_draw_and_seed_begin_with_the_same_weights(several: Path) -> None:
    begun = {
        arm: [found["result"]["extras"]["first_weights"] for found in every(several, arm).values()]
        for arm in ("stl", "aft")
    }
    assert begun["stl"] == begun["aft"]
    assert len(set(begun["aft"])) == 4


def test_a_draws_students_share_the_teachers_and_the_search(several: Path) -> None:
    found = every(several)
    for draw in (0, 1):
        first, second = (found[draw, seed] for seed in (0, 1))
        shared = ("beta", "teacher_accuracy.0", "teacher_adapted.0")
        one, two = first["result"]["extras"], second["result"]["extras"]
        assert [one[key] for key in shared] == [two[key] for key in shared]
        assert first["stages"].keys() - second["stages"].keys() == {"teachers", "search"}
    lines = (several / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    adapted = [each for each in records if each["stage"] == "adapt-teacher0"]
    steps = [(draw, step) for draw in (0, 1) for step in (1, 2)]
    assert [(each["draw"], each["step"]) for each in adapted] == steps
    assert not any("seed" in each for each in adapted)
    assert {each.get("seed", 0) for each in records if each["stage"] == "distil"} == {0, 1}


def test_what_only_training_needs_is_removed_after_the_last_student(several: Path) -> None:
    run_folder = several / "run"
    assert not list(run_folder.rglob(STATE)) and not list(run_folder.rglob("search"))
    assert not list((run_folder / "draws").rglob(OUTPUTS))


def test_the_exported_student_did_best_on_validation_of_all(several: Path) -> None:
    found = every(several)
    scores = {key: each["result"]["extras"]["validation_accuracy"] for key, each in found.items()}
    best = max(scores, key=lambda key: (scores[key], -key[0], -key[1]))
    told = json.loads((several / "run" / "report.json").read_text())
    assert (told["exported"]["draw"], told["exported"]["seed"]) == best
    assert told["exported"]["accuracy"] == found[best]["result"]["accuracy"]


def test_lost_and_damaged_students_end_with_the_same_bits(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several / "run", tmp_path / "run")
    before = student_bits(tmp_path)
    (student_folder(tmp_path / "run", 0, "aft", 1) / "result.json").unlink()
    (student_folder(tmp_path / "run", 0, "stl") / "student.safetensors").write_bytes(b"other")
    ran = started(several, "seeds_per_draw=2", f"out={tmp_path / 'run'}")
    assert "draw 0, stl: trained again" in (tmp_path / "run" / "train.log").read_text()
    assert student_bits(tmp_path) == before, ran.err
    assert not list((tmp_path / "run").rglob(STATE))


def test_a_result_in_the_folder_of_another_seed_is_damage(several: Path, tmp_path: Path) -> None:
    source = student_folder(several / "run", 0, "aft", 1)
    for place in (student_folder(tmp_path, 0, "aft"), student_folder(tmp_path, 0, "aft", 2)):
        place.mkdir(parents=True)
        shutil.copy(source / "result.json", place)
        with pytest.raises(DamagedError):
            read_result(place)
    assert read_result(source)[0].seed == 1


def test_students_of_a_draw_have_the_same_rows_in_other_orders_and_views(tmp_path: Path) -> None:
    run = with_sets(opened(tmp_path / "run", "seeds_per_draw=3"))
    draw = run.pool.draws[0]
    first, *others = run.opened.students_of(draw)
    assert first is draw and [each.student for each in others] == [1, 2]
    transforms, settings = [run.opened.fresh_student().transform], run.config.train

    def seen(student: int, *, labelled_only: bool) -> np.ndarray:
        own = run.opened.students_of(draw)[student]
        assert own.labelled is draw.labelled and own.transfer is draw.transfer
        batches = run.images.batches(own, settings, transforms, labelled_only=labelled_only)
        return np.concatenate([batches.step_rows(step) for step in range(8)])

    one, two = (seen(number, labelled_only=False) for number in (0, 1))
    assert not np.array_equal(one[:, 0], two[:, 0])
    fresh = [set(seen(number, labelled_only=True)[:, 1].tolist()) for number in (0, 1, 2)]
    assert not fresh[0] & fresh[1] and not fresh[1] & fresh[2] and not fresh[0] & fresh[2]
    num_views = run.images.views.num_views
    assert not draw.for_student(1).first_epoch % num_views  # a whole order of the stored views
    assert len({each.seed_for("student") for each in (first, *others)}) == 3


def test_one_task_trains_all_students_of_an_arm_on_a_draw(several: Path, tmp_path: Path) -> None:
    words = run_words(several, "seeds_per_draw=2")[1:]
    tasks = student_tasks(read_config(TransferConfig, "transfer", words), {})
    assert [task.size for task in tasks] == [2] * 4 and all(task.is_done() for task in tasks)
    there = read_config(TransferConfig, "transfer", [*words, f"out={tmp_path}"])
    source = student_folder(several / "run", 0, "aft")
    shutil.copytree(source, student_folder(tmp_path, 0, "aft"))
    (done,) = [task for task in student_tasks(there, {}) if task.num_done()]
    assert (done.draw, done.arm, done.num_done(), done.is_done()) == (0, "aft", 1, False)
    assert num_processes(there) == 1


def test_files_of_an_arm_are_those_of_all_its_students(several: Path) -> None:
    found = files_of_arm(several / "run", "aft", "student.safetensors")
    assert len(found) == 4 and draw_text(1, 1) == "draw 1, seed 1" and draw_text(1, 0) == "draw 1"


def test_the_estimate_counts_every_student(tmp_path: Path) -> None:
    ran = run(*run_words(tmp_path, "seeds_per_draw=3", "dry_run=true"))
    assert ran.code == 0 and "2 draws x 3 seeds x 2 arms" in ran.out, ran.err


def test_a_recipe_cannot_take_the_name_of_a_folder_of_seeds(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "recipe=composed", "recipe.name=seed1")[1:]
    with refused("recipe.name", "seed1"):
        read_config(TransferConfig, "transfer", words)
