"""What a user types for images: every form, every wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from source_cases import picture_folder, png, shard, write_tar

from genkt.data.images import decode
from genkt.transfer_set.open_images import FORMS, _braces, open_images
from genkt.transfer_set.read_set import write_header
from genkt.transfer_set.set_files import ImageFiles, ShardWriter
from genkt.types import UserError


def names(location: object) -> list[str]:
    """The ids of a location without their hashes."""
    ids = open_images(location).ids  # type: ignore[arg-type]
    return [sample_id.rpartition("#")[0] for sample_id in ids]


def test_folders_to_any_depth(tmp_path: Path) -> None:
    picture_folder(tmp_path / "a" / "b" / "c", [1])
    picture_folder(tmp_path / "a", [0])
    assert names(tmp_path / "a") == names(str(tmp_path / "a")) == ["0.png", "b/c/1.png"]
    assert names(str(tmp_path / "*" / "b")) == ["c/1.png"]


def test_tars_as_a_file_a_pattern_a_range_and_a_folder(tmp_path: Path) -> None:
    for number in range(8, 12):
        shard(tmp_path / f"t-{number:03d}.tar", [number])
    first, last = "t-008.tar/00008.png", "t-011.tar/00011.png"
    for location in ("t-*.tar", "t-{008..011}.tar", "t-0{08,09,10,11}.tar", "t-0[01]?.tar", ""):
        found = names(str(tmp_path / location))
        assert (found[0], found[-1], len(found)) == (first, last, 4)
    assert names(tmp_path / "t-009.tar") == ["t-009.tar/00009.png"]
    picture_folder(tmp_path, [5])
    assert names(tmp_path) == ["5.png"], "a folder of images, whatever else lies there"


def test_names_that_look_like_patterns(tmp_path: Path) -> None:
    shard(tmp_path / "x[1]{2..3}.tar", [1])
    assert len(names(tmp_path / "x[1]{2..3}.tar")) == 1
    picture_folder(tmp_path / "hf:odd", [1])
    assert names(tmp_path / "hf:odd") == ["1.png"]


def test_a_saved_transfer_set_keeps_its_labels(tmp_path: Path) -> None:
    files = ImageFiles("png")
    with ShardWriter(tmp_path, 0, files, ("cat", "dog")) as writer:
        writer.add(png(1), 0, label=1)
        writer.add(png(2), 1)
        writer.finish({})
    with refused("transfer_set.json"):
        open_images(tmp_path)
    write_header(tmp_path, {"source": "synthesized", "num_shards": 1, "files": files.__dict__,
                            "classes": ["cat", "dog"]})  # fmt: skip
    images = open_images(tmp_path)
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [1, -1]


def test_torchvision_parts(tmp_path: Path) -> None:
    train = open_images("torchvision:fake")
    assert train.num_labelled == len(train) == 200 and train.ids[0].startswith("fake/train/0#")
    assert open_images("torchvision:fake:/anywhere").ids == train.ids
    assert open_images("torchvision:fake::test").ids[0].startswith("fake/test/0#")
    for location, message in {
        "torchvision:fakes": "fakes",
        "torchvision:fake::tests": "tests",
        "torchvision:cifar10": "cifar10",
        f"torchvision:cifar10:{tmp_path}:test": "cifar10",
    }.items():
        with refused(message):
            open_images(location)


def test_hugging_face_by_its_prefix(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image()})
    one = datasets.Dataset.from_dict({"image": [{"bytes": png(1), "path": None}]}, features)
    datasets.DatasetDict({"a": one, "b": one}).save_to_disk(tmp_path / "toys")
    assert names(f"hf:{tmp_path / 'toys'}:b") == ["toys/b/0"]
    with refused("toys"):
        open_images(f"hf:{tmp_path / 'toys'}")


def test_a_list_joins_classes_by_name(tmp_path: Path) -> None:
    one = shard(tmp_path / "x" / "0.tar", [0, 1], "ba")
    images = open_images([one, picture_folder(tmp_path / "f", [7]), "torchvision:fake::test"])
    assert images.classes == ("a", "b", *"0123456789")
    assert len(images) == 203 and images.labels[:3].tolist() == [-1, 1, 0]
    fake = open_images("torchvision:fake::test")
    assert (images.labels[3:] == fake.labels + 2).all()
    for index, number in enumerate((7, 0, 1)):
        expected = np.asarray(decode(png(number)))
        assert np.array_equal(np.asarray(images.load(index)), expected)


def test_tars_of_a_list_have_ids_from_their_common_folder(tmp_path: Path) -> None:
    one, other = shard(tmp_path / "a" / "0.tar", [0]), shard(tmp_path / "b" / "0.tar", [0])
    assert names([one, other]) == ["a/0.tar/00000.png", "b/0.tar/00000.png"]


def test_equal_files_of_equal_name_count_once(tmp_path: Path) -> None:
    one, other = picture_folder(tmp_path / "a", [1, 2]), picture_folder(tmp_path / "b", [2, 3])
    images = open_images([one, other])
    assert [name.partition("#")[0] for name in images.ids] == ["1.png", "2.png", "3.png"]
    assert [entry.path for entry in images.skipped] == ["2.png"]
    twice = write_tar(tmp_path / "x.tar", [("a.png", png(1)), ("a.png", png(2)), ("a.png", png(1))])
    images = open_images(twice)
    assert len(images) == len(set(images.ids)) == 2
    assert images.skipped[0].reason == "repeated file"
    assert np.array_equal(np.asarray(images.load(1)), np.asarray(decode(png(2))))


def test_wrong_locations_get_one_line(tmp_path: Path) -> None:
    picture_folder(tmp_path / "photos", [1])
    shard(tmp_path / "t-0.tar", [1])
    (tmp_path / "bare").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.tar.gz").touch()
    for location, message in {
        "photo": r"photo: does not exist\. Did you mean \S*photos\? Expected a folder of images",
        "nowhere/at/all": "does not exist. Expected a folder",
        "*.tra": r"\*\.tra: no file matches\. Expected",
        "t-{0..2}.tar": r"2 of 3 are missing, the first is .*t-1\.tar",
        "t-{2..0}.tar": "expected an ascending range of at most 1000000 numbers",
        "t-{0..9999999999}.tar": "an ascending range of at most",
        "bare": "bare: no images in it or below it",
        "notes.txt": r"notes\.txt: a file, but no \.tar\. Expected",
        "x.tar.gz": "compressed tar",
        "photos/1.png": r"a file, but no \.tar",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            open_images(str(tmp_path / location))
        assert "\n" not in str(caught.value)
    for location, message in {
        "torchvison:cifar10:/data": "'torchvison:' is no kind of location. Did you mean torchvis",
        "s3:bucket/x.tar": "'s3:' is no kind of location. Expected",
        "hfs:mnist": r"Did you mean hf\?",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            open_images(location)
        assert FORMS in str(caught.value)
    with refused("list"):
        open_images([])


def test_the_same_place_twice(tmp_path: Path) -> None:
    photos = picture_folder(tmp_path / "photos", [1])
    tar = shard(tmp_path / "t-0.tar", [1])
    (tmp_path / "link").symlink_to(photos)
    for twice in (
        [photos, tmp_path / "link"],
        [tar, str(tmp_path / "*.tar")],
        ["torchvision:fake", "torchvision:fake"],
    ):
        with refused("twice"):
            open_images(twice)
    inner = picture_folder(photos / "inner", [2])
    with refused("inner", "photos"):
        open_images([photos, inner])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(0, 60), st.integers(1, 4))
def test_ranges_are_those_of_a_shell(first: int, count: int, width: int) -> None:
    written = [f"a{number:0{width}d}b" for number in range(first, first + count + 1)]
    assert list(_braces(f"a{{{first:0{width}d}..{first + count}}}b")) == written
    both = [f"{letter}-{name}" for letter in "xy" for name in written]
    assert list(_braces(f"{{x,y}}-a{{{first:0{width}d}..{first + count}}}b")) == both
