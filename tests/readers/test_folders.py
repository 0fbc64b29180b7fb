"""Every folder layout, every way a folder can be wrong, and files that cannot be used."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from source_cases import overlap, picture_folder
from test_progress import Terminal

from genkt.data.splits import draw_labels
from genkt.readers.folders import read_folder, read_unlabelled
from genkt.readers.single_files import read_files
from genkt.types import UserError

_colours = iter(range(1, 1 << 24))


def picture(path: Path) -> Path:
    """Save a small picture that no other call saves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(_colours)
    colour = (number & 255, number >> 8 & 255, number >> 16)
    Image.new("RGB", (6, 6), colour).save(path)
    return path


def fill(folder: Path, classes: str = "ab", count: int = 4, suffix: str = "png") -> Path:
    for name in classes:
        for number in range(count):
            picture(folder / name / f"{number}.{suffix}")
    return folder


def test_split_layout(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", count=2)
    fill(tmp_path / "test", count=3)
    splits = read_folder(tmp_path)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 8,
        "validation": 4,
        "test": 6,
    }
    assert splits.classes == ("a", "b")
    assert splits.train.ids[0].startswith("train/a/0.png#")
    assert splits.train.class_counts() == {"a": 4, "b": 4}
    expected = Image.open(tmp_path / "train" / "b" / "1.png")
    copy = pickle.loads(pickle.dumps(splits.train))
    assert np.array_equal(np.asarray(copy.load(5)), np.asarray(expected))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_names_of_validation(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / name, count=1)
    splits = read_folder(tmp_path)
    assert splits.validation is not None and len(splits.validation) == 2
    assert splits.test is None


def test_class_layout_is_carved(tmp_path: Path) -> None:
    fill(tmp_path, "abc", count=10)
    splits = read_folder(tmp_path, test_fraction=0.3, validation_fraction=0.1, seed=1)
    assert splits.test is not None and splits.validation is not None
    assert set(splits.test.class_counts().values()) == {3}
    assert set(splits.validation.class_counts().values()) == {1}
    assert not overlap(splits.train, splits.test)
    again = read_folder(tmp_path, test_fraction=0.3, validation_fraction=0.1, seed=1)
    assert again.test is not None and again.test.ids == splits.test.ids
    assert read_folder(tmp_path, test_fraction=0.0).test is None


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled"])
@pytest.mark.parametrize("split", [True, False])
def test_pool_inside_the_root(tmp_path: Path, name: str, split: bool) -> None:
    fill(tmp_path / "train" if split else tmp_path)
    picture(tmp_path / name / "deep" / "x.jpg")
    splits = read_folder(tmp_path)
    assert splits.classes == ("a", "b")
    assert splits.unlabelled is not None and splits.unlabelled.labels.tolist() == [-1]
    assert splits.unlabelled.ids[0].startswith(f"{name}/deep/x.jpg#")


def test_what_is_ignored_and_what_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in (".hidden.png", ".DS_Store", "notes.txt", "labels.csv"):
        (tmp_path / "a" / name).write_bytes(b"x")
    picture(tmp_path / ".git" / "c.png")
    picture(tmp_path / "a" / "deeper" / "still" / "UPPER.JPG")
    os.symlink(tmp_path / "a" / "0.png", tmp_path / "b" / "link.png")
    splits = read_folder(tmp_path, test_fraction=0)
    assert len(splits.train) == 10
    left_out = {Path(entry.path).name: entry.reason for entry in splits.skipped}
    assert list(left_out) == [".git", ".hidden.png"], "notes.txt and .DS_Store are no images"
    assert "1 image file in 1 version control folder (.git)" in left_out[".git"]
    assert not any(entry.is_damage for entry in splits.skipped)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    fill(tmp_path)
    os.symlink(tmp_path / "a", tmp_path / "a" / "again")
    splits = read_folder(tmp_path, test_fraction=0, max_skipped=1)
    assert len(splits.train) == 8
    assert splits.skipped[0].reason == "link to a folder above it"


def spoil(root: Path) -> None:
    """Five files of class a that look like images and are not usable."""
    (root / "a" / "empty.png").touch()
    (root / "a" / "text.jpg").write_text("hello")
    whole = picture(root / "a" / "whole.bmp").read_bytes()
    (root / "a" / "whole.bmp").unlink()
    (root / "a" / "cut.bmp").write_bytes(whole[:-60])
    os.symlink(root / "nowhere.png", root / "a" / "dangling.png")
    os.mkfifo(root / "a" / "pipe.png")


def test_unusable_files_are_named_and_skipped(tmp_path: Path) -> None:
    spoil(fill(tmp_path))
    splits = read_folder(tmp_path, test_fraction=0.5, max_skipped=5)
    assert sum(map(len, splits.parts.values())) == 8
    # Pillow's reason for the cut file ends in a count that depends on its version.
    reasons = {Path(entry.path).name: entry.reason.split(" (")[0] for entry in splits.skipped}
    assert reasons == {
        "empty.png": "empty file",
        "text.jpg": "not a picture that Pillow can open",
        "cut.bmp": "image file is truncated",
        "dangling.png": "No such file or directory",
        "pipe.png": "not a regular file",
    }
    assert "5 skipped" in repr(splits.train)
    assert len(read_folder(tmp_path, max_skipped=0.4).skipped) == 5


@pytest.mark.parametrize(("limit", "allowed"), [(4, 4), (0, 0), (0.3, 4)])
def test_too_many_unusable_files(tmp_path: Path, limit: float, allowed: int) -> None:
    spoil(fill(tmp_path))
    with refused("5 of 13", allowed):
        read_folder(tmp_path, max_skipped=limit)


@pytest.mark.parametrize("limit", [-1, 1.5, True])
def test_limits_that_make_no_sense(tmp_path: Path, limit: float) -> None:
    with refused(f"max_skipped={limit}"):
        read_folder(fill(tmp_path), max_skipped=limit)


def test_bomb_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    Image.new("1", (300, 300)).save(tmp_path / "a" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    splits = read_folder(tmp_path)
    assert "DecompressionBombError" in splits.skipped[0].reason


def test_loose_images_and_other_folders_are_listed(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    picture(tmp_path / "train" / "loose.png")
    picture(tmp_path / "extra" / "x.png")
    (tmp_path / "docs").mkdir()
    splits = read_folder(tmp_path, max_skipped=1)
    assert [entry.reason for entry in splits.skipped] == [
        "not inside a class folder",
        "folder beside train/ that is not a known part",
    ]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([], "neither class folders nor images"),
        (["x.png"], "got 1 images directly in it"),
        (["a/x.png"], "at least two, got only a/$"),
        (["a/p/x.png", "a/q/x.png"], r"got only a/ \(did you mean .*/a\?\)"),
        (["a/", "b/"], "no images in its 2 class folders"),
        (["a/x.png", "b/"], "class folders without images: b"),
        (["train/a/x.png", "train/b/notes.txt"], "class folders without images: b"),
        (["train/x.png"], "train: expected one folder of images for each class, got 1"),
        (["train/"], "train: expected one folder .* neither"),
        (["test/a/x.png", "val/a/x.png"], "has test/, val/ but no train/"),
        (["train/a/x.png", "train/b/x.png", "val/a/", "valid/a/"], "one of val/ and valid/"),
        (["train/a/x.png", "train/b/x.png", "vall/a/x.png"], "vall/: not a known part. Did"),
        (["train/a/x.png", "train/b/x.png", "test/a/", "test/b/"], "no images in its 2 class"),
        (["train/cat/x.png", "train/b/x.png", "test/cats/x.png"], "'cats', unknown to train, did"),
        (["train/a/x.png", "train/b/x.png", "test/a/x.png"], "test: .* 'b' missing"),
        (["a/x.png", "b/x.png", "unlabelled/"], "unlabelled: no images"),
    ],
)
def test_mis_shaped_folders(tmp_path: Path, shape: list[str], message: str) -> None:
    for name in shape:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        elif name.endswith(".png"):
            picture(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=message) as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_class_empty_only_in_validation_is_fine(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", "a")
    (tmp_path / "val" / "b").mkdir()
    splits = read_folder(tmp_path)
    assert splits.validation is not None
    assert splits.validation.class_counts() == {"a": 4, "b": 0}


def test_a_class_whose_images_all_fail(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.png").write_text("no")
    with refused("x.png"):
        read_folder(tmp_path)


def test_roots_that_are_no_folders(tmp_path: Path) -> None:
    fill(tmp_path / "birds")
    with refused("bird", "birds"):
        read_folder(tmp_path / "bird")
    with refused("0.png"):
        read_folder(tmp_path / "birds" / "a" / "0.png")
    with refused("bird", "birds"):
        read_unlabelled(tmp_path / "bird")


def test_unlabelled_folders(tmp_path: Path) -> None:
    for name in ("one/x.png", "one/sub/y.jpg", "two/x.png"):
        picture(tmp_path / name)
    images = read_unlabelled([tmp_path / "one", tmp_path / "two"])
    assert (len(images), images.num_labelled, images.classes) == (3, 0, ())
    expected = Image.open(tmp_path / "two" / "x.png")
    assert np.array_equal(np.asarray(images.load(2)), np.asarray(expected))
    assert len(read_unlabelled(str(tmp_path / "one"))) == 2
    with refused("one"):
        read_unlabelled([tmp_path, tmp_path / "one"])
    with refused("one"):
        read_unlabelled([tmp_path / "one", tmp_path / "one"])
    with refused("list"):
        read_unlabelled([])
    (tmp_path / "three").mkdir()
    with refused("three"):
        read_unlabelled(tmp_path / "three")
    (tmp_path / "three" / "bad.png").write_text("x")
    with refused("three"):
        read_unlabelled(tmp_path / "three", max_skipped=1.0)


def test_changed_and_lost_files_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path)
    images = read_folder(tmp_path, test_fraction=0).train
    picture(tmp_path / "a" / "0.png")
    with refused("a/0.png"):
        images.load(0)
    (tmp_path / "a" / "1.png").unlink()
    with refused("a/1.png"):
        images.load(1)


def test_same_picture_in_train_and_test_is_tested_on_alone(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    data = (tmp_path / "train" / "a" / "2.png").read_bytes()
    (tmp_path / "test" / "b" / "copy.png").write_bytes(data)
    splits = read_folder(tmp_path)
    assert splits.test is not None
    assert not overlap(splits.train, splits.test)
    assert (len(splits.train), len(splits.test)) == (7, 9)
    (note,) = splits.notes
    assert "1 test image is also in train: 1 file left out of train (e.g. train/a/2.png" in note
    assert "which is test/b/copy.png; 1 had another class" in note


def test_list_file_with_paths_of_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    images = read_folder(tmp_path / "data", test_fraction=0).train
    listed = tmp_path / "labels.txt"
    listed.write_text("a/1.png\nb/3.png,b\n")
    assert draw_labels(images, list_file=listed)[0].tolist() == [1, 7]


def test_names_that_are_not_text(tmp_path: Path) -> None:
    fill(tmp_path)
    name = os.path.join(os.fsencode(tmp_path / "a"), b"\xff.png")
    try:
        with open(name, "wb") as stream:
            stream.write((tmp_path / "a" / "0.png").read_bytes())
    except OSError:
        pytest.skip("this file system only takes names that are UTF-8")
    assert read_folder(tmp_path).skipped[0].reason == "name is not UTF-8"


def test_no_progress_bar_where_none_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    for wanted in (True, False):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        read_folder(tmp_path, progress=wanted)
        assert ("8/8" in terminal.getvalue()) is wanted


@pytest.mark.parametrize("target", ["..", ".", "../..", "self", "/"])
def test_links_that_go_round_are_not_followed(target: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, name in enumerate("ab"):
        picture_folder(root / name, range(4 * number, 4 * number + 4))
    straight = read_folder(root, test_fraction=0.0).train
    links = [root / "b" / "self", root / "self", root / "a" / "x.png"]
    for link in links:
        link.symlink_to(link.name if target == "self" else target)
    splits = read_folder(root, test_fraction=0.0, max_skipped=0)
    assert splits.train.ids == straight.ids and splits.classes == ("a", "b")
    assert {entry.path for entry in splits.skipped} == set(map(str, links))
    assert not any(entry.is_damage for entry in splits.skipped)
    assert len(read_unlabelled(root)) == len(read_files([root])) == 8


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    picture_folder(root / "a", range(4))
    picture_folder(tmp_path / "elsewhere", range(4, 8))
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert read_folder(root, test_fraction=0.0).train.class_counts() == {"a": 4, "b": 4}
