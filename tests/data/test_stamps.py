"""The stamps as a task: classes, parts that share nothing, scenes with masks and boxes."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from package_cases import PER_FOLDER, brought, write_stamps
from refusals import refused

from genkt.data.images import ImageSet, concat, from_arrays
from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.packages.packaged_images import read_packaged_part
from genkt.data.packages.scenes import GROUNDS, scene_of, tile
from genkt.data.packages.stamp_files import LEAST_PER_CLASS, PARTS, read_stamps
from genkt.data.packages.stamps import PER_CLASS, StampWorld, stamps


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("packages")
    with brought(folder, stamps=write_stamps(folder)):
        yield folder


@pytest.fixture(scope="module")
def world(home: Path) -> StampWorld:
    return StampWorld()


def shown(images: ImageSet) -> set[str]:
    assert images.groups is not None
    return set(images.groups)


def test_a_class_is_a_folder_with_enough_stamps(world: StampWorld) -> None:
    assert world.classes == ("birds", "fruit", "town")
    every = [each for part in world.stamps.values() for each in part]
    counts = Counter(each.class_name for each in every)
    assert counts == {
        "birds": PER_FOLDER["animals/birds"], "fruit": PER_FOLDER["food/fruit"],
        "town": PER_FOLDER["town"], "": PER_FOLDER["food/nuts"],
    }  # fmt: skip
    names = {each.name for each in every}
    assert "animals/birds/s3" in names  # and none of those that cannot be used:
    for unused in ("flat", "tiny", "s0_mirror", "t_copy", "cartoon/drawn"):
        assert f"animals/birds/{unused}" not in names
    assert next(each for each in every if each.name == "town/s2").caption == "Stamp s2."


def test_too_few_stamps_make_no_task(home: Path) -> None:
    package = DATA_PACKAGES["stamps"]
    folder = package.find()
    few = [name for name in package.files_in(folder) if not name.startswith("food/fruit")]
    with refused(folder, 16, got=1):
        read_stamps(folder, [name for name in few if not name.startswith("town")])


def test_no_stamp_is_in_two_parts(world: StampWorld) -> None:
    parts = {name: world.part(name) for name in PARTS}
    for name, images in parts.items():
        for other in PARTS[: PARTS.index(name)]:
            assert not shown(images) & shown(parts[other]), (name, other)
            assert not set(images.ids) & set(parts[other].ids)
        if name in PER_CLASS:
            assert set(images.class_counts().values()) == {PER_CLASS[name]}
    for class_name in world.classes:
        for name, least in LEAST_PER_CLASS.items():
            own = [each for each in world.stamps[name] if each.class_name == class_name]
            assert len(own) >= least, (class_name, name)


def test_no_ground_is_in_two_parts() -> None:
    """Every pixel of a photograph is in at most one tile, and the tiles are most of it."""
    for name in GROUNDS:
        pieces = [tile(name, part) for part in PARTS]
        assert len({piece.shape for piece in pieces}) == 1 and min(pieces[0].shape[:2]) >= 96
    china = GROUNDS[-1]
    rows = [np.concatenate([tile(china, PARTS[3 * row + c]) for c in range(3)], axis=1)
            for row in range(2)]  # fmt: skip
    put_together = np.concatenate(rows)
    from genkt.data.builtin.photos import open_photo

    photo = np.asarray(open_photo(china))[: put_together.shape[0], : put_together.shape[1]]
    assert np.array_equal(put_together, photo)


def test_the_task_has_its_parts_and_keeps_the_confirmation_part_out(world: StampWorld) -> None:
    splits = stamps(num_unlabelled=7)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 300, "validation": 90, "test": 180, "unlabelled": 7,
    }  # fmt: skip
    assert splits.unlabelled is not None and splits.unlabelled.num_labelled == 0
    assert not splits.notes and splits.test is not None
    kept = world.part("confirmation")
    read = {each for part in splits.parts.values() for each in shown(part)}
    assert not read & shown(kept)
    last = stamps(part="confirmation", num_unlabelled=7)
    assert last.test is not None and last.test.ids == kept.ids
    assert len(last.notes) == 1 and last.train.ids == splits.train.ids
    assert stamps(num_unlabelled=9).unlabelled.ids[:7] == splits.unlabelled.ids  # type: ignore[union-attr]


def test_pictures_depend_on_their_id_alone(world: StampWorld) -> None:
    train, again = world.part("train"), StampWorld().part("train")
    assert train.ids == again.ids
    for row in (0, 299):
        pixels = np.asarray(train.load(row))
        assert pixels.shape == (64, 64, 3)
        assert np.array_equal(pixels, np.asarray(again.load(row)))
        assert np.array_equal(pixels, np.asarray(pickle.loads(pickle.dumps(train)).load(row)))
    assert not np.array_equal(np.asarray(train.load(0)), np.asarray(train.load(1)))
    large = StampWorld(size=96).part("train")
    assert large.load(0).size == (96, 96)
    assert not set(large.ids) & set(train.ids)


def test_a_scene_has_its_mask_box_and_caption(world: StampWorld) -> None:
    images = world.part("test")
    for row in (0, 60, 179):
        scene = scene_of(images, row)
        assert scene.picture.tobytes() == images.load(row).tobytes()
        rows, columns = np.nonzero(scene.mask)
        assert scene.box == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1,
        )  # fmt: skip
        assert scene.stamp.class_name == images.classes[images.labels[row]]
        assert scene.stamp.caption.startswith("Stamp s")
        longer = max(scene.box[2] - scene.box[0], scene.box[3] - scene.box[1])
        assert 0.4 * 64 <= longer <= 0.92 * 64
        inside = np.asarray(scene.picture)[scene.mask]
        assert np.ptp(np.median(inside, axis=0) - inside[len(inside) // 2]) < 8  # one colour
        alone = scene_of(concat(images, world.part("train")), row)
        assert np.array_equal(alone.mask, scene.mask)
    other = from_arrays(np.zeros((1, 8, 8), np.uint8), [0], ["x"], "toy")
    with refused(got=other.ids[0]):
        scene_of(other, 0)


def test_pictures_of_one_stamp_are_a_group(world: StampWorld) -> None:
    test = world.part("test")
    assert test.groups is not None and len(test.groups) == len(test)
    assert len(set(test.groups)) == len(world.stamps["test"])
    labels = {name: test.labels[row] for row, name in enumerate(test.groups)}
    assert [labels[name] for name in test.groups] == test.labels.tolist()
    alone = from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 0], ["x"], "toy")
    assert alone.groups is None
    mixed = concat(test.select([5]).without_labels(), ImageSet(
        alone.ids, alone.labels, test.classes, alone.items, alone.open_item))  # fmt: skip
    assert mixed.groups == (test.groups[5], *alone.ids)


def test_a_part_is_read_by_its_name(home: Path, world: StampWorld) -> None:
    assert read_packaged_part("stamps", "gallery").ids == world.part("gallery").ids
    with refused("fashion_mnist", "stamps", key="package", got="stamp"):
        read_packaged_part("stamp", "train")
    with refused("gallery", key="package:stamps", got="confirmation"):
        read_packaged_part("stamps", "confirmation")


def test_other_stamps_are_refused(home: Path) -> None:
    other = replace(DATA_PACKAGES["stamps"], sha256="0" * 64)
    with brought(home, stamps=other), refused("000000000000", key="data.root"):
        stamps()
