"""A run in its phases: what each holds, which views its stages see, and that none is changed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import pytest
from tiny import picture, transfer_words
from tiny_generator import save_tiny_generator

from genkt.cli.app import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import RunFolder
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun


def opened(out: Path, *words: str) -> OpenedRun:
    own = ["transfer_set=unlabelled", "device=cpu"]
    arguments = [f"out={out}", f"cache={out}-cache", *own, *words]
    return opened_by(arguments)


def opened_by(arguments: list[str]) -> OpenedRun:
    config = read_config(TransferConfig, "transfer", arguments)
    return open_run(config, RunFolder(config.out, asdict(config), overwrite=False))


@pytest.mark.parametrize(("stored", "without_teacher"), [(8, 0), (1, 1)])
def test_only_stages_with_a_teacher_are_held_to_the_stored_views(
    stored: int, without_teacher: int, tmp_path: Path
) -> None:
    run = with_sets(opened(tmp_path / "run", f"data.views.num_views={stored}"))
    draw = run.pool.draws[0]
    transforms = [run.opened.fresh_student().transform]
    settings = run.config.train
    distil = run.images.batches(draw, settings, transforms, labelled_only=False)
    plain = run.images.batches(draw, settings, transforms, labelled_only=True)
    answered = run.images.batches(draw, settings, transforms, labelled_only=False, fresh_views=True)
    assert distil.dataset.spec.num_views == stored
    assert plain.dataset.spec.num_views == answered.dataset.spec.num_views == without_teacher
    assert not len(plain.plan.transfer) and len(answered.plan.transfer)


def test_the_baseline_never_sees_a_picture_twice(tmp_path: Path) -> None:
    run = with_sets(opened(tmp_path / "run"))
    transforms = [run.opened.fresh_student().transform]
    plain = run.images.batches(run.pool.draws[0], run.config.train, transforms, labelled_only=True)
    rows = {tuple(row) for step in range(3) for row in plain.step_rows(step).tolist()}
    assert len(rows) == 3 * run.config.train.batch_size


def test_a_teacher_is_built_once(tmp_path: Path) -> None:
    teachers = with_sets(opened(tmp_path / "run")).teachers
    assert teachers.base(0) is teachers.base(0)
    assert teachers.base(0).frozen


def test_making_sets_leaves_the_opened_run_as_it_was(tmp_path: Path) -> None:
    generator = save_tiny_generator(tmp_path / "generator")
    words = ["transfer_set=digg", f"transfer_set.generator={generator}", "draws=2"]
    before = opened_by(transfer_words(tmp_path, *words, "transfer_set.num_images=5")[1:])
    ids, notes, draws = before.pool.images.ids, before.pool.notes, before.pool.draws
    run = with_sets(before)
    assert before.pool.images.ids == ids and before.pool.notes == notes
    assert all(draw is old for draw, old in zip(before.pool.draws, draws, strict=True))
    assert len(run.pool.images) == len(ids) + 2 * 5
    planned, made = before.planned_draw, run.pool.draws[0]
    assert len(planned.transfer) == len(made.transfer) == before.num_made == 5
    with pytest.raises(FrozenInstanceError):
        before.pool = run.pool  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        run.sets = ()  # type: ignore[misc]


def test_a_dry_run_retrieves_a_handful(tmp_path: Path) -> None:
    from tiny import run

    for number in range(30):
        (tmp_path / "gallery").mkdir(exist_ok=True)
        picture(number % 3, 500 + number).save(tmp_path / "gallery" / f"{number}.png")
    encoder = "transfer_set.encoder"
    words = [
        "transfer_set=retrieved", f"transfer_set.gallery={tmp_path / 'gallery'}",
        f"{encoder}.model=pixels", f"{encoder}.shares=null", f"{encoder}.duplicates=null",
        f"{encoder}.leaks=null", "transfer_set.num_threads=1",
        "transfer_set.num_images=5000", "transfer_set.on_shortage=error",
    ]  # fmt: skip
    ran = run(*transfer_words(tmp_path, *words, "dry_run=true"))
    assert ran.code == 0 and "5000 of them retrieved" in ran.out, ran.err
