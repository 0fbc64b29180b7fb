"""The order of a walk: every row once, neighbours near each other, any position computed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_cases import picture_folder, shard
from training_cases import TRANSFORM

import genkt.training.walk as walk
from genkt.data.images import concat
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.io import derive_seed
from genkt.readers.tars import read_tars
from genkt.training.batches import Batches, BatchPlan
from genkt.training.walk import Cursor, Stream
from genkt.transfer_set.open_images import open_images

fast = settings(max_examples=60, deadline=None)
NONE = np.empty(0, dtype=np.int64)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "WINDOW_ROWS", 20)


@st.composite
def blocked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Rows in any order, and blocks of any sizes."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    blocks = np.repeat(draw(st.permutations(range(len(sizes)))), sizes)
    rows = 100 + np.arange(len(blocks))
    if draw(st.booleans()):
        mixed = np.random.default_rng(0).permutation(len(rows))
        rows, blocks = rows[mixed], blocks[mixed]
    return rows, blocks


@fast
@given(blocked(), st.integers(0, 5), st.integers(1, 17))
def test_an_epoch_of_blocks_shows_each_row_once(
    set_: tuple[np.ndarray, np.ndarray], seed: int, step: int
) -> None:
    indices, blocks = set_
    size = len(indices)
    rows = Stream(indices, seed, blocks).take(0, 3 * size)
    for epoch in range(3):
        part = rows[epoch * size : (epoch + 1) * size]
        assert sorted(part[:, 0]) == sorted(indices) and set(part[:, 1]) == {epoch}
    pieces = [Stream(indices, seed, blocks).take(at, step) for at in range(0, 2 * size, step)]
    assert np.array_equal(np.concatenate(pieces)[: 2 * size], rows[: 2 * size])


@fast
@given(blocked(), st.integers(0, 5))
def test_positions_are_cursors_one_to_one(set_: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    indices, blocks = set_
    stream = Stream(indices, seed, blocks)
    cursors = [stream.cursor(position) for position in range(2 * len(indices) + 1)]
    assert cursors == sorted(set(cursors)) and cursors[0] == Cursor(0, 0, 0)
    assert cursors[len(indices)] == Cursor(1, 0, 0)
    for before, after in itertools.pairwise(cursors):
        next_place = (before.epoch, before.window, before.offset + 1)
        new_window = (before.epoch, before.window + 1, 0)
        assert after in (next_place, new_window, (before.epoch + 1, 0, 0))


@fast
@given(blocked(), st.integers(0, 3))
def test_a_window_holds_whole_blocks(set_: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    indices, blocks = set_
    stream = Stream(indices, seed, blocks)
    block_of = dict(zip(indices.tolist(), blocks.tolist(), strict=True))
    rows = stream.take(0, len(indices))[:, 0].tolist()
    windows: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        windows.setdefault(stream.cursor(position).window, []).append(block_of[row])
    if len(indices) <= walk.WINDOW_ROWS:
        assert len(windows) == 1
    sizes = np.bincount(blocks)
    for held in windows.values():
        assert all(held.count(block) == sizes[block] for block in set(held))
        assert len(held) < walk.WINDOW_ROWS + sizes.max() or len(windows) == 1
    assert len(windows) <= -(-len(indices) // walk.WINDOW_ROWS)


def test_blocks_and_windows_are_mixed_anew_every_epoch() -> None:
    indices, blocks = np.arange(400), np.arange(400) // 5
    rows = Stream(indices, 0, blocks).take(0, 800)[:, 0].reshape(2, 400)
    assert not np.array_equal(rows[0], rows[1])
    spread = [len(set(window // 5)) for window in rows[0].reshape(20, 20)]
    assert np.mean(spread) == 4, "a window of 20 rows is 4 blocks of 5"
    assert not np.array_equal(np.sort(rows[0, :20]), np.sort(rows[1, :20]))
    assert np.abs(np.diff(rows[0])).mean() > 50, "blocks from all over the set"


def test_without_blocks_the_order_is_the_permutation_it_always_was() -> None:
    indices = np.arange(50, 130)
    for blocks in (None, np.zeros(80, np.int64)):
        rows = Stream(indices[:19], 7, None if blocks is None else blocks[:19]).take(0, 38)
        for epoch in range(2):
            random = np.random.Generator(np.random.PCG64(derive_seed(7, "order", epoch)))
            expected = indices[:19][random.permutation(19)]
            assert np.array_equal(rows[19 * epoch : 19 * (epoch + 1), 0], expected)
    assert Stream(indices, 7).cursor(85) == Cursor(1, 0, 5)


def test_any_position_of_a_large_set_costs_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    count, shuffled = 1_000_000, []
    shuffle = Stream._shuffled

    def counted(self: Stream, values: np.ndarray, *purpose: int | str) -> np.ndarray:
        shuffled.append(len(values))
        return shuffle(self, values, *purpose)

    monkeypatch.setattr(Stream, "_shuffled", counted)
    for blocks in (None, np.arange(count) // 64):
        shuffled.clear()
        stream = Stream(np.arange(count), 0, blocks)
        first = stream.take(7 * count + count // 3, 256)
        assert sum(shuffled) <= (count if blocks is None else count // 20)
        assert len(np.unique(first[:, 0])) == 256 and (first[:, 1] == 7).all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_over_tars_walk_by_blocks(tmp_path: Path, num_workers: int) -> None:
    images = read_tars([shard(tmp_path / f"{n}.tar", range(80 * n, 80 * n + 80)) for n in range(3)])
    folder = open_images(picture_folder(tmp_path / "few", range(1000, 1010)))
    pool = concat(folder, images)
    assert pool.blocks is not None and len(np.unique(pool.blocks)) == 7
    plan = BatchPlan(np.arange(10), np.arange(10, 250), 12, 4, 0)
    dataset = ViewDataset(pool, FIXED_VIEW, [TRANSFORM])
    batches = Batches(dataset, pool.labels, plan, num_workers=num_workers)
    seen = [row for step in range(30) for row in batches.step_rows(step)[:, 0] if row >= 10]
    assert sorted(seen) == list(range(10, 250)), "30 steps of 8 are an epoch"
    assert len({int(pool.blocks[row]) for row in seen[:16]}) <= 2, "not a permutation of all rows"
    whole = [batch.ids for batch in batches.iterate(0, 30)]
    assert [batch.ids for batch in batches.iterate(11, 30)] == whole[11:]
    assert whole[3] == tuple(batches.step_ids(3))


def _walk(home: Path, log: Path, die: int, num_workers: int) -> None:
    """Load steps up to 50, from where the log ends, and die by SIGKILL before one of them."""
    images = open_images(str(home / "*.tar"))
    plan = BatchPlan(NONE, np.arange(len(images)), 7, 0, 3)
    dataset = ViewDataset(images, FIXED_VIEW, [TRANSFORM])
    batches = Batches(dataset, images.labels, plan, num_workers=num_workers)
    start = len(log.read_text().splitlines()) if log.exists() else 0
    with open(log, "a") as stream:
        for step, batch in enumerate(batches.iterate(start, 50), start):
            if step == die:
                os.kill(os.getpid(), signal.SIGKILL)
            print(*batch.ids, int(batch.images.sum()), file=stream, flush=True)


def test_killed_in_mid_epoch_and_resumed_is_never_killed(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"{number}.tar", range(70 * number, 70 * number + 70))

    def run(log: str, die: int, num_workers: int) -> int | None:
        context = multiprocessing.get_context("fork")
        walker = context.Process(target=_walk, args=(tmp_path, tmp_path / log, die, num_workers))
        walker.start()
        walker.join()
        return walker.exitcode

    assert run("whole.txt", -1, 0) == 0
    assert run("killed.txt", 13, 0) == -signal.SIGKILL  # 210 rows are 30 steps of 7
    assert run("killed.txt", 37, 1) == -signal.SIGKILL
    assert run("killed.txt", -1, 0) == 0
    assert (tmp_path / "killed.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert len((tmp_path / "whole.txt").read_text().splitlines()) == 50
