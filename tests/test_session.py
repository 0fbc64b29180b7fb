"""Which views the stages of a run see."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.run_folder import RunFolder
from genkt.runs.session import Session
from genkt.transfers.open_run import Given, open_session


def opened(out: Path, *words: str) -> Session:
    own = ["transfer_set=unlabelled", "device=cpu"]
    arguments = [f"out={out}", f"cache={out}-cache", *own, *words]
    config = read_config(TransferConfig, "transfer", arguments)
    return open_session(config, RunFolder(out, asdict(config), overwrite=False), Given())


@pytest.mark.parametrize(("stored", "without_teacher"), [(8, 0), (1, 1)])
def test_only_stages_with_a_teacher_are_held_to_the_stored_views(
    stored: int, without_teacher: int, tmp_path: Path
) -> None:
    session = opened(tmp_path / "run", f"data.views.num_views={stored}")
    draw = session.pool.draws[0]
    transforms = [session.student(10, 0).transform]
    settings = session.config.train
    distil = session.batches(draw, settings, transforms, labelled_only=False)
    plain = session.batches(draw, settings, transforms, labelled_only=True)
    assert distil.dataset.spec.num_views == stored
    assert plain.dataset.spec.num_views == without_teacher
    assert not len(plain.plan.transfer)


def test_the_baseline_never_sees_a_picture_twice(tmp_path: Path) -> None:
    session = opened(tmp_path / "run")
    draw = session.pool.draws[0]
    plain = session.batches(
        draw, session.config.train, [session.student(10, 0).transform], labelled_only=True
    )
    rows = {tuple(row) for step in range(3) for row in plain.step_rows(step).tolist()}
    assert len(rows) == 3 * session.config.train.batch_size


def test_a_teacher_is_built_once(tmp_path: Path) -> None:
    session = opened(tmp_path / "run")
    assert session.teacher(0) is session.teacher(0)
    assert session.teacher(0).frozen
