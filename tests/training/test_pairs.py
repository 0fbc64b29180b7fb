"""Pairs of views: side by side, fresh in every epoch, the same for every division of the work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from genkt.data.images import from_arrays
from genkt.data.views import ImageTransform, ViewDataset, ViewSpec
from genkt.training.batches import Batches, BatchPlan, TransferPart
from genkt.training.view_pairs import PairPlan

HALF = (0.5, 0.5, 0.5)
NONE = np.empty(0, dtype=np.int64)


def plan(num: int = 10, batch_size: int = 8, parts: tuple[TransferPart, ...] = ()) -> PairPlan:
    rows = np.arange(num) + 3
    return PairPlan(
        labelled=NONE, transfer=rows, batch_size=batch_size, labelled_per_batch=0, seed=1,
        parts=parts,
    )  # fmt: skip


@given(num=st.integers(1, 12), pairs=st.integers(1, 9), step=st.integers(0, 20))
def test_rows_are_neighbours_and_no_view_comes_twice(num: int, pairs: int, step: int) -> None:
    found = plan(num, 2 * pairs).rows(step)
    first, second = found[0::2], found[1::2]
    assert found.shape == (2 * pairs, 2)
    assert (first[:, 0] == second[:, 0]).all()
    assert (first[:, 1] % 2 == 0).all() and (second[:, 1] == first[:, 1] + 1).all()
    assert len({tuple(row) for row in found.tolist()}) == 2 * pairs


def test_every_image_comes_once_an_epoch_with_two_new_views() -> None:
    rows = np.concatenate([plan().rows(step) for step in range(10)])  # 40 images: 4 epochs of 10
    for image in range(3, 13):
        views = rows[rows[:, 0] == image, 1]
        assert sorted(views.tolist()) == list(range(8))
    order = rows[0::2, 0].reshape(4, 10)
    assert all(sorted(epoch) == list(range(3, 13)) for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) > 1


def test_the_order_of_images_is_that_of_a_plan_of_half_the_rows() -> None:
    halves = BatchPlan(NONE, plan().transfer, 4, 0, 1)
    for step in range(5):
        assert plan().rows(step)[0::2, 0].tolist() == halves.rows(step)[:, 0].tolist()


def test_an_epoch_is_one_pass_over_the_images() -> None:
    assert plan().counts == (0, 4)
    labelled = PairPlan(np.arange(6), NONE, 6, 0, 1)
    assert labelled.counts == (3, 0)
    rows = np.concatenate([labelled.rows(step) for step in range(2)])
    assert sorted(rows[0::2, 0].tolist()) == list(range(6))


def test_parts_keep_their_shares() -> None:
    parts = (TransferPart(np.array([3, 4]), 3.0), TransferPart(np.array([8, 9, 10]), 1.0))
    rows = np.concatenate([plan(parts=parts).rows(step) for step in range(6)])[0::2, 0]
    assert np.isin(rows, [3, 4]).mean() == 0.75


@pytest.mark.parametrize("size", [1, 7])
def test_an_odd_number_of_rows_is_refused(size: int) -> None:
    with refused(key="batch_size", got=size):
        plan(batch_size=size)


def test_processes_and_workers_read_the_same_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (13, 9, 9, 3)).astype(np.uint8)
    images = from_arrays(pixels, [-1] * 13, (), "pairs")
    views = ViewDataset(
        images, ViewSpec(num_views=0, hflip=True, crop_scale=(0.3, 1.0)),
        [ImageTransform((8, 8), HALF, HALF, "bilinear", 1.0)],
    )  # fmt: skip
    labels = np.full(13, -1)
    whole = Batches(views, labels, plan())
    ranks = [Batches(views, labels, plan(), rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(3):
        parts = [part.step_rows(step).tolist() for part in ranks]
        assert parts[0] + parts[1] == whole.step_rows(step).tolist()
    workers = Batches(views, labels, plan(), num_workers=1)
    for one, other in zip(whole.iterate(1, 4), workers.iterate(1, 4), strict=True):
        assert (one.images == other.images).all() and one.ids == other.ids
        assert one.ids[0::2] == one.ids[1::2]
        assert (one.images[0::2] != one.images[1::2]).any()
