"""Which class a tar names for each image, and what is told of labels that are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_cases import png, write_tar

import genkt.readers.tar_listing
import genkt.readers.tars
from genkt.readers.file_index import index_of, pack, read_columns, write_columns
from genkt.readers.tars import read_tars


def classes_of(path: Path) -> list[str | None]:
    """The class of every image, None for none."""
    images = read_tars([path])
    return [None if label < 0 else images.classes[label] for label in images.labels]


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
        ("lone.cls", "no image matches"), ("3.cls", "names another class"),
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
        older.setattr(genkt.readers.tar_listing, "RULES", genkt.readers.tar_listing.RULES - 1)
        older.setattr(genkt.readers.tar_listing._Labels, "of", lambda _, images: [""] * len(images))
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


def test_labels_in_members_that_are_not_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"class": b"cat", "txt": b"a cat"}
    members = [(f"{n}.png", png(n)) for n in range(3)]
    members += [(f"{n}.{kind}", data) for n in range(3) for kind, data in labels.items()]
    path = write_tar(tmp_path / "x.tar", members)
    assert read_tars([path]).class_counts() == {}
    (record,) = [each for each in caplog.records if ".class" in each.message]
    assert "3 members" in record.message and "not read as a class" in record.message
    caplog.clear()
    read_tars([write_tar(tmp_path / "y.tar", [*members, ("0.cls", b"dog")])])
    assert not any(".class" in each.message for each in caplog.records)
