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
from source_cases import picture_folder, png, shard, write_tar

import genkt.data.tar_listing
import genkt.data.tars
from genkt.data.file_index import index_of, pack, read_columns, write_columns
from genkt.data.folders import read_unlabelled
from genkt.data.images import concat, decode
from genkt.data.tars import read_tars
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset
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


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.cls": b"7\n", "b.cls": b"12", "c.cls": b"-1"}, {"a": "7", "b": "12", "c": None}),
        ({"a.json": b'{"class": "cat", "label": 3}', "b.json": b'{"label": 4}'},
         {"a": "cat", "b": "4", "c": None}),
        ({"a.json": b'{"class": "cat"}', "a.cls": b"dog", "b.json": b"[1]", "c.json": b"{}"},
         {"a": "dog", "b": None, "c": None}),
        ({"a.json": b'{"label": true}', "b.json": b'{"label": 1.5}', "c.json": b'{"label": -1}'},
         {"a": None, "b": None, "c": None}),
        ({"a.CLS": b" two words ", "a/b.cls": b"other folder"}, {"a": "two words", "b": None}),
    ],
)  # fmt: skip
def test_classes(
    tmp_path: Path, members: dict[str, bytes], expected: dict[str, str | None]
) -> None:
    pictures = [(f"{key}.png", png(number)) for number, key in enumerate("abc")]
    names = classes_of(write_tar(tmp_path / "x.tar", [*pictures, *members.items()]))
    assert dict(zip("abc", names, strict=True)) == {"a": None, "b": None, "c": None} | expected


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (["img.0.v2.png"], {"img.0.v2.cls": b"cat"}, ["cat"]),
        (["a.left.png", "a.right.png"], {"a.cls": b"cat"}, ["cat", "cat"]),
        (["img.0.png", "img.1.png"], {"img.0.cls": b"cat", "img.1.cls": b"dog"}, ["cat", "dog"]),
        (["img.0.png", "img.1.png"], {"img.0.cls": b"cat"}, ["cat", None]),
        (["v1.2/a.png", "v1/a.png"], {"v1.2/a.cls": b"cat", "v1.cls": b"dog"}, ["cat", None]),
        (["x.png", "x.seg.png"], {"x.png.json": b'{"label": "cat"}', "x.cls": b"dog"},
         ["cat", "dog"]),
        (["a.png", "a.left.png"], {"a.cls": b"cat", "a.left.json": b'{"class": "dog"}'},
         ["cat", "dog"]),
        (["a.left.png"], {"a.cls": b"cat", "a.left.json": b'{"url": "x"}'}, ["cat"]),
        (["a.png"], {"a.txt": b"a cat", "a.json": b'{"class": null}'}, [None]),
    ],
)  # fmt: skip
def test_labels_go_by_the_nearest_name(
    tmp_path: Path, images: list[str], labels: dict[str, bytes], expected: list[str | None]
) -> None:
    members = [(name, png(number)) for number, name in enumerate(images)]
    assert classes_of(write_tar(tmp_path / "x.tar", [*labels.items(), *members])) == expected


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("ab.0", min_size=1, max_size=6).filter(lambda name: name.strip(".")),
               min_size=2, max_size=4))  # fmt: skip
def test_every_name_finds_its_own_label(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    stems = [f"x{name}" for name in sorted(names)]
    members = [(f"{stem}.cls", stem.encode()) for stem in stems]
    members += [(f"{stem}.png", png(number)) for number, stem in enumerate(stems)]
    path = write_tar(tmp_path_factory.mktemp("names") / "x.tar", members)
    assert classes_of(path) == stems


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("cls", b"\xef\xbb\xbf cat\r\n", "cat"),
        ("cls", "caf\xe9".encode("utf-16"), "caf\xe9"),
        ("cls", b"3.0", "3"),
        ("cls", b"03", "03"),
        ("cls", b"-2", "-2"),
        ("cls", b"1.5", "1.5"),
        ("cls", b"[3]", "3"),
        ("cls", b"np.int64(3)", "3"),
        ("cls", b"tensor(3, device='cuda:0')", "3"),
        ("cls", b"b'cat'", "cat"),
        ("cls", b"", None),
        ("cls", b"cat\ndog", None),
        ("json", b'{"label": 3.0}', "3"),
        ("json", b'{"label": "3"}', "3"),
        ("json", b'{"label": ["cat"]}', "cat"),
        ("json", b'{"label": ["cat", "dog"]}', None),
        ("json", b'{"Class Name": "cat", "id": 7}', "cat"),
        ("json", b'{"cls": 4}', "4"),
        ("json", b'{"label": true, "category": "cat"}', "cat"),
        ("json", b'{"target": 2, "label_name": "cat"}', "cat"),
        ("json", b'{"label": NaN}', None),
    ],
)  # fmt: skip
def test_what_a_label_says(tmp_path: Path, kind: str, data: bytes, expected: str | None) -> None:
    members = [("a.png", png(0)), (f"a.{kind}", data)]
    assert classes_of(write_tar(tmp_path / "x.tar", members)) == [expected]


def test_labels_that_are_lost_are_told_once_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = [(f"{n}.{kind}", data) for n in range(70)
               for kind, data in (("png", png(n)), ("cls", b"cat"))]  # fmt: skip
    members += [("x1.png", png(100)), ("x2.png", png(101)), ("x1.json", b'{"label": true}'),
                ("x2.json", b'{"url": ""}'), ("lone.cls", b"dog"), ("3.cls", b"dog"),
                ("4.json", b'{"label": 1.5}')]  # fmt: skip
    path = write_tar(tmp_path / "x.tar", members)
    images = read_tars([path])
    assert images.class_counts() == {"cat": 69, "dog": 1} and not images.skipped
    told = [record.message.removeprefix(f"{path}: ") for record in caplog.records]
    assert len(told) == 5 and sum("1 member: " in each for each in told) == 4
    for member, reason in (
        ("x1.json", "'label' is true or false"), ("x2.json", "no key that names a class"),
        ("lone.cls", "no image takes it"), ("3.cls", "names another class"),
    ):  # fmt: skip
        assert any(member in each and reason in each for each in told), member
    assert "2 of 72 images have no class" in told[4] and "x1.png" in told[4]
    caplog.clear()
    read_tars([path])  # from its index
    assert [record.message.removeprefix(f"{path}: ") for record in caplog.records] == told


def test_a_listing_of_older_rules_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [(f"img.{n}.{kind}", data) for n in range(64)
               for kind, data in (("png", png(n)), ("cls", b"cat"))]  # fmt: skip
    path = write_tar(tmp_path / "x.tar", members)
    with monkeypatch.context() as older:
        older.setattr(genkt.data.tar_listing, "RULES", genkt.data.tar_listing.RULES - 1)
        older.setattr(genkt.data.tar_listing._Labels, "of", lambda _, images: [""] * len(images))
        assert read_tars([path]).classes == () and index_of("tar", path).is_file()
    assert read_tars([path]).classes == ("cat",)
    columns = read_columns(index_of("tar", path))
    assert columns is not None
    columns.pop("rules")  # as of before there were any
    write_columns(index_of("tar", path), columns | {"classes": pack([""] * 64)})
    assert read_tars([path]).classes == ("cat",)


@pytest.mark.parametrize("data", [b'{"class": "\\ud800"}', b"[" * 200_000])
def test_hostile_classes_are_named(tmp_path: Path, data: bytes) -> None:
    members = [(f"{n}.png", png(n)) for n in range(64)]  # enough for an index
    images = read_tars([write_tar(tmp_path / "x.tar", [*members, ("3.json", data)])], max_skipped=1)
    assert len(images) == 64 and images.classes == ()
    assert [each.reason for each in images.skipped] == ["names no class: damaged"]


def test_a_label_in_another_encoding_is_named(tmp_path: Path) -> None:
    members = [("a.png", png(0)), ("b.png", png(1)), ("a.cls", b"caf\xe9"), ("b.cls", b"tea")]
    images = read_tars([write_tar(tmp_path / "x.tar", members)], max_skipped=1)
    assert images.labels.tolist() == [-1, 0] and images.classes == ("tea",)
    assert [each.reason for each in images.skipped] == ["names no class: not UTF-8 text"]


def test_numbers_of_equal_value_have_one_order(tmp_path: Path) -> None:
    names = ["001", "1", "00001", "01", "0001"]
    members = [(f"{n}.{kind}", data) for n, name in enumerate(names)
               for kind, data in (("png", png(n)), ("cls", name.encode()))]  # fmt: skip
    images = read_tars([write_tar(tmp_path / "x.tar", members)])
    assert images.classes == ("00001", "0001", "001", "01", "1")


def test_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    members = [(f"{n}.{kind}", data) for n in (10, 9, 2)
               for kind, data in (("png", png(n)), ("cls", str(n).encode()))]  # fmt: skip
    images = read_tars([write_tar(tmp_path / "x.tar", members)])
    assert images.classes == ("2", "9", "10") and images.labels.tolist() == [2, 1, 0]


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
        "soft.png": "a link or special member, no plain file",
        "hard.png": "a link or special member, no plain file",
        "device.png": "a link or special member, no plain file",
        "good.json": "names no class: damaged",
    }
    beside = [entry.path for entry in images.skipped if not entry.is_damage]
    assert beside == [f"{path}/.hidden.png", f"{path}/._good.png"]
    assert not any((tmp_path.parent / name).exists() for name in ("up.png", "root.png"))
    with pytest.raises(UserError, match=r"10 of 11 .* max_skipped=0.05 allows 1.* and \d more$"):
        read_tars([path])


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_tars_that_are_cut_off(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(3))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        second, end = tar.getmembers()[1], tar.offset
    for size, message in [
        (0, "no tar, or damaged at byte 0"),
        (100, "no tar, or damaged at byte 0"),
        (second.offset, rf"cut off at byte {second.offset}, a tar ends in"),
        (second.offset_data + 3, rf"cut off at byte {second.offset_data + 3}, '00001.png' goes"),
        (end, rf"cut off at byte {end}, a tar ends in"),
    ]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=message) as caught:
            read_tars([path])
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_headers_and_what_is_no_tar(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", range(3))
    whole = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    whole[second + 150] ^= 0xFF  # the header's checksum
    path.write_bytes(whole)
    with pytest.raises(UserError, match=rf"x\.tar: damaged at byte {second}, expected a member"):
        read_tars([path])
    joined = tmp_path / "joined.tar"
    one = shard(tmp_path / "one.tar", [1]).read_bytes()
    joined.write_bytes(one + one)
    with pytest.raises(UserError, match=rf"damaged at byte {len(one)}, expected a member or the"):
        read_tars([joined])
    (tmp_path / "text.tar").write_text("hello" * 300)
    with pytest.raises(UserError, match="no tar, or damaged at byte 0"):
        read_tars([tmp_path / "text.tar"])
    with pytest.raises(UserError, match="No such file"):
        read_tars([tmp_path / "none.tar"])
    write_tar(tmp_path / "empty.tar", [("readme.txt", b"x")])
    with pytest.raises(UserError, match=r"empty\.tar: no image in it"):
        read_tars([tmp_path / "empty.tar"])
    write_tar(tmp_path / "bad.tar", [("a.png", b"x")])
    with pytest.raises(UserError, match=r"bad\.tar: no usable image in it"):
        read_tars([tmp_path / "bad.tar"], max_skipped=1.0)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, f"w:{kind}"):
        pass
    with pytest.raises(UserError, match=r"compressed \(.*unpack it to a plain \.tar"):
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
        with pytest.raises(UserError, match="tars, each once"):
            read_tars([path, twice])
    with pytest.raises(UserError, match="came none"):
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
    original = genkt.data.tars._read

    def counted(file: str, offset: int, size: int) -> bytes:
        read.append((Path(file).name, size))
        return original(file, offset, size)

    monkeypatch.setattr(genkt.data.tars, "_read", counted)
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
    with pytest.raises(UserError, match=r"x\.tar: the tar changed since it was read; start again"):
        images.load(0)
    assert not index_of("tar", path).exists()
    genkt.data.tars._opened.cache_clear()
    path.unlink()
    with pytest.raises(UserError, match="No such file or directory, though it was there"):
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
    genkt.data.tars._opened.cache_clear()
    first.unlink()
    images.read_ahead([0])
    with pytest.raises(UserError, match=r"a\.tar: No such file"):
        images.load(0)
