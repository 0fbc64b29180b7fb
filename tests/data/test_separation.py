"""No picture on two sides: carved parts, given parts, label draws, transfer images."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from source_cases import picture_folder, png
from test_pool import SPLITS, config_of, pool_of

from genkt.api.objects import given_settings
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits_on_photos
from genkt.data.images import ImageSet, Skipped, concat, content_of
from genkt.data.separation import finished, separated, without_data, without_held_out
from genkt.data.splits import Splits, carve_missing, draw_labels, holdout
from genkt.readers.folders import read_folder
from genkt.runs.pool import build_pool
from genkt.transfer_set.composition import TransferSet
from genkt.types import UserError

fast = settings(max_examples=60, deadline=None)


class _Nothing:
    """Opens no picture: who divides sets looks at ids and labels alone."""

    def __call__(self, sample_id: str, item: int):  # type: ignore[no-untyped-def]
        raise AssertionError("no picture is needed")


OPENER = _Nothing()


def image_set(samples: list[tuple[int, int]], classes: str = "abc", prefix: str = "x") -> ImageSet:
    """Samples of (class or -1, content)."""
    ids = [f"{prefix}/{place}.png#{content:016x}" for place, (_, content) in enumerate(samples)]
    labels = [label for label, _ in samples]
    return ImageSet(ids, labels, tuple(classes), np.arange(len(ids)), OPENER)


def contents(images: ImageSet | None) -> set[str]:
    return set() if images is None else set(map(content_of, images.ids))


def shuffled(images: ImageSet, seed: int) -> ImageSet:
    return images.select(np.random.default_rng(seed).permutation(len(images)))


def paths(images: ImageSet) -> list[str]:
    return [sample_id.rpartition("#")[0] for sample_id in images.ids]


samples = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), min_size=8, max_size=60)
"""Of few contents, so that copies in a class and across classes are common."""


def _can_be_divided(images: ImageSet) -> bool:
    by_class: list[dict[str, int]] = [{} for _ in images.classes]
    seen: dict[str, set[int]] = {}
    for sample_id, label in zip(images.ids, images.labels.tolist(), strict=True):
        by_class[label][content_of(sample_id)] = 1
        seen.setdefault(content_of(sample_id), set()).add(label)
    return any(
        len(own) > 1 and any(len(seen[key]) == 1 for key in list(own)[:1]) for own in by_class
    )


@fast
@given(samples, st.floats(0.05, 0.9), st.integers(0, 9))
def test_a_division_keeps_copies_together_whatever_the_order(
    rows: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    images = image_set(rows)
    try:
        kept, held = holdout(images, fraction, seed)
    except UserError:
        assert not _can_be_divided(images)
        return
    assert sorted([*kept, *held]) == list(range(len(images)))
    assert not contents(images.select(kept)) & contents(images.select(held))
    other = shuffled(images, seed)
    again = other.select(holdout(other, fraction, seed)[1])
    assert set(again.ids) == set(images.select(held).ids)
    _, fewer = holdout(images, fraction / 2, seed)
    assert set(fewer) <= set(held), "nested"
    for label, count in enumerate(images.class_counts().values()):
        own = [row for row in held if rows[row][0] == label]
        of_one = [sum(r == (label, content) for r in rows) for content in {r[1] for r in rows}]
        assert len(own) <= max(1, fraction * count + 0.5) + max(of_one)


@fast
@given(samples, st.integers(0, 9))
def test_sizes_are_as_asked_up_to_the_largest_group(rows: list[tuple[int, int]], seed: int) -> None:
    images = image_set([(0, content) for _, content in rows], "a")
    sizes = np.bincount([content for _, content in rows])
    if (sizes > 0).sum() < 2:
        return
    _, held = holdout(images, 0.5, seed)
    assert abs(len(held) - len(images) / 2) <= max(sizes.max(), 1)


def test_carvings_without_copies_are_what_they_always_were() -> None:
    """Ids of a carving and of draws, written down before copies were looked at."""
    counts = {"ant": 5, "bee": 9, "cat": 12}
    ids = [
        f"{name}/{n}.png#{(label * 97 + n) * 2654435761 % 2**64:016x}"
        for label, (name, count) in enumerate(counts.items())
        for n in range(count)
    ]
    labels = np.repeat(np.arange(3), list(counts.values()))
    images = ImageSet(ids, labels, tuple(counts), np.arange(len(ids)), OPENER)
    splits = finished(Splits(images), test_fraction=0.2, validation_fraction=0.1, seed=3)
    assert splits.test is not None and splits.validation is not None and not splits.notes
    assert paths(splits.test) == ["ant/1.png", "bee/3.png", "bee/4.png", "cat/1.png", "cat/8.png"]
    assert paths(splits.validation) == ["ant/3.png", "bee/8.png", "cat/6.png"]
    assert len(splits.train) == 18
    two = images.select(draw_labels(images, per_class=2, seed=5)[0])
    assert paths(two) == [
        "ant/0.png", "ant/4.png", "bee/0.png", "bee/2.png", "cat/1.png", "cat/11.png",
    ]  # fmt: skip
    held = images.select(holdout(images, 0.3, 1, "beta")[1])
    assert paths(held) == [
        "ant/2.png", "ant/4.png", "bee/0.png", "bee/1.png", "bee/2.png", "cat/0.png", "cat/2.png",
        "cat/3.png", "cat/11.png",
    ]  # fmt: skip


@pytest.mark.parametrize("splits", [SPLITS, digits_on_photos()], ids=["digits", "on photos"])
def test_built_in_data_are_as_they_were(splits: Splits) -> None:
    assert separated(splits) == replace(splits)  # the very same sets
    assert not separated(splits).notes


def test_two_classes_of_twenty_with_each_file_twice(tmp_path: Path) -> None:
    for name, start in (("cat", 0), ("dog", 100)):
        picture_folder(tmp_path / name, range(start, start + 10))
        for number in range(start, start + 10):
            (tmp_path / name / f"copy {number}.png").write_bytes(png(number))
    for seed in range(3):
        splits = read_folder(tmp_path, test_fraction=0.2, validation_fraction=0.1, seed=seed)
        assert splits.test is not None and splits.validation is not None
        assert splits.test.class_counts() == {"cat": 4, "dog": 4}
        assert splits.validation.class_counts() == {"cat": 2, "dog": 2}
        sides = [contents(part) for part in splits.parts.values()]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 20


@fast
@given(samples, samples, samples, samples)
def test_given_parts_share_no_picture(
    train: list[tuple[int, int]], validation: list[tuple[int, int]],
    test: list[tuple[int, int]], more: list[tuple[int, int]],
) -> None:  # fmt: skip
    apart = Splits(
        image_set(train),
        image_set([(c, n + 10) for c, n in validation]),
        image_set([(c, n + 20) for c, n in test]),
        image_set([(-1, n + 5) for _, n in more], ""),
    )
    try:
        found = separated(apart)
    except UserError as error:
        name = str(error).partition(":")[0]
        earlier = list(apart.parts)[::-1]
        known = {"validation": ["test"], "unlabelled": ["test", "validation", "train"]}[name]
        assert name in earlier and contents(apart.parts[name]) <= set.union(
            *(contents(apart.parts[each]) for each in known)
        )
        return
    assert found.test is not None and found.test.ids == apart.parts["test"].ids
    sides = [contents(part) for part in found.parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert set.union(*sides) == set.union(*map(contents, apart.parts.values())), "none is lost"
    assert separated(found) == found, "twice is once"
    if found.unlabelled is not None:
        assert len(found.unlabelled) == len(contents(found.unlabelled))


def test_what_is_left_out_is_told_with_counts_and_an_example() -> None:
    splits = separated(
        Splits(
            image_set([(0, 1), (0, 2), (1, 3), (1, 4), (1, 4)], "ab", "train"),
            test=image_set([(0, 2), (1, 3), (1, 9)], "ab", "test"),
            unlabelled=image_set([(-1, 1), (-1, 3), (-1, 7), (-1, 7)], "", "pool"),
        )
    )
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 3, "test": 3, "unlabelled": 1,
    }  # fmt: skip
    assert len(splits.notes) == 4
    told = " ".join(splits.notes)
    for part in (
        "2 test images are also in train: 2 files left out of train (e.g. train/1.png, which is "
        "test/0.png).",
        "1 train image is also in unlabelled",
        "1 test image is also in unlabelled",
        "1 unlabelled image is there more than once",
    ):
        assert part in told


def test_a_picture_in_two_classes_is_named_and_never_tested_on_after_carving() -> None:
    rows = [(label, 100 * label + n) for label in range(2) for n in range(9)]
    images = image_set([*rows, (0, 5), (1, 5)], "ab")
    for seed in range(5):
        splits = finished(Splits(images), test_fraction=0.5, validation_fraction=0.2, seed=seed)
        assert f"{5:016x}" in contents(splits.train)
        (note,) = splits.notes
        assert "train: 1 picture is in more than one class" in note and "x/19.png, b" in note
        drawn = images.select(draw_labels(images, per_class=8, seed=seed)[0])
        assert f"{5:016x}" not in contents(drawn), "the last to be drawn"


def test_classes_without_images_of_a_part_are_told() -> None:
    images = image_set([(0, n) for n in range(6)] + [(1, 50)], "ab")
    splits = finished(Splits(images), test_fraction=0.3, validation_fraction=0.0, seed=0)
    assert splits.notes == ("1 class has no test image: 'b'.",)


@pytest.mark.parametrize("part", ["validation", "unlabelled"])
def test_a_part_that_is_all_copies_is_refused(part: str) -> None:
    rows = [(label, 100 * label + n) for label in range(2) for n in range(10)]
    test = image_set([(0, 900), (1, 901)], "ab", "t")
    with refused(part, 2, "x/0.png", "t/0.png"):
        separated(
            Splits(
                image_set(rows, "ab"), test=test, **{part: image_set([(0, 900), (1, 901)], "ab")}
            )
        )
    none = Splits(test, test=test)
    with refused(2, "test"):
        build_pool(config_of(), finished(none, test_fraction=0, validation_fraction=0, seed=0))


def test_copies_are_the_last_labels() -> None:
    images = image_set([(0, 1), (0, 1), (0, 1), (0, 2), (0, 3), (0, 3)], "a")
    for seed in range(5):
        order = [draw_labels(images, per_class=n, seed=seed)[0] for n in range(1, 7)]
        assert [len(contents(images.select(rows))) for rows in order] == [1, 2, 3, 3, 3, 3]
        for fewer, more in itertools.pairwise(order):
            assert set(fewer) < set(more)


def config_with(found: TransferSet, *words: str) -> TransferConfig:
    """Settings of a run whose transfer set was given in Python."""
    own = given_settings({"transfer_set": found})
    return read_config(TransferConfig, "transfer", ["device=cpu", *own, *words])


def test_transfer_images_are_no_test_images_and_no_labelled_ones() -> None:
    """A folder that holds everything: the data's own images too."""
    assert SPLITS.test is not None and SPLITS.validation is not None
    plain = pool_of("draws=2")
    parts = [SPLITS.train, SPLITS.test.select(range(5)), SPLITS.validation.select(range(3))]
    everything = concat(*[part.without_labels() for part in parts])
    pool = build_pool(config_with(TransferSet.of(everything), "draws=2"), SPLITS)
    held_out = contents(SPLITS.test) | contents(SPLITS.validation)
    for draw, other in zip(pool.draws, plain.draws, strict=True):
        images = draw.images.select(draw.transfer)
        assert not contents(images) & held_out
        labelled = draw.images.select(draw.labelled)
        assert not contents(images) & contents(labelled) and len(images) == 880
        assert contents(images) == contents(other.images.select(other.transfer))
    told = " ".join(pool.notes)
    where = "transfer_set: root=images given in Python"
    assert f"5 test images are also in {where}: 5 files left out" in told
    assert "3 validation images are also in transfer_set" in told
    assert "Left out, by draw: 20, 20 (e.g. digits/" in told
    with refused(len(SPLITS.test), where):
        build_pool(config_with(TransferSet.of(SPLITS.test)), SPLITS)


def test_copies_of_a_labelled_image_are_no_unlabelled_ones() -> None:
    twice = concat(SPLITS.train, SPLITS.train)
    pool = pool_of("draws=2", splits=replace(SPLITS, train=twice))
    for draw in pool.draws:
        images = draw.images
        labelled = contents(images.select(draw.labelled))
        assert len(labelled) == len(draw.labelled) == 20
        assert not labelled & contents(images.select(draw.transfer))
        assert len(draw.transfer) == 2 * 880


def test_rows_of_other_sets_without_test_images() -> None:
    assert SPLITS.test is not None
    rows, notes = without_held_out(SPLITS.train, SPLITS, "source")
    assert rows.tolist() == list(range(900)) and not notes
    mixed = concat(SPLITS.test.select([3]), SPLITS.train.select([0, 1]))
    rows, notes = without_held_out(mixed, SPLITS, "source")
    assert rows.tolist() == [1, 2] and len(notes) == 1 and "1 test image is also in" in notes[0]


def test_what_was_made_from_a_test_image_is_left_out_like_a_copy() -> None:
    assert SPLITS.test is not None
    made = image_set([(-1, n) for n in range(4)], "", "made")
    sources = [content_of(SPLITS.test.ids[7]), content_of(SPLITS.train.ids[0]), "", ""]
    copied = [[], [], [], [content_of(SPLITS.test.ids[8])]]
    rows, notes = without_held_out(made, SPLITS, "set", copied, sources)
    assert rows.tolist() == [1, 2] and len(notes) == 2
    assert "1 test image is also in set" in notes[0]
    assert "which was made from " + SPLITS.test.ids[7].rpartition("#")[0] in notes[1]


def test_a_gallery_is_told_of_its_copies_of_every_part() -> None:
    parts = {name: image_set([(0, n)], "a", name) for n, name in enumerate(["test", "validation"])}
    splits = Splits(
        image_set([(0, 2)], "a", "train"), **parts, unlabelled=image_set([(-1, 3)], "", "pool")
    )
    gallery = image_set([(-1, n) for n in (0, 0, 1, 2, 3, 4)], "", "gallery")
    notes = without_data(gallery, splits, "gallery")
    assert [note.split(" also in ")[0] for note in notes] == [
        "1 test image is", "1 validation image is", "1 train image is", "1 unlabelled image is",
    ]  # fmt: skip
    assert "2 files left out of gallery" in notes[0]
    assert not without_data(gallery.select([5]), splits, "gallery")
    with refused("gallery", 2):
        without_data(gallery.select([0, 1]), splits, "gallery")


def test_copies_given_to_one_class_cannot_be_divided() -> None:
    with refused("copies"):
        carve_missing(
            Splits(image_set([(0, 1), (0, 1), (1, 2), (1, 2)], "ab")),
            test_fraction=0.5, validation_fraction=0, seed=0,
        )  # fmt: skip


def test_places_of_unlabelled_images_count_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name, start in (("a", 0), ("b", 20)):
        picture_folder(root / "train" / name, range(start, start + 4))
        picture_folder(root / "test" / name, range(start + 10, start + 12))
    pool = picture_folder(root / "unlabelled" / "deep", range(50, 56)).parent
    (tmp_path / "link").symlink_to(pool, target_is_directory=True)
    other = picture_folder(tmp_path / "other", [60, 61, 50, 0, 10])
    shutil.copy(root / "unlabelled" / "deep" / "51.png", other / "renamed.png")

    def read(*places: Path) -> Splits:
        return read_folder(root, unlabelled=places)

    plain = read()
    assert plain.unlabelled is not None and len(plain.unlabelled) == 6 and not plain.notes
    for places in ([pool], [tmp_path / "link"], [pool / "deep"], [pool, pool, pool / "deep"]):
        again = read(*places)
        assert again.unlabelled is not None and again.unlabelled.ids == plain.unlabelled.ids
        assert len(again.notes) == len(set(places))
        assert all("(6 unlabelled)" in note for note in again.notes)
    more = read(other, root)
    assert more.unlabelled is not None and len(more.unlabelled) == 6 + 2
    told = " ".join(more.notes)
    assert "left out files that were added already (4 test, 8 train, 6 unlabelled)" in told
    for copied in ("2 unlabelled images are there more than once", "1 train image is also",
                   "1 test image is also"):  # fmt: skip
        assert copied in told
    inside = read(root / "train")
    assert inside.unlabelled is not None and inside.unlabelled.ids == plain.unlabelled.ids
    assert "(8 train)" in inside.notes[0]


def test_a_run_tells_notes_and_system_files_but_lists_damage_alone() -> None:
    skipped = (Skipped("a/bad.png", "empty file"), Skipped("a/@eaDir", "9 files", is_damage=False))
    told = replace(SPLITS, train=SPLITS.train.with_skipped(skipped), notes=("A note.",))
    notes = pool_of("draws=1", splits=told).notes
    assert notes[0] == "A note." and "Left out: a/@eaDir: 9 files." in notes
    assert any(
        note.startswith("1 file was left out: a/bad.png (empty file); the report") for note in notes
    )


def test_labels_that_cannot_be_drawn_come_with_what_was_left_out() -> None:
    """A list names a copy that the test part keeps; half of a class is in a format nobody reads."""
    train = image_set([(0, 1), (1, 2), (0, 3), (1, 4)], "ab", "t")
    parts = Splits(train, test=image_set([(0, 1)], "ab", "e"))
    apart = separated(parts)
    heic = Skipped("t/9.heic", "HEIC needs a package: pip install pillow-heif")
    told = replace(apart, train=apart.train.with_skipped([heic]))
    with pytest.raises(UserError) as caught:
        pool_of("draws=1", "data.labels_per_class=2", splits=told)
    assert "'a' has 1. 1 test image is also in train" in str(caught.value)
    assert str(caught.value).endswith(
        "left out: t/9.heic (HEIC needs a package: pip install pillow-heif)."
    )
    with refused("b", 2):
        pool_of("draws=1", "data.labels_per_class=3", splits=Splits(train))
