"""Teachers answer what students look at and nothing else; an estimate says how much that is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import run, transfer_words

from genkt.comparison.arm_budget import arm_budget
from genkt.data.views import ViewSpec, view_index_for
from genkt.stages.asked_views import AskedViews, views_of_draws
from genkt.training.batches import BatchPlan, TransferPart


def pairs(plan: BatchPlan, num_steps: int, spec: ViewSpec) -> set[tuple[int, int]]:
    """Every sample and view of every step."""
    rows = np.concatenate([plan.rows(step) for step in range(num_steps)]).tolist()
    return {(sample, view_index_for(spec, f"id{sample}", epoch)) for sample, epoch in rows}


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3), num_steps=st.integers(1, 12),
    num_views=st.integers(1, 4), labelled=st.integers(0, 6), num_transfer=st.integers(1, 25),
    mixed=st.booleans(),
)  # fmt: skip
def test_views_are_counted_without_looking_at_a_row(
    seeds: list[int], num_steps: int, num_views: int, labelled: int, num_transfer: int, mixed: bool
) -> None:
    spec = ViewSpec(num_views=num_views, seed=3, rotate_degrees=5.0)
    transfer = np.arange(2, 2 + num_transfer)  # some labelled ones are among them
    parts = (TransferPart(transfer[:1], 0.25), TransferPart(transfer, 0.75)) if mixed else ()
    plans = [BatchPlan(np.arange(labelled), transfer, 7, 2, seed, parts) for seed in seeds]
    epochs = [plan.epochs(num_steps, 40) for plan in plans]
    looked = [pairs(plan, num_steps, spec) for plan in plans]
    asked = AskedViews()
    assert asked.add("a", epochs[0], num_views) == len(looked[0])
    assert asked.add("a", epochs[0], num_views) == 0 < asked.add("b", epochs[0], num_views)
    assert views_of_draws(epochs, num_views) == len(set.union(*looked))
    assert views_of_draws(epochs, num_views, shared=False) == sum(map(len, looked))


def test_students_of_a_draw_share_as_many_views_as_is_to_be_expected() -> None:
    rng = np.random.default_rng(0)
    epochs = np.full(4000, 2)
    orders = [rng.permuted(np.tile(np.arange(8), (4000, 1)), axis=1)[:, :2] for _ in range(3)]
    different = sum(len(set(np.concatenate(rows))) for rows in zip(*orders, strict=True))
    assert views_of_draws([epochs], 8, students=3) == pytest.approx(different, rel=0.02)


WORDS = ["transfer_set=unlabelled", "executor=inline", "finetune.steps=1", "baseline=false"]


def kept(home: Path) -> int:
    """Rows that are in the caches of ``home``."""
    return sum(int((np.load(path) != 0).sum()) for path in home.glob("cache/*.rows/checks.npy"))


@pytest.mark.parametrize(
    "words",
    [
        ["draws=2", "train.batch_size=5", "train.labelled_per_batch=1", "train.steps=2"],
        ["draws=1", "train.batch_size=5", "train.labelled_per_batch=1", "train.steps=3",
         "teacher.adapt=linear_probe", "data.views.num_views=3"],
        ["draws=1", "train.steps=40"],
    ],
)  # fmt: skip
def test_a_run_computes_as_many_views_as_its_estimate_says(
    words: list[str], tmp_path: Path
) -> None:
    told = run(*transfer_words(tmp_path, *WORDS, *words, "dry_run=true"))
    found = re.search(r"([\d,]+) views to answer", told.out)
    assert found, told.out + told.err
    assert run(*transfer_words(tmp_path, *WORDS, *words)).code == 0
    assert kept(tmp_path) == int(found[1].replace(",", ""))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    if "draws=1" in words:
        budget = arm_budget(report, "logit_kd")
        assert budget is not None and budget.teacher_images == kept(tmp_path)


def test_a_longer_run_computes_what_is_missing(tmp_path: Path) -> None:
    words = ["draws=1", "train.batch_size=5", "train.labelled_per_batch=1"]
    assert run(*transfer_words(tmp_path, *WORDS, *words, "train.steps=2")).code == 0
    (store,) = tmp_path.glob("cache/*.rows")
    before, few = np.load(store / "checks.npy"), kept(tmp_path)
    longer = transfer_words(tmp_path, *WORDS, *words, "train.steps=4", f"out={tmp_path / 'longer'}")
    assert run(*longer).code == 0
    after = np.load(store / "checks.npy")
    assert few < kept(tmp_path) < len(after) and (after[before != 0] == before[before != 0]).all()
