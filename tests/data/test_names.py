"""One name, whatever way Unicode writes it: of classes and of files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from source_cases import picture_folder, png, write_tar
from training_cases import tiny_net

from genkt.data.images import ImageSet
from genkt.data.names import canonical, on_disk
from genkt.data.splits import Splits, draw_labels
from genkt.inference.load_classifier import Classifier, aligned_labels
from genkt.readers.folders import read_folder
from genkt.readers.split_list import read_split_list
from genkt.transfer_set.open_images import open_images

NFC, NFD = (unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD"))


@given(st.text())
def test_the_two_ways_of_writing_are_one_name(name: str) -> None:
    forms = {canonical(unicodedata.normalize(form, name)) for form in ("NFC", "NFD")}
    assert forms == {canonical(name)}
    assert canonical(canonical(name)) == canonical(name)


@pytest.fixture
def both_forms(tmp_path: Path) -> Path:
    """A folder with a file in NFC and one in NFD, on disks that tell them apart."""
    folder = picture_folder(tmp_path / "probe", [])
    for name in (NFC, NFD):
        (folder / name).touch()
    if len(list(folder.iterdir())) < 2:
        pytest.skip("this file system takes both forms for one name")
    return tmp_path / "data"


def test_train_and_test_of_different_systems(both_forms: Path) -> None:
    for part, name, start in (("train", NFC, 0), ("test", NFD, 100)):
        picture_folder(both_forms / part / name, range(start, start + 3))
        picture_folder(both_forms / part / "Birnen", range(start + 50, start + 52))
    splits = read_folder(both_forms)
    assert splits.classes == ("Birnen", NFC) and splits.test is not None
    assert splits.test.class_counts() == {"Birnen": 2, NFC: 3}
    assert splits.train.ids[-1].startswith(f"train/{NFC}/2.png#")
    assert splits.test.ids[-1].startswith(f"test/{NFD}/102.png#"), "opened as the disk spells it"
    assert splits.test.load(4).size == (6, 6) and not splits.notes


def test_folders_beside_each_other_are_merged_and_told(both_forms: Path) -> None:
    for name, numbers in ((NFC, range(3)), (NFD, range(10, 14)), ("Birnen", range(20, 23))):
        picture_folder(both_forms / name, numbers)
    splits = read_folder(both_forms, test_fraction=0)
    assert splits.train.class_counts() == {"Birnen": 3, NFC: 7}
    (note,) = splits.notes
    assert f"2 folders are read as the one class {NFC}" in note
    listed = both_forms / "labels.txt"
    listed.write_text(f"{NFC}/10.png,{NFD}\n{NFC}/1.png\n")
    rows = draw_labels(splits.train, list_file=listed)[0]
    assert [splits.train.ids[row].rpartition("/")[2][:4] for row in rows] == ["10.p", "1.pn"]


def test_lists_name_files_in_either_form(both_forms: Path) -> None:
    root = picture_folder(both_forms / NFD, [0]).parent
    (root / NFD / f"{NFD}.png").write_bytes(png(1))
    (root / f"{NFC}.png").write_bytes(png(2))
    train = root / "train.csv"
    train.write_text(f"{NFC}/{NFC}.png,{NFD}\n{NFD}/0.png,x\n", encoding="utf-8")
    test = root / "test.csv"
    test.write_text(f"{NFD}.png,{NFC}\n", encoding="utf-8")
    splits = read_split_list(root, train, test=test, test_fraction=0)
    assert splits.classes == ("x", NFC) and splits.train.labels.tolist() == [1, 0]
    assert splits.train.ids[0].startswith(f"{NFD}/{NFD}.png#")
    assert splits.test is not None and splits.test.ids[0].startswith(f"{NFC}.png#")
    expected = np.asarray(Image.open(root / NFD / f"{NFD}.png"))
    assert np.array_equal(np.asarray(splits.train.load(0)), expected)
    assert on_disk(root, "none/ä.png", {}) == "none/ä.png"


def test_classes_of_tars(tmp_path: Path) -> None:
    for number, name in enumerate((NFC, NFD)):
        members = [(f"{number}.png", png(number)), (f"{number}.cls", name.encode())]
        write_tar(tmp_path / f"{number}.tar", members)
    images = open_images([tmp_path / "0.tar", tmp_path / "1.tar"])
    assert images.class_counts() == {NFC: 2}


class _Nothing:
    def __call__(self, sample_id: str, item: int) -> Image.Image:
        raise AssertionError


def test_classes_of_sets_and_of_stored_models() -> None:
    images = ImageSet(["a#1", "b#2"], [0, 1], (NFD, "x"), [0, 1], _Nothing())
    assert images.classes == (NFC, "x")
    other = ImageSet(["c#3"], [0], (NFC, "x"), [0], _Nothing())
    assert Splits(images, test=other).classes == (NFC, "x")
    model = tiny_net()
    model.model.pretrained_cfg = {"label_names": ["x", NFD]}  # type: ignore[assignment]
    assert model.class_names == ("x", NFC)
    aligned = aligned_labels(Classifier(model, model.class_names), images)
    assert aligned.labels.tolist() == [1, 0]
