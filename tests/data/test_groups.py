"""Groups of images stay on one side of every split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from split_list_cases import read, write
from tiny import picture

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.groups import group_of, group_pattern, linked
from genkt.data.images import ImageSet, concat
from genkt.data.separation import finished
from genkt.data.splits import Splits, holdout
from genkt.readers.folders import read_folder
from genkt.runs.pool import load_splits
from genkt.types import UNLABELLED, UserError

fast = settings(max_examples=60, deadline=None)


def image_set(samples: list[tuple[int, int, int]], classes: str = "abc") -> ImageSet:
    """Samples of (class, content, group)."""
    ids = [f"{place}.png#{content:016x}" for place, (_, content, _) in enumerate(samples)]
    labels = [label for label, _, _ in samples]
    groups = [f"g{group}" for _, _, group in samples]
    return ImageSet(ids, labels, tuple(classes), np.arange(len(ids)), picture_of, groups=groups)


def picture_of(sample_id: str, item: int):  # type: ignore[no-untyped-def]
    raise NotImplementedError


samples = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 12)), min_size=6, max_size=70
)


@fast
@given(samples, st.floats(0.05, 0.9), st.integers(0, 9))
def test_no_group_and_no_copy_is_on_two_sides(
    rows: list[tuple[int, int, int]], fraction: float, seed: int
) -> None:
    images = image_set(rows)
    try:
        kept, held = holdout(images, fraction, seed)
    except UserError:
        return
    assert sorted([*kept, *held]) == list(range(len(images))) and len(held)
    one, other = images.select(kept), images.select(held)
    assert one.groups is not None and other.groups is not None
    assert not set(one.groups) & set(other.groups)
    assert not {i.partition("#")[2] for i in one.ids} & {i.partition("#")[2] for i in other.ids}
    had = {name for name, count in images.class_counts().items() if count}
    assert {name for name, count in one.class_counts().items() if count} == had
    order = np.random.default_rng(seed).permutation(len(images))
    mixed = images.select(order)
    assert set(mixed.select(holdout(mixed, fraction, seed)[1]).ids) == set(other.ids)


def test_groups_give_about_the_share_of_each_class() -> None:
    """60 patients with 5 images each, of one class or of two."""
    rows = [((g + (n > 3)) % 3, 10 * g + n, g) for g in range(60) for n in range(5)]
    images = image_set(rows)
    for seed in range(5):
        _, held = holdout(images, 0.2, seed)
        counts = images.select(held).class_counts()
        assert len(held) % 5 == 0 and all(15 <= n <= 25 for n in counts.values()), counts


def test_images_are_linked_by_group_or_copy() -> None:
    images = image_set([(0, 1, 1), (0, 2, 1), (0, 2, 2), (0, 3, 3), (0, 4, 4), (0, 4, 4)])
    first, second, third, fourth, fifth, sixth = linked(images).tolist()
    assert first == second == third and fifth == sixth and len({first, fourth, fifth}) == 3
    assert len(set(linked(images.replaced(groups=None)).tolist())) == 4


def test_groups_that_cannot_be_divided_are_told() -> None:
    with refused() as caught:
        holdout(image_set([(0, 1, 1), (0, 2, 1), (1, 3, 1), (1, 4, 1)], "ab"), 0.5, 0)
    assert "group" in str(caught.value)


def test_groups_travel_with_the_images() -> None:
    images = image_set([(0, 1, 1), (1, 2, 2), (2, 3, 3)])
    assert images.select([2, 0]).groups == ("g3", "g1")
    assert images.without_labels().groups == images.with_skipped([]).groups == images.groups
    plain = images.replaced(ids=["x#9"], labels=[0], items=[0], groups=None)
    assert concat(images, plain).groups == ("g1", "g2", "g3", "x#9")
    assert concat(plain, plain).groups is None
    with refused("groups", 2):
        images.replaced(groups=["a", "b"])


def clinic(root: Path, part: str = "", patients: range = range(12)) -> Path:
    """Four images of each patient: two of each class."""
    for patient in patients:
        for number in range(4):
            folder = root / part / ("ill" if number % 2 else "well")
            folder.mkdir(parents=True, exist_ok=True)
            picture(patient % 3, 100 * patient + number).save(folder / f"P{patient}_{number}.png")
    return root


def test_a_patient_is_in_one_part_of_a_folder(tmp_path: Path) -> None:
    root = clinic(tmp_path)
    pool = root / "unlabelled"
    pool.mkdir()
    for patient in range(12):
        picture(0, 5000 + patient).save(pool / f"P{patient}_9.png")
    (pool / "found.png").write_bytes((pool / "P0_9.png").read_bytes())
    picture(1, 9000).save(pool / "found.png")
    splits = read_folder(
        root, group=r"(P\d+)_", test_fraction=0.25, validation_fraction=0.2, seed=1
    )
    groups = {name: set(part.groups or ()) for name, part in splits.parts.items()}
    judged = groups["test"] | groups["validation"]
    assert len(groups["test"]) == 3 and splits.test is not None
    assert splits.test.class_counts() == {"ill": 6, "well": 6}
    assert len(groups["validation"]) >= 2 and not groups["test"] & groups["validation"]
    assert not judged & (groups["train"] | groups["unlabelled"])
    assert splits.test.groups == tuple(i.split("/")[-1].split("_")[0] for i in splits.test.ids)
    assert splits.unlabelled is not None and len(splits.unlabelled) == 13 - len(judged)
    told = " ".join(splits.notes)
    assert "3 images of unlabelled left out: of 3 groups" in told
    assert "1 image without a match" in told and "unlabelled/found.png" in told


def test_the_users_own_parts_stay_and_shared_groups_are_told(tmp_path: Path) -> None:
    root = clinic(tmp_path, "train", range(8))
    clinic(root, "val", range(8, 10))
    for patient in (6, 7, 20):
        for kind in ("ill", "well"):
            (root / "test" / kind).mkdir(parents=True, exist_ok=True)
            picture(2, 777 + patient).save(root / "test" / kind / f"P{patient}_{kind}.png")
    plain = read_folder(root)
    splits = read_folder(root, group="(?P<patient>P[0-9]+)(_)")
    assert {n: p.ids for n, p in splits.parts.items()} == {n: p.ids for n, p in plain.parts.items()}
    (note,) = [note for note in splits.notes if note not in plain.notes]
    assert note.startswith("2 groups of test are also in train (e.g. P6; 8 images there)")


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("(P", "regular expression"), ("P[0-9]+", "none in"), ("(P)([0-9])", "2 of them")],
)
def test_a_wrong_pattern_is_told_before_anything_is_read(pattern: str, named: str) -> None:
    with refused(key="data.group") as caught:
        group_pattern(pattern)
    assert named in str(caught.value)
    words = ["data=folder", "data.root=nowhere", f"data.group='{pattern}'"]
    with refused(key="data.group") as caught:
        read_config(TransferConfig, "transfer", words)
    assert named in str(caught.value)


def test_a_pattern_that_is_nowhere_is_told_with_an_example(tmp_path: Path) -> None:
    clinic(tmp_path, patients=range(2))
    with refused("ill/P0_1.png", 8, key="data.group"):
        read_folder(tmp_path, group="(patient[0-9]+)")


def test_a_pattern_reaches_the_reader_from_the_command_line(tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={clinic(tmp_path)}", r"data.group=(P\d+)_"]
    config = read_config(TransferConfig, "transfer", words)
    test = load_splits(config.data, 0).test
    assert test is not None and test.groups is not None
    assert set(test.groups) <= {f"P{n}" for n in range(12)}
    assert read_config(TransferConfig, "transfer", words[:2]).data.group is None  # type: ignore[union-attr]


def test_one_named_group_of_several_counts() -> None:
    found = group_pattern(r"(scan|photo)_(?P<plant>\w+)\.")
    assert group_of(found, "a/scan_oak7.png") == "oak7" and group_of(found, "x.png") is None
    assert group_of(group_pattern("x(P[0-9]*)?_"), "x_1.png") is None
    assert group_of(group_pattern("(P?)_"), "x_1.png") is None


@pytest.mark.parametrize(
    "pattern", [r"(P\d{2})_", r"([a-z]+)/", "^(.*?)_", "(P[0-9]{1,3}|Q)", r"'(P\d+)_'", r"(\w)#x"]
)
def test_patterns_need_no_more_quotes_than_a_shell_wants(pattern: str, tmp_path: Path) -> None:
    config = read_config(
        TransferConfig,
        "transfer",
        ["data=folder", f"data.root={tmp_path}", f"data.group={pattern}"],
    )
    assert getattr(config.data, "group", None) == pattern.strip("'")


ROWS = ["image,label,Plant id"]


def listed(root: Path) -> list[str]:
    rows = [*ROWS]
    for plant in range(10):
        for number in range(2):
            name = f"{plant}-{number}.png"
            root.mkdir(exist_ok=True)
            picture(plant % 3, 50 * plant + number).save(root / name)
            rows.append(f"{name},{'ab'[number]},plant {plant}")
    return rows


@pytest.mark.parametrize("column", ["Plant id", "plant_id"])
def test_a_column_of_a_list_holds_the_groups(column: str, tmp_path: Path) -> None:
    rows = listed(tmp_path / "photos")
    rows[3] = rows[3].rpartition(",")[0] + ","
    train = write(tmp_path / "train.csv", *rows)
    splits = read(tmp_path / "photos", train, group=column, test_fraction=0.3)
    one, other = splits.train.groups, splits.test.groups
    assert len(splits.test) == 6 and not set(one) & set(other)
    assert {"plant 0", "plant 3"} <= {*one, *other}
    assert any(
        "1 image without a value in column" in note and "1-0.png" in note for note in splits.notes
    )
    assert read(tmp_path / "photos", train).train.groups is None


def test_an_unlabelled_list_may_have_the_column(tmp_path: Path) -> None:
    rows = listed(tmp_path / "photos")
    train = write(tmp_path / "train.csv", *rows[:13])
    pool = write(tmp_path / "pool.csv", "file,plant id,place", "6-0.png,plant 0,x", "7-0.png,p,y")
    splits = read(
        tmp_path / "photos", train, group="Plant id", test_fraction=0.4, unlabelled=[pool]
    )
    tested = "plant 0" in splits.test.groups
    assert splits.unlabelled.groups == (("p",) if tested else ("plant 0", "p"))


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    rows = listed(tmp_path / "photos")
    train = write(tmp_path / "train.csv", *rows)
    with refused("Plant id", key="data.group", got="plantid2") as caught:
        read(tmp_path / "photos", train, group="plantid2")
    assert "Did you mean Plant id?" in str(caught.value)
    bare = write(tmp_path / "bare.csv", *(row.rpartition(",")[0] for row in rows[1:]))
    with refused("bare.csv") as caught:
        read(tmp_path / "photos", bare, group="plant")
    assert "no header" in str(caught.value)


def test_parts_given_in_python_are_told_of_shared_groups() -> None:
    train = image_set([(0, 1, 1), (1, 2, 2), (0, 3, 3), (1, 4, 4)], "ab")
    test = image_set([(0, 11, 1), (1, 12, 9)], "ab")
    splits = finished(Splits(train, test=test), test_fraction=0, validation_fraction=0, seed=0)
    assert any(note.startswith("1 group of test is also in train (e.g. g1;")
               for note in splits.notes)  # fmt: skip
    unlabelled = train.replaced(labels=[UNLABELLED] * 4, ids=[f"u{n}#{n + 50}" for n in range(4)])
    both = replace(splits, unlabelled=unlabelled, notes=())
    again = finished(both, test_fraction=0, validation_fraction=0, seed=0)
    assert sum("also in" in note for note in again.notes) == 2, "labelled and unlabelled may share"
