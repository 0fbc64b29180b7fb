"""Thumbnails, recycle bins and hidden files: no walk takes them for pictures, and all say so."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from refusals import refused
from source_cases import picture_folder, png, write_tar
from tiny import run

import genkt.readers.tar_listing as tar_listing
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.readers.folders import read_folder, read_unlabelled
from genkt.readers.single_files import read_files
from genkt.readers.split_list import read_split_list
from genkt.readers.system_files import file_kind, folder_kind
from genkt.readers.tars import read_tars
from genkt.transfer_set.open_images import open_images
from genkt.types import UserError

LEFT_OUT = (
    "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
    "@eaDir/2.png/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/gone.png",
    ".@__thumb/1.png",
    "$RECYCLE.BIN/x.png",
    "System Volume Information/x.png",
    "__MACOSX/._1.png",
    "._1.png",
    ".thumbnails/1.png",
    ".Trash-1000/files/1.png",
    ".ipynb_checkpoints/1-checkpoint.png",
    ".git/1.png",
    ".mine/1.png",
)
"""Files that systems put into a folder of pictures; two of them lie in one ``@eaDir``."""

THUMBNAILS = "4 image files in 3 thumbnail folders (.@__thumb, .thumbnails, @eaDir); if that is"
KINDS = {
    ".@__thumb": THUMBNAILS,
    "#recycle": "3 image files in 3 recycle bin folders (#recycle, $RECYCLE.BIN",
    "._1.png": "1 resource fork image file (._1.png)",
    ".mine": "1 image file in 1 hidden folder (.mine); if that is a folder of yours, rename it",
}
"""What is said of them; the key is the first that is met."""


def test_raw_files_beside_their_pictures_are_no_damage(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("cat", "dog"):
        picture_folder(root / name, range(3) if name == "cat" else range(3, 6))
    pictures = sorted(path for path in root.rglob("*") if path.is_file())
    for path in pictures:
        path.with_suffix(".NEF").write_bytes(b"MM\0* of a camera")
    splits = read_folder(root, test_fraction=0.0)
    assert len(splits.train) == len(pictures)
    (told,) = [entry for entry in splits.skipped]
    assert not told.is_damage and f"{len(pictures)} developed camera raw" in told.reason
    pictures[0].with_name("alone.nef").write_bytes(b"MM\0* of a camera")
    with refused("alone.nef"):
        read_folder(root, test_fraction=0.0, max_skipped=0)


def spoil(folder: Path) -> Path:
    """Put every one of them into a folder."""
    for number, name in enumerate(LEFT_OUT):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(1000 + number))
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "@tmp").mkdir(exist_ok=True)
    return folder


def reasons(images: ImageSet | Splits) -> dict[str, str]:
    assert not any(entry.is_damage for entry in images.skipped)
    return {Path(entry.path).name: entry.reason for entry in images.skipped}


def names(images: ImageSet) -> list[str]:
    return [sample_id.rpartition("#")[0] for sample_id in images.ids]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@eaDir", "thumbnail"), ("@EADIR", "thumbnail"), ("CVS", "version control"), ("cvs", ""),
        (".Trash-1000", "recycle bin"), ("lost+found", "system"), (".cats", "hidden"),
        ("cats", ""), ("..", ""), (".", ""), ("Originals", ""), ("eadir", ""),
    ],
)  # fmt: skip
def test_kinds_of_folders(name: str, kind: str) -> None:
    assert folder_kind(name) == kind


def test_kinds_of_files() -> None:
    kinds = [file_kind(name) for name in ("._a.jpg", ".a.jpg", "Thumbs.db", "a.jpg", "@a.jpg")]
    assert kinds == ["resource fork", "hidden", "system", "", ""]


@pytest.mark.parametrize("how", ["unlabelled", "location", "files", "pattern"])
def test_walks_of_bare_folders(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = spoil(picture_folder(tmp_path / "pile" / "in", range(3)))
    read = {
        "unlabelled": lambda: read_unlabelled(root.parent, max_skipped=0),
        "location": lambda: open_images(root, max_skipped=0),
        "files": lambda: read_files([root]),
        "pattern": lambda: open_images(f"{root.parent}/*", max_skipped=0),
    }[how]
    images = read()
    assert [Path(name).name for name in names(images)] == ["0.png", "1.png", "2.png"]
    told = reasons(images)
    for name, reason in KINDS.items():
        assert reason in told[name]
    with caplog.at_level(logging.WARNING):
        spoil(root.parent)
        (root.parent / "._1.png").unlink()
        if how == "pattern":
            assert len(read()) == 3
            assert "left out system files and folders: 7" in caplog.text


@pytest.mark.parametrize("layout", ["class", "split"])
def test_class_folders(layout: str, tmp_path: Path) -> None:
    root = tmp_path / ("train" if layout == "split" else "")
    for label, name in enumerate("ab"):
        spoil(picture_folder(root / name, range(10 * label, 10 * label + 4)))
    spoil(root)
    spoil(tmp_path)
    splits = read_folder(tmp_path, test_fraction=0, max_skipped=0)
    assert splits.classes == ("a", "b") and len(splits.train) == 8
    told = " ".join(entry.reason for entry in splits.skipped)
    assert "12 image files in 9 thumbnail folders (.@__thumb, .thumbnails, @eaDir)" in told
    assert ".mine" in told and "rename it without the dot" in told
    if layout == "split":
        assert THUMBNAILS in told, "beside train/"


def test_a_class_that_is_called_like_a_system_folder_is_not_lost_silently(tmp_path: Path) -> None:
    picture_folder(tmp_path / "a", range(3))
    picture_folder(tmp_path / "CVS", range(10, 13))
    with pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    assert "at least two, got only a/" in str(caught.value)
    assert "3 image files in 1 version control folder (CVS)" in str(caught.value)
    picture_folder(tmp_path / "b", range(20, 23))
    picture_folder(tmp_path / ".c", range(30, 34))
    told = reasons(read_folder(tmp_path, test_fraction=0, max_skipped=0))
    assert "give it another name" in told["CVS"]
    assert "4 image files in 1 hidden folder (.c)" in told[".c"]


@pytest.mark.parametrize("empty", [("a",), ("a", "b"), ("unlabelled",)])
def test_where_only_system_files_are_left_they_are_named(
    empty: tuple[str, ...], tmp_path: Path
) -> None:
    for label, name in enumerate(["a", "b", "unlabelled"]):
        where = tmp_path / name / ("@eaDir" if name in empty else "")
        picture_folder(where, range(10 * label, 10 * label + 3))
    with refused(3 * len(empty), len(empty)):
        read_folder(tmp_path)


def test_unlabelled_folders_of_lists(tmp_path: Path) -> None:
    root = spoil(picture_folder(tmp_path / "photos", range(6)))
    (tmp_path / "train.csv").write_text("0.png,x\n1.png,y\n")
    splits = read_split_list(
        root, tmp_path / "train.csv", unlabelled=[root], test_fraction=0.0, max_skipped=0
    )
    assert splits.unlabelled is not None and len(splits.unlabelled) == 4
    assert THUMBNAILS in reasons(splits)[".@__thumb"]


def members() -> list[tuple[str, bytes]]:
    pictures = [(f"a/{number}.png", png(number)) for number in range(70)]
    beside = [(f"./{name}", png(2000)) for name in LEFT_OUT]
    return [*pictures, *beside, ("a/._1.cls", b"\0"), ("a/1.cls", b"cat"), ("a/2.cls", b"dog")]


def test_members_of_tars_now_and_from_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = write_tar(tmp_path / "x.tar", members())
    for _ in range(2):  # the second time from the index
        images = read_tars([tar], max_skipped=0)
        assert len(images) == 70 and images.class_counts() == {"cat": 1, "dog": 1}
        told = " ".join(reasons(images).values())
        assert "4 image files in 3 thumbnail folders (@eaDir, .@__thumb, .thumbnails)" in told
        assert "1 resource fork image file (._1.png)" in told
        monkeypatch.setattr(tar_listing, "_listed", None)  # the headers are not read again
    shutil.copy(tar, tmp_path / "._x.tar")
    assert len(open_images(tmp_path)) == 70, "of the folder's tars, the hidden one is none"


def test_an_index_written_before_has_no_system_files(tmp_path: Path) -> None:
    listing = tar_listing.TarListing(
        tar_listing.file_facts([tmp_path]), ["a/1.png", "a/@eaDir/1.png"], [0, 9], [1, 2],
        ["x", ""], ["00", "11"], [("b.png", "damaged")],
    )  # fmt: skip
    found = tar_listing.without_system_files(listing)
    assert (found.names, found.offsets, found.sizes) == (["a/1.png"], [0], [1])
    assert (found.classes, found.hashes, found.num_damaged) == (["x"], ["00"], 1)
    assert found.notes[1] == ("a/@eaDir/1.png", tar_listing.BESIDE)
    assert tar_listing.without_system_files(found) is found


def test_prediction_and_evaluation_say_what_they_left_out(finished: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(finished / "images", images)
    for folder in images.iterdir():
        for broken in folder.glob("broken*"):
            broken.unlink()
    first = spoil(sorted(images.iterdir())[0])
    ran = run("predict", str(finished / "run"), str(first), "device=cpu")
    assert ran.code == 0 and THUMBNAILS in ran.err
    assert "SYNOPHOTO" not in ran.out
    words = [f"model={finished / 'run'}", "data=folder", f"data.root={images}", "device=cpu"]
    ran = run("evaluate", *words, "data.max_skipped=0")
    assert ran.code == 0, ran.err
    assert THUMBNAILS in ran.out
