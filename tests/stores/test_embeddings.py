"""The store of embeddings: planned shards, resumed, extended, never stale, never damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import refused
from tiny import tree

from genkt.data.crops import CropSpec
from genkt.retrieval.gallery import open_gallery
from genkt.stores.embeddings import EmbeddingStore, embedding_identity, unit_rows

WIDTH = 5
CROPS = CropSpec(3, 0, 16, (0.08, 1.0), (0.75, 1.333), 2, 9)


def identity(encoder: str = "a", crops: CropSpec | None = None) -> dict[str, object]:
    return embedding_identity(encoder=encoder, width=WIDTH, transform={"size": 8}, crops=crops)


def row_of(sample_id: str, part: int = 0) -> NDArray[np.float64]:
    """What our encoder makes of an image: a function of its id."""
    seed = [*sample_id.encode(), part]
    return np.random.default_rng(seed).normal(size=WIDTH)


def fill(store: EmbeddingStore, ids: list[str], shard_size: int = 3, most: int = 99) -> int:
    """Make the planned shards that are missing; how many images were encoded."""
    made = 0
    for shard in store.plan(ids, shard_size)[:most]:
        if store.is_done(shard.name):
            continue
        names = [ids[place] for place in shard.images]
        rows = [row_of(name, part) for name in names for part in range(store.rows_per_image)]
        store.write(shard.name, names, np.stack(rows))
        made += len(names)
    return made


def ids_of(count: int, start: int = 0) -> list[str]:
    return [f"pic/{number:03d}.png#{number:016x}" for number in range(start, start + count)]


def test_rows_come_back_in_the_order_asked(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity(crops=CROPS)), ids_of(10)
    assert fill(store, ids) == 10
    asked = [*reversed(ids)][:7]
    gallery = open_gallery(asked, [store, store], tmp_path / "work")
    assert gallery.num_rows == 21 and gallery.images.tolist() == list(range(7))
    expected = unit_rows(np.stack([row_of(each, part) for each in asked for part in range(3)]))
    for block in gallery.features(2, 19):
        np.testing.assert_array_equal(block, expected[2:19])
    assert gallery.ids(np.array([0, 4, 20])) == [
        f"{asked[0]}@0", f"{asked[1]}@1", f"{asked[6]}@2"
    ]  # fmt: skip
    assert block.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(expected.astype(float), axis=1), 1, atol=1e-3)


@given(st.permutations(range(12)), st.integers(1, 5), st.integers(0, 12))
@settings(max_examples=8, deadline=None)
def test_any_history_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], shard_size: int, first: int
) -> None:
    home, ids = tmp_path_factory.mktemp("home"), ids_of(12)
    store = EmbeddingStore(str(home / "store"), identity())
    made = fill(store, [ids[place] for place in order[:first]], shard_size)
    made += fill(store, [ids[place] for place in order], shard_size)
    assert made == 12  # none twice
    gallery = open_gallery(ids, [store], home / "work")
    np.testing.assert_array_equal(
        gallery.features(0, 12)[0], unit_rows(np.stack([row_of(each) for each in ids]))
    )


def test_an_interrupted_store_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    ids = ids_of(11)
    whole = EmbeddingStore(str(tmp_path / "whole"), identity())
    fill(whole, ids)
    cut = EmbeddingStore(str(tmp_path / "cut"), identity())
    shards = cut.plan(ids, 3)
    for place in (2, 0):  # as a pool may leave them
        names = [ids[image] for image in shards[place].images]
        cut.write(shards[place].name, names, np.stack([row_of(name) for name in names]))
    assert [s.name for s in cut.plan(ids, 3)] == [s.name for s in shards]  # for a late process
    assert fill(cut, ids) == 5
    assert tree(Path(whole.home)) == tree(Path(cut.home))


def test_new_changed_and_removed_images(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(8)
    fill(store, ids)
    changed = ids[2].replace("#", "#f")
    grown = [*ids[:2], changed, *ids[3:7], *ids_of(2, start=50)]  # one other, one gone, two new
    assert fill(store, grown) == 3
    gallery = open_gallery(grown, [store], tmp_path / "work")
    assert gallery.num_rows == 9 and changed in gallery.ids(np.arange(9))
    assert fill(store, ids) == 0


def test_another_encoder_transform_or_crop_is_another_store(tmp_path: Path) -> None:
    home = str(tmp_path)
    identities = [
        identity(), identity("b"), identity(crops=CROPS),
        embedding_identity(encoder="a", width=WIDTH, transform={"size": 9}, crops=None),
        embedding_identity(
            encoder="a", width=WIDTH, transform={"size": 8}, crops=None, decoding=2
        ),
        identity(crops=CropSpec(3, 1, 16, (0.08, 1.0), (0.75, 1.333), 2, 9)),
    ]  # fmt: skip
    assert len({EmbeddingStore(home, each).path for each in identities}) == len(identities)


def test_damage_is_noticed_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(6)
    fill(store, ids)
    first, second = sorted((store.path / "shards").glob("*.npy"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(bytes(data))
    second.write_bytes(second.read_bytes()[:-2])
    assert fill(store, ids) == 6 and "damaged" in caplog.text
    gallery = open_gallery(ids, [store], tmp_path / "work")
    np.testing.assert_array_equal(
        gallery.features(0, 6)[0], unit_rows(np.stack([row_of(each) for each in ids]))
    )


def test_an_image_that_somebody_could_read_has_its_rows(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(2)
    store.plan(ids, 2)
    store.write("a", ids[:1], row_of(ids[0])[None], {ids[1]: "no such codec"})
    assert open_gallery(ids, [store], tmp_path / "before").skipped == {ids[1]: "no such codec"}
    store.write("b", ids[1:], row_of(ids[1])[None])
    gallery = open_gallery(ids, [store], tmp_path / "after")
    assert gallery.skipped == {} and gallery.num_rows == 2


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(3)
    fill(store, ids)
    old, new = (store.path / "shards" / f".{name}.npy.abcdefgh.npy" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert fill(store, ids) == 0 and new.exists() and not old.exists()


def test_a_gallery_stays_whole_while_others_write_the_same_rows(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(6)
    fill(store, ids)
    expected = unit_rows(np.stack([row_of(each) for each in ids]))
    first = open_gallery(ids, [store], tmp_path / "work")
    assert first.num_rows == 6  # it has begun to read
    store.write("0" * 32, ids[4:], np.stack([row_of(each) for each in ids[4:]]))
    second = open_gallery(ids, [store], tmp_path / "work")
    assert first.where != second.where and first.fingerprint == second.fingerprint
    for gallery in (first, second):
        np.testing.assert_array_equal(gallery.features(0, 6)[0], expected)


def test_unreadable_images_have_no_rows_and_are_not_tried_again(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(3)
    (shard,) = store.plan(ids, 5)
    names = [ids[0], ids[2]]
    rows = np.stack([row_of(name) for name in names])
    store.write(shard.name, names, rows, {ids[1]: "not a picture"})
    assert fill(store, ids) == 0
    gallery = open_gallery(ids, [store], tmp_path / "work")
    assert gallery.images.tolist() == [0, 2] and gallery.skipped == {ids[1]: "not a picture"}
    assert gallery.ids(np.arange(2)) == names


def test_rows_that_are_lost_or_not_finite_are_told(tmp_path: Path) -> None:
    store, ids = EmbeddingStore(str(tmp_path / "home"), identity()), ids_of(3)
    with refused("pic/000.png"):
        open_gallery(ids, [store], tmp_path / "work")
    (shard,) = store.plan(ids, 5)
    rows = np.stack([row_of(name) for name in ids])
    rows[1, 2] = np.nan
    with refused("pic/001.png"):
        store.write(shard.name, ids, rows)
    assert not store.is_done(shard.name)


def test_rows_of_zeros_get_a_direction() -> None:
    rows = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(rows, [[0.7071, 0.7071], [0.6, 0.8]], atol=1e-3)
