"""A picture that is damaged inside: found when it is decoded, named, counted and survived."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hollow import hollow
from refusals import refused
from tiny import CLASSES, run, transfer_words, write_images

from genkt.data.builtin.digits import digits
from genkt.data.images import ImageSet, UnreadableImage
from genkt.data.near_copies import find_near_copies
from genkt.data.splits import Splits
from genkt.readers import file_index
from genkt.readers.folders import read_folder, read_unlabelled
from genkt.readers.in_full import images_in_full, splits_in_full, with_looks
from genkt.transfer_set.open_images import open_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", CLASSES, per_class=6)
    hollow(tmp_path / "images" / "dog" / "hollow.jpg")
    return tmp_path / "images"


def names(images: ImageSet) -> set[str]:
    return {sample_id.rpartition("#")[0] for sample_id in images.ids}


def test_opening_keeps_it_and_loading_names_it(root: Path) -> None:
    train = read_folder(root, test_fraction=0).train
    assert "dog/hollow.jpg" in names(train) and train.looks is None and not train.skipped
    (row,) = (row for row, each in enumerate(train.ids) if "hollow" in each)
    with refused("dog/hollow.jpg", "cannot be decoded", kind=UnreadableImage):
        train.load(row)


def test_reading_in_full_leaves_it_out_and_counts_it(root: Path) -> None:
    for images in (
        read_folder(root, test_fraction=0, in_full=True).train,
        read_unlabelled(root, in_full=True),
        open_images(root, in_full=True),
        images_in_full(read_folder(root, test_fraction=0).train),
        images_in_full(open_images(root)),
    ):
        assert len(images) == 18 and images.looks is not None and images.looks.all()
        (skipped,) = images.skipped
        assert skipped.path == str(root / "dog" / "hollow.jpg") and skipped.is_damage
    with refused("1 of 19", 0):
        read_folder(root, max_skipped=0, in_full=True)


def test_parts_that_were_read_by_their_ends_are_not_split_anew(root: Path) -> None:
    quick = read_folder(root, test_fraction=0.3)
    full = splits_in_full(quick, 1)
    for name, part in quick.parts.items():
        assert full.parts[name].ids == tuple(each for each in part.ids if "hollow" not in each)
    assert len(full.skipped) == 1 and splits_in_full(full, 0) is full
    with refused("1 of 19", 0):
        splits_in_full(quick, 0)
    every = read_folder(root, test_fraction=0).train
    alone = every.select([row for row, each in enumerate(every.ids) if "hollow" in each])
    with refused("test: none of its images"):
        splits_in_full(Splits(full.train, test=alone), 5)


def test_only_labelled_parts_are_decoded_for_a_run(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = tmp_path / "pool"
    write_images(pool, CLASSES, per_class=6, first=9)
    hollow(pool / "hollow.jpg")
    decoded: list[int] = []
    decode = file_index.decode
    monkeypatch.setattr(file_index, "decode", lambda data: decoded.append(1) or decode(data))
    found = read_folder(root, unlabelled=[pool], in_full="labelled", progress=False)
    assert len(decoded) == 19  # of class folders, with the one that is damaged
    full = read_folder(root, unlabelled=[pool], in_full=True, progress=False)
    assert found.unlabelled is not None and full.unlabelled is not None
    assert set(found.unlabelled.ids) - set(full.unlabelled.ids) == {
        each for each in found.unlabelled.ids if "hollow" in each
    }
    for part in ("train", "test"):
        assert found.parts[part].ids == full.parts[part].ids
    (skipped,) = found.skipped
    assert skipped.path == str(root / "dog" / "hollow.jpg")
    later = splits_in_full(replace(found, test=None), 0.1)
    assert later.unlabelled is found.unlabelled


def test_looks_of_unlabelled_pictures_come_later(tmp_path: Path, root: Path) -> None:
    pool = tmp_path / "pool"
    write_images(pool, CLASSES, per_class=6, first=9)
    hollow(pool / "hollow.jpg")
    found = read_folder(root, unlabelled=[pool], in_full="labelled", progress=False)
    full = read_folder(root, unlabelled=[pool], in_full=True, progress=False)
    assert found.unlabelled is not None and found.unlabelled.looks is None
    seen = with_looks(found).unlabelled
    assert seen is not None and full.unlabelled is not None
    assert seen.ids == found.unlabelled.ids
    assert seen.looks is not None and full.unlabelled.looks is not None
    looks = dict(zip(seen.ids, seen.looks.tolist(), strict=True))
    (broken,) = (each for each in seen.ids if "hollow" in each)
    assert looks.pop(broken) == 0
    assert looks == dict(zip(full.unlabelled.ids, full.unlabelled.looks.tolist(), strict=True))
    assert "1 image could not be read" in find_near_copies(with_looks(found)).not_compared
    assert with_looks(full) is full


def test_sets_that_are_no_files_stay(root: Path) -> None:
    splits = digits()
    assert splits_in_full(splits, 0) is splits


def test_what_was_decoded_once_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "many", CLASSES, per_class=30)
    first = images_in_full(read_unlabelled(tmp_path / "many"))
    monkeypatch.setattr(file_index, "examine_file", None)
    again = images_in_full(read_unlabelled(tmp_path / "many"))
    assert again.ids == first.ids and first.looks is not None
    assert np.array_equal(again.looks, first.looks)


def test_a_run_names_it_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_images(root / "train", CLASSES, per_class=4)
    write_images(root / "test", CLASSES, per_class=2, first=5)
    hollow(root / "train" / "cat" / "hollow.jpg")
    out = tmp_path / "run"
    ran = run(*transfer_words(tmp_path, f"out={out}", "data.labels_per_class=2"))
    assert ran.code == 0, ran.err
    (left_out,) = json.loads((out / "report.json").read_text(encoding="utf-8"))["skipped"]
    assert left_out["path"].endswith("cat/hollow.jpg")
