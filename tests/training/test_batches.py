"""Which rows a step sees: a pure function of (seed, step), shared evenly, labels masked."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from training_cases import NUM_LABELLED, TRANSFORM, Case, pictures, tiny_net

from genkt.data.images import from_arrays
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec, view_index_for
from genkt.io import derive_seed
from genkt.training.batch_parts import split_batch
from genkt.training.batches import (
    Batches,
    BatchPlan,
    Stream,
    TransferPart,
    loader_workers,
    shared_counts,
)
from genkt.training.teacher import cache_outputs

fast = settings(max_examples=40, deadline=None)
NONE = np.empty(0, dtype=np.int64)


@fast
@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 17))
def test_each_row_is_seen_once_an_epoch(size: int, seed: int, step: int) -> None:
    indices = np.arange(100, 100 + size)
    rows = Stream(indices, seed).take(0, 3 * size)
    for epoch in range(3):
        part = rows[epoch * size : (epoch + 1) * size]
        assert sorted(part[:, 0]) == indices.tolist() and set(part[:, 1]) == {epoch}
    # Read in pieces, or from the middle by a fresh stream: the same rows.
    pieces = [Stream(indices, seed).take(at, step) for at in range(0, 2 * size, step)]
    assert np.array_equal(np.concatenate(pieces)[: 2 * size], rows[: 2 * size])


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    indices = np.arange(50)
    first, other = Stream(indices, 0).take(0, 100)[:, 0], Stream(indices, 1).take(0, 50)[:, 0]
    assert not np.array_equal(first[:50], first[50:]) and not np.array_equal(first[:50], other)


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    num_labelled = draw(st.integers(0, 20))
    num_transfer = draw(st.integers(0 if num_labelled else 1, 30))
    batch_size = 12 * draw(st.integers(1, 4))
    per_batch = draw(st.integers(0, batch_size - 1))
    labelled, transfer = np.arange(num_labelled), 1000 + np.arange(num_transfer)
    return BatchPlan(labelled, transfer, batch_size, per_batch, draw(st.integers(0, 9)))


@fast
@given(plans(), st.integers(0, 30))
def test_a_step_has_its_rows_of_both_kinds_spread_evenly(plan: BatchPlan, step: int) -> None:
    rows = plan.rows(step)
    num_labelled, num_transfer = plan.counts
    known = rows[:, 0] < 1000
    assert len(rows) == plan.batch_size == num_labelled + num_transfer
    assert known.sum() == num_labelled
    for parts in (2, 3, 4, 12):
        shares = known.reshape(parts, -1).sum(axis=1)
        assert np.ptp(shares) <= 1
    fresh = BatchPlan(plan.labelled, plan.transfer, plan.batch_size, num_labelled, plan.seed) if (
        0 < num_labelled < plan.batch_size
    ) else plan  # fmt: skip
    assert np.array_equal(fresh.rows(step), rows)


@fast
@given(plans(), st.integers(0, 30))
def test_without_parts_the_rows_are_those_of_two_streams(plan: BatchPlan, step: int) -> None:
    parts, places = [], []
    for count, indices, name in zip(
        plan.counts, (plan.labelled, plan.transfer), ("labelled", "transfer"), strict=True
    ):
        if count:
            stream = Stream(indices, derive_seed(plan.seed, name))
            parts.append(stream.take(step * count, count))
            places.append((np.arange(count) + 0.5) / count)
    order = np.argsort(np.concatenate(places), kind="stable")
    assert np.array_equal(plan.rows(step), np.concatenate(parts)[order])


weights = st.lists(
    st.one_of(st.integers(1, 9), st.floats(1e-6, 50, allow_nan=False)), min_size=1, max_size=6
)


@fast
@given(weights, st.integers(0, 500))
def test_shares_add_up_grow_and_stay_close(shares: list[float], total: int) -> None:
    counts, more = shared_counts(total, shares), shared_counts(total + 1, shares)
    assert sum(counts) == total and sum(more) == total + 1
    grown = np.subtract(more, counts)
    assert grown.min() >= 0 and grown.max() == 1
    exact = total * np.array(shares) / sum(shares)
    assert np.abs(counts - exact).max() <= 1 + len(shares) / 4


@fast
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 20))
def test_shares_are_exact_where_they_are_whole_numbers(shares: list[int], times: int) -> None:
    expected = [times * share for share in shares]
    assert shared_counts(times * sum(shares), shares) == expected
    tenths = [share / 10 for share in shares]
    assert shared_counts(times * sum(shares), tenths) == expected


@st.composite
def mixes(draw: st.DrawFn) -> BatchPlan:
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    shares = draw(st.lists(st.integers(1, 5), min_size=len(sizes), max_size=len(sizes)))
    parts = tuple(
        TransferPart(1000 * (place + 1) + np.arange(size), share / 10)
        for place, (size, share) in enumerate(zip(sizes, shares, strict=True))
    )
    labelled = np.arange(draw(st.integers(0, 20)))
    transfer = np.concatenate([part.rows for part in parts])
    batch_size = 12 * draw(st.integers(1, 4))
    per_batch = draw(st.integers(0, batch_size - 1))
    return BatchPlan(labelled, transfer, batch_size, per_batch, draw(st.integers(0, 9)), parts)


@fast
@given(mixes(), st.integers(0, 30))
def test_parts_share_every_batch(plan: BatchPlan, step: int) -> None:
    rows = plan.rows(step)
    num_labelled, num_transfer = plan.counts
    assert len(rows) == plan.batch_size and (rows[:, 0] < 1000).sum() == num_labelled
    for parts in (2, 3, 4, 12):  # the labelled rows stay spread as evenly as without parts
        assert np.ptp((rows[:, 0] < 1000).reshape(parts, -1).sum(axis=1)) <= 1
    shares = [part.share for part in plan.parts]
    total = sum(shares)
    for place, part in enumerate(plan.parts):
        seen = (rows[:, 0] // 1000 == place + 1).sum()
        assert abs(seen - num_transfer * part.share / total) < 2 + len(shares) / 2
    fresh = BatchPlan(
        plan.labelled, plan.transfer, plan.batch_size, plan.labelled_per_batch, plan.seed,
        plan.parts,
    )  # fmt: skip
    assert np.array_equal(fresh.rows(step), rows)


@fast
@given(mixes())
def test_each_part_is_walked_epoch_after_epoch(plan: BatchPlan) -> None:
    rows = np.concatenate([plan.rows(step) for step in range(12)])
    _, num_transfer = plan.counts
    for place, part in enumerate(plan.parts):
        own = rows[rows[:, 0] // 1000 == place + 1]
        assert len(own) == shared_counts(
            12 * num_transfer, [part.share for part in plan.parts]
        )[place]  # fmt: skip
        for epoch in np.unique(own[:, 1])[:-1]:
            assert sorted(own[own[:, 1] == epoch, 0]) == part.rows.tolist()


@fast
@given(plans(), st.integers(0, 9))
def test_the_ranks_share_a_batch_without_overlap(plan: BatchPlan, step: int) -> None:
    count = 1030
    arrays = np.zeros((count, 1, 1), dtype=np.uint8)
    images = from_arrays(arrays, np.zeros(count, dtype=np.int64), ("a", "b"), "x")
    dataset = ViewDataset(images, ViewSpec(num_views=3, hflip=True), [TRANSFORM])
    labels = np.zeros(count, dtype=np.int64)
    whole = Batches(dataset, labels, plan).step_rows(step)
    for world_size in (2, 3, 4):
        shares = [
            Batches(dataset, labels, plan, rank=rank, world_size=world_size).step_rows(step)
            for rank in range(world_size)
        ]
        assert np.array_equal(np.concatenate(shares), whole)
    for (index, view), (_, epoch) in zip(whole.tolist(), plan.rows(step).tolist(), strict=True):
        assert view == view_index_for(dataset.spec, images.ids[index], epoch)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_views", [1, 2, 0])
def test_a_batch_holds_what_its_rows_say(tmp_path: Path, num_workers: int, num_views: int) -> None:
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, ("a", "b", "c"), "tiny")
    known = labels.copy()
    known[NUM_LABELLED:] = -1
    spec = ViewSpec(num_views=num_views, hflip=num_views != 1)
    plan = BatchPlan(np.arange(16), np.arange(16, 48), 12, 4, 0)
    dataset = ViewDataset(images, spec, [TRANSFORM])
    stores = []
    if num_views:
        stores = [cache_outputs(tiny_net().freeze(), images, spec, tmp_path, dtype="float32")]
    batches = Batches(dataset, known, plan, stores, num_workers=num_workers)
    loaded = list(batches.iterate(5, 9))
    assert len(loaded) == 4
    for step, batch in enumerate(loaded, start=5):
        rows = batches.step_rows(step)
        assert list(batch.ids) == [images.ids[index] for index in rows[:, 0]]
        assert list(batch.ids) == batches.step_ids(step)
        assert torch.equal(batch.labels, torch.from_numpy(known[rows[:, 0]]))
        assert (batch.labels >= 0).sum() == 4 and (batch.labels == -1).sum() == 8
        for place, (index, view) in enumerate(rows.tolist()):
            assert torch.equal(batch.images[place], dataset[(index, view)][0])
        if stores:
            model = tiny_net().freeze()
            expected = model(model.normalize(batch.images)).features
            torch.testing.assert_close(batch.teachers[0].features, expected)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    batches = Case(tmp_path).with_settings(num_workers=1).stage().batches
    before = torch.get_rng_state()
    next(batches.iterate(0, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_store_of_other_images_or_views_is_refused(tmp_path: Path) -> None:
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, ("a", "b", "c"), "tiny")
    store = cache_outputs(tiny_net().freeze(), images, FIXED_VIEW, tmp_path)
    plan = BatchPlan(np.arange(4), NONE, 4, 0, 0)
    fewer = images.select(np.arange(20))
    with refused("ab3923f42ca35917f2f8ce1e9579c10d"):
        Batches(ViewDataset(fewer, FIXED_VIEW, [TRANSFORM]), labels[:20], plan, [store])
    for spec in (ViewSpec(num_views=2, hflip=True), ViewSpec(num_views=0, hflip=True)):
        with refused("ab3923f42ca35917f2f8ce1e9579c10d"):
            Batches(ViewDataset(images, spec, [TRANSFORM]), labels, plan, [store])


def test_impossible_plans_are_refused(tmp_path: Path) -> None:
    with refused(key="images", got="none"):
        BatchPlan(NONE, NONE, 4, 0, 0)
    with refused(key="train.labelled_per_batch", got=4):
        BatchPlan(np.arange(3), np.arange(3), 4, 4, 0)
    for rows, share in ((NONE, 1.0), (np.arange(3), 0.0)):
        with refused(got=[(len(rows), share)]):
            BatchPlan(NONE, np.arange(3), 4, 0, 0, (TransferPart(rows, share),))
    assert BatchPlan(np.arange(3), NONE, 4, 4, 0).counts == (4, 0)
    stage = Case(tmp_path).stage()
    with refused(key="train.batch_size", got=12):
        Batches(stage.batches.dataset, stage.batches.labels, stage.batches.plan, world_size=5)


@pytest.mark.parametrize("parts", [1, 2, 5, 12])
def test_micro_batches_are_the_batch_in_order(tmp_path: Path, parts: int) -> None:
    batch = next(Case(tmp_path, "kd").stage().batches.iterate(0, 1))
    micro = split_batch(batch, parts)
    assert len(micro) == parts and max(len(m.ids) for m in micro) <= -(-12 // parts)
    assert tuple(itertools.chain(*(m.ids for m in micro))) == batch.ids
    assert torch.equal(torch.cat([m.images for m in micro]), batch.images)
    logits = [m.teachers[0].logits for m in micro]
    assert batch.teachers[0].logits is not None
    assert torch.equal(torch.cat([part for part in logits if part is not None]),
                       batch.teachers[0].logits)  # fmt: skip


def test_automatic_loader_processes() -> None:
    arrays, labels = pictures()
    images = from_arrays(arrays, labels, ("a", "b", "c"), "tiny")
    assert loader_workers(3, images, in_memory=True) == 3
    assert loader_workers("auto", images, in_memory=True) == 0
    assert 0 <= loader_workers("auto", images, in_memory=False) <= 8
