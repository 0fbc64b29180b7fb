"""WebDataset tars: whole, damaged, cut off, hostile; opened by offset; indexed once."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from source_cases import picture_folder, png, shard, write_tar

import genkt.readers.tar_listing
import genkt.readers.tars
from genkt.data.images import concat, decode
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.readers.file_index import index_of
from genkt.readers.folders import read_unlabelled
from genkt.readers.tars import read_tars
from genkt.types import UserError


def classes_of(path: Path) -> list[str | None]:
    """The class of every image, None for none."""
    images = read_tars([path])
    return [None if label < 0 else images.classes[label] for label in images.labels]


def test_images_are_read_where_they_lie(tmp_path: Path) -> None:
    first = shard(tmp_path / "a" / "0.tar", range(5), "xyz")
    second = shard(tmp_path / "b" / "0.tar", range(5, 8))
    images = read_tars([first, second])
    assert [name.rpartition("#")[0] for name in images.ids[4:6]] == [
        "a/0.tar/00004.png",
        "b/0.tar/00005.png",
    ]
    assert images.classes == ("x", "y", "z")
    assert images.labels.tolist() == [0, 1, 2, 0, 1, -1, -1, -1]
    copy = pickle.loads(pickle.dumps(images.select([6, 2])))
    for index, number in enumerate((6, 2)):
        assert np.array_equal(np.asarray(copy.load(index)), np.asarray(decode(png(number))))


def test_threads_share_a_tar(tmp_path: Path) -> None:
    images = read_tars([shard(tmp_path / "0.tar", range(40))])
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(images.load, list(range(40)) * 5))
    for index, image in enumerate(loaded):
        assert np.array_equal(np.asarray(image), np.asarray(decode(png(index % 40))))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path: Path, format: int) -> None:
    deep = "/".join(["folder" * 4] * 5)
    names = [f"./{deep}/long.jpg.png", "naïve 日本.png", "line\u2028break.png", "a#b.png"]
    if format == tarfile.USTAR_FORMAT:
        names[0] = f"{deep[:99]}/long.png"
    path = write_tar(tmp_path / "x.tar", [(n, png(i)) for i, n in enumerate(names)], format)
    images = read_tars([path])
    found = [name.rpartition("#")[0] for name in images.ids]
    assert found == [f"x.tar/{name.removeprefix('./')}" for name in names]
    assert np.array_equal(np.asarray(images.load(2)), np.asarray(decode(png(2))))


def test_hostile_and_special_members_are_named_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        names = ["good.png", "../up.png", "/etc/root.png", "a/../../up.png", "bad\udcff.png",
                 ".hidden.png", "._good.png", "notes.txt", "text.png", "none.png"]  # fmt: skip
        for number, name in enumerate(names):
            data = {"text.png": b"no picture", "none.png": b""}.get(name, png(number))
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, kind in (
            ("soft.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("folder.png", tarfile.DIRTYPE),
            ("device.png", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "good.png"
            tar.addfile(member)
        damaged = tarfile.TarInfo("good.json")
        damaged.size = 5
        tar.addfile(damaged, io.BytesIO(b"{'a'}"))
    images = read_tars([path], max_skipped=10)
    assert [name.rpartition("#")[0] for name in images.ids] == ["x.tar/good.png"]
    damaged = [entry for entry in images.skipped if entry.is_damage]
    reasons = {entry.path.removeprefix(f"{path}/"): entry.reason for entry in damaged}
    assert reasons == {
        "../up.png": "name leads out of the tar",
        "a/../../up.png": "name leads out of the tar",
        "/etc/root.png": "name leads out of the tar",
        "bad\\udcff.png": "name is not UTF-8",
        "text.png": "not a picture that Pillow can open",
        "none.png": "empty file",
        "soft.png": "a link or special member, not a plain file",
        "hard.png": "a link or special member, not a plain file",
        "device.png": "a link or special member, not a plain file",
        "good.json": "names no class: damaged",
    }
    beside = [entry.path for entry in images.skipped if not entry.is_damage]
    assert beside == [f"{path}/.hidden.png", f"{path}/._good.png"]
    assert not any((tmp_path.parent / name).exists() for name in ("up.png", "root.png"))
    with refused(10, 11, "max_skipped=0.05", 1):
        read_tars([path])


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_tars_that_are_cut_off(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(3))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        second, end = tar.getmembers()[1], tar.offset
    for size, damaged_at in [
        (0, 0),
        (100, 0),
        (second.offset, second.offset),
        (second.offset_data + 3, second.offset_data + 3),
        (end, end),
    ]:
        path.write_bytes(whole[:size])
        with refused(path, damaged_at) as caught:
            read_tars([path])
        assert "\n" not in str(caught.value)


def test_damaged_headers_and_what_is_no_tar(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(3))
    whole = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    whole[second + 150] ^= 0xFF  # the header's checksum
    path.write_bytes(whole)
    with refused("x.tar", second):
        read_tars([path])
    joined = tmp_path / "joined.tar"
    one = shard(tmp_path / "one.tar", [1]).read_bytes()
    joined.write_bytes(one + one)
    with refused("joined.tar", len(one)):
        read_tars([joined])
    (tmp_path / "text.tar").write_text("hello" * 300)
    with refused("text.tar", 0):
        read_tars([tmp_path / "text.tar"])
    with refused("none.tar"):
        read_tars([tmp_path / "none.tar"])
    write_tar(tmp_path / "empty.tar", [("readme.txt", b"x")])
    with refused("empty.tar"):
        read_tars([tmp_path / "empty.tar"])
    write_tar(tmp_path / "bad.tar", [("a.png", b"x")])
    with refused("bad.tar"):
        read_tars([tmp_path / "bad.tar"], max_skipped=1.0)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, f"w:{kind}"):
        pass
    with refused("x.tar"):
        read_tars([path])


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 3 * 1024 + 10240), noise=st.binary(min_size=1, max_size=600))
def test_noise_gives_images_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    path = shard(tmp_path_factory.mktemp("noise") / "x.tar", range(3))
    data = bytearray(path.read_bytes())
    data[at : at + len(noise)] = noise
    path.write_bytes(data)
    try:
        images = read_tars([path], max_skipped=1.0)
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        for index in range(len(images)):
            images.load(index)


def test_equal_members_and_tars_given_twice(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.png", png(1)), ("a.png", png(2)), ("a.png", png(1))])
    images = read_tars([path])
    assert len(images) == 3 and images.ids[0] == images.ids[2] != images.ids[1]
    assert np.array_equal(np.asarray(images.load(1)), np.asarray(decode(png(2))))
    (tmp_path / "link.tar").symlink_to(path)
    for twice in (path, tmp_path / "link.tar"):
        with refused("x.tar"):
            read_tars([path, twice])
    with refused("none"):
        read_tars([])


def test_an_unchanged_tar_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(80)
    path = shard(tmp_path / "x.tar", numbers, "ab")
    other = write_tar(
        tmp_path / "y.tar", [*((f"{n}.png", png(n)) for n in numbers), ("bad.png", b"x")]
    )
    images = read_tars([path, other], max_skipped=1)
    read: list[tuple[str, int]] = []
    original = genkt.readers.tars._read

    def counted(file: str, offset: int, size: int) -> bytes:
        read.append((Path(file).name, size))
        return original(file, offset, size)

    monkeypatch.setattr(genkt.readers.tars, "_read", counted)
    again = read_tars([path, other], max_skipped=1)
    assert read == [("y.tar", 1)], "only what could not be used is tried again"
    assert again.ids == images.ids and again.classes == images.classes
    assert again.skipped == images.skipped and (again.labels == images.labels).all()
    shard(path, range(1, 81), "ab")
    assert read_tars([path], max_skipped=1).ids != images.ids[:80] and len(read) == 81


def test_a_tar_that_changes_later_is_noticed(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(70))
    images = read_tars([path])
    assert index_of("tar", path).is_file()
    with open(path, "r+b") as stream:
        stream.seek(600)
        stream.write(b"other")
    with refused("x.tar"):
        images.load(0)
    assert not index_of("tar", path).exists()
    genkt.readers.tars._opened.cache_clear()
    path.unlink()
    with refused("x.tar"):
        images.load(1)


def test_a_tar_that_took_the_place_of_one_is_read_itself(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(70))
    before = read_tars([path])
    before.load(0)  # opens it
    shard(tmp_path / "new.tar", range(100, 170)).replace(path)
    images = read_tars([path])
    assert not set(images.ids) & set(before.ids)
    assert np.array_equal(np.asarray(images.load(0)), np.asarray(decode(png(100))))


def test_blocks_are_neighbours_of_one_tar(tmp_path: Path) -> None:
    first, second = shard(tmp_path / "a.tar", range(150)), shard(tmp_path / "b.tar", range(10))
    images = read_tars([first, second])
    assert images.blocks is not None
    assert np.bincount(images.blocks).tolist() == [64, 64, 22, 10]
    assert images.select([151, 70, 2]).blocks.tolist() == [3, 1, 0]  # type: ignore[union-attr]


def test_reads_are_asked_for_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shard(tmp_path / "a.tar", range(5)), shard(tmp_path / "b.tar", range(5, 9))
    folder = read_unlabelled(picture_folder(tmp_path / "few", [100, 101]))
    images = concat(read_tars([first, second]), folder)
    asked: list[bytes] = []
    fetch = os.posix_fadvise

    def noted(handle: int, offset: int, size: int, advice: int) -> None:
        asked.append(os.pread(handle, size, offset))
        assert advice == os.POSIX_FADV_WILLNEED
        fetch(handle, offset, size, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    images.read_ahead([6, 9, 0])
    assert sorted(asked) == sorted([png(6), png(0)])
    asked.clear()
    dataset = ViewDataset(images, FIXED_VIEW, [ImageTransform((6, 6), (0.5,) * 3, (0.5,) * 3)])
    dataset.batch([(3, 0), (10, 0)])
    dataset.batch([(3, 0), (4, 0)])
    assert asked == [png(3), png(4)], "what is kept in memory is not read"
    genkt.readers.tars._opened.cache_clear()
    first.unlink()
    images.read_ahead([0])
    with refused("a.tar"):
        images.load(0)
