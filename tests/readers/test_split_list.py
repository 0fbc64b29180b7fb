"""Lists of files: what is read, what is refused, and runs on them."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import refused
from source_cases import overlap
from split_list_cases import read, save, write
from tiny import BUDGET, model_words, run

from genkt.data.class_names import class_of_text, several_classes
from genkt.data.names import canonical
from genkt.readers.split_list import read_split_list
from genkt.types import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save(tmp_path / "photos", *(f"{kind}{number}.png" for kind in "ab" for number in range(6)))
    return tmp_path / "photos"


def test_three_lists(root: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "filename,class", "b1.png,boat", "a0.png,ant")
    splits = read(
        root,
        train,
        validation=write(tmp_path / "v.txt", "# chosen by hand", "", "a1.png, ant"),
        test=write(tmp_path / "t.csv", f"{root / 'b2.png'},boat", "./a3.png,ant"),
    )
    assert splits.classes == ("ant", "boat")
    found = {
        name: [sample_id.rpartition("#")[0] for sample_id in part.ids]
        for name, part in splits.parts.items()
    }
    assert found == {
        "train": ["b1.png", "a0.png"],
        "validation": ["a1.png"],
        "test": ["b2.png", "a3.png"],
    }
    assert splits.train.labels.tolist() == [1, 0] and splits.test.labels.tolist() == [1, 0]
    assert np.array_equal(splits.train.load(0), Image.open(root / "b1.png").convert("RGB"))
    assert not splits.skipped


@pytest.mark.parametrize(
    "header", ["filename,class", "Image_ID, dx", "img,label", "path,Class_Name", None]
)
def test_headers(header: str | None, root: Path, tmp_path: Path) -> None:
    rows = [*([header] if header else []), "a0.png,x", "b0.png,y"]
    splits = read(root, write(tmp_path / "t.csv", *rows))
    assert len(splits.train) == 2 and not splits.skipped


def test_a_first_row_that_is_no_header(root: Path, tmp_path: Path) -> None:
    save(root, "class.png")
    splits = read(root, write(tmp_path / "t.csv", "class.png,label", "b0.png,y"))
    assert splits.classes == ("label", "y")


def test_numbers_are_ordered_as_numbers(root: Path, tmp_path: Path) -> None:
    rows = [
        f"{name}.png,{label}" for name, label in zip(("a0", "a1", "b0"), (10, 9, 2), strict=True)
    ]
    splits = read(root, write(tmp_path / "t.csv", *rows))
    assert splits.classes == ("2", "9", "10") and splits.train.labels.tolist() == [2, 1, 0]


def test_names_with_commas_quotes_and_spaces(tmp_path: Path) -> None:
    names = ["a, one.png", 'b"two".png', "sub folder/é.png"]
    save(tmp_path / "photos", *names)
    rows = ['"a, one.png","cat, big"', '"b""two"".png",dog', "sub folder/é.png,dog"]
    splits = read(tmp_path / "photos", write(tmp_path / "t.csv", *rows))
    assert splits.classes == ("cat, big", "dog")
    assert [sample_id.rpartition("#")[0] for sample_id in splits.train.ids] == names


@settings(deadline=None, max_examples=30)
@given(
    st.sets(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
            canonical
        ),
        min_size=2,
    )
)
def test_any_class_name_comes_back(names: set[str]) -> None:
    assume(len({class_of_text(name) for name in names}) == len(names))
    assume(not several_classes(names))
    with tempfile.TemporaryDirectory() as home:
        root, given_names = Path(home), list(names)
        with (root / "t.csv").open("w", encoding="utf-8", newline="") as file:
            rows = enumerate(given_names)
            csv.writer(file).writerows([(f"{number}.png", name) for number, name in rows])
        save(root, *(f"{number}.png" for number in range(len(names))))
        splits = read(root, root / "t.csv")
        names_read = [class_of_text(name) for name in given_names]  # "3.0" is "3"
        assert [splits.classes[label] for label in splits.train.labels.tolist()] == names_read


def test_missing_parts_are_carved(root: Path, tmp_path: Path) -> None:
    rows = [f"{kind}{number}.png,{kind}" for kind in "ab" for number in range(6)]
    train = write(tmp_path / "t.csv", *rows)
    splits = read(root, train, test_fraction=0.34, validation_fraction=0.17, seed=3)
    assert splits.test.class_counts() == {"a": 2, "b": 2}
    assert splits.validation.class_counts() == {"a": 1, "b": 1}
    assert not overlap(splits.train, splits.test)
    own = write(tmp_path / "own.csv", "c.png,a")
    save(root, "c.png")
    splits = read(root, train, validation=own, test_fraction=0.34)
    assert splits.test is None and len(splits.train) == 12  # as for a folder with val/ alone


def test_unlabelled_places(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "more", "x.png", "deep/y.png")
    splits = read(
        root,
        write(tmp_path / "t.csv", "a0.png,x", "b0.png,y"),
        test=write(tmp_path / "test.csv", "a1.png,x"),
        unlabelled=[
            tmp_path / "more",
            write(tmp_path / "pool.csv", "filename", "a0.png", "a2.png"),
            write(tmp_path / "pool2.csv", "fold,filename,class", "1,a3.png,whatever", "2,a2.png,x"),
            root,
        ],
    )
    names = [sample_id.rpartition("#")[0] for sample_id in splits.unlabelled.ids]
    assert names[:4] == ["deep/y.png", "x.png", "a2.png", "a3.png"]
    assert len(names) == len(set(names)) == 2 + 12 - 3
    assert splits.unlabelled.num_labelled == 0 and splits.unlabelled.classes == ()
    assert not overlap(splits.train, splits.unlabelled)
    assert not overlap(splits.test, splits.unlabelled)
    counts = {note.split(": ")[1]: note.rpartition("(")[2] for note in splits.notes[:3]}
    assert counts == {
        str(tmp_path / "pool.csv"): "1 train).",
        str(tmp_path / "pool2.csv"): "1 unlabelled).",
        str(root): "2 train, 1 test, 2 unlabelled).",
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "expected rows of filename,class, got none"),
        (["filename,class"], "expected rows of filename,class, got none"),
        (["a0.png,x", "a1.png"], "a fault: line 2: 'a1.png' has no class"),
        (["a0.png,x", "a1.png,"], "line 2: 'a1.png' has no class"),
        (["a0.png,x", "a, b.png,y"], "line 2: 3 columns; a name with a comma needs quotes"),
        (["a0.png,x", "../t.csv,y"], "line 2: '../t.csv' is not a file below"),
        (["a0.png,x", "/etc/passwd,y"], "line 2: '/etc/passwd' is not a file below"),
        (["a0.png,x", ",y"], "line 2: '' is not a file below"),
        (["a0.png,x", "b0.png,y", "./a0.png,y"], "line 3: 'a0.png' is repeated, first in line 1"),
        (['a0.png,x', '"b0.png,y'], "unexpected end of data"),
        (["a0.png,x", "b0.png,x"], "expected two classes at least, got x"),
        ([f"a{n}.png" for n in range(30)], "30 faults: line 1: .*; and 20 more"),
    ],
)  # fmt: skip
def test_faulty_lists(rows: list[str], expected: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read(root, write(tmp_path / "t.csv", *rows))
    assert "\n" not in str(caught.value) and str(tmp_path / "t.csv") in str(caught.value)


def test_lists_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    with refused("none.csv"):
        read(root, tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\xff")
    with refused("bad.csv"):
        read(root, tmp_path / "bad.csv")
    with refused("photo", "photos"):
        read(tmp_path / "photo", tmp_path / "bad.csv")


def test_lists_that_disagree(root: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "t.csv", "a0.png,ant", "b0.png,boat")
    other = write(tmp_path / "v.csv", "a1.png,ants")
    with refused("v.csv", "ants"):
        read(root, train, validation=other)
    same = write(tmp_path / "same.csv", "a2.png,ant", "b0.png,boat")
    with refused(1, "b0.png", 2):
        read(root, train, test=same)


def test_missing_files_are_counted_and_guessed(root: Path, tmp_path: Path) -> None:
    save(root, "deep/in/c7.png")
    rows = ["a0.png,x", "b0.png,y", "a1.jpg,x", "c7.png,y", "b33.png,y", "zzzzz.tif,y", "q.png,x"]
    train = write(tmp_path / "t.csv", *rows)
    with pytest.raises(UserError) as caught:
        read(root, train, max_skipped=4)
    message = str(caught.value)
    assert "5 files are not there: 5 of 7 image files cannot be used, max_skipped=4" in message
    assert "a1.jpg (no such file, did you mean a1.png?)" in message
    assert "c7.png (no such file, did you mean deep/in/c7.png?)" in message
    assert "zzzzz.tif and 1 more (no such file)" in message
    assert message.endswith(") and 1 more")
    splits = read(root, train, max_skipped=5)
    assert len(splits.train) == 2 and len(splits.skipped) == 5
    assert splits.skipped[-1].reason == "no such file"


def test_missing_and_broken_files_count_together(root: Path, tmp_path: Path) -> None:
    (root / "bad.png").write_text("no")
    train = write(tmp_path / "t.csv", "a0.png,x", "b0.png,y", "bad.png,x", "gone.png,y")
    reasons = {entry.reason for entry in read(root, train, max_skipped=2).skipped}
    assert reasons == {"no such file", "not a picture that Pillow can open"}
    with refused(2, 4, "max_skipped=1"):
        read(root, train, max_skipped=1)
    none = write(tmp_path / "none.csv", "a0.png,x", "gone.png,y")
    with refused(1, "gone.png"):
        read(root, none, max_skipped=9)


def test_a_run_on_lists(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write(tmp_path / "t.csv", "filename,class", "a0.png,x", "b0.png,y", "gone.png,y")
    test = write(tmp_path / "test.csv", "a1.png,x", "b1.png,y")
    words = [
        "data=split_list", f"data.root={root}", f"data.train={train}", f"data.test={test}",
        f"data.unlabelled=[{root}]", "data.max_skipped=1",
        "data.validation_fraction=0",
    ]  # fmt: skip
    ran = run(
        "transfer", *words, *model_words("student"), *model_words("teacher"), *BUDGET,
        "train.steps=1", "finetune.steps=1",
        f"out={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert any("gone.png (no such file)" in record.message for record in caplog.records)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "gone.png" in json.dumps(report)
    ran = run("evaluate", *words, f"model={tmp_path / 'run'}", "split=test", "device=cpu")
    assert ran.code == 0, ran.err


def test_paths_that_are_not_there(root: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "a0.png,x", "b0.png,y")
    words = ["data=split_list", f"data.root={root}", f"data.train={tmp_path / 'trian.csv'}"]
    ran = run("transfer", *words, f"data.test={root}", "data.unlabelled=[nowhere]")
    assert ran.code == 2
    assert f"data.train: no such file: {tmp_path / 'trian.csv'}. Did you mean {train}?" in ran.err
    assert f"data.test: expected a file: {root}" in ran.err
    assert "data.unlabelled: no such folder: nowhere" in ran.err
    ran = run("transfer", "data=split_list", f"data.root={root}")
    assert "data.train: required; give data.train=..." in ran.err


def test_test_images_stay_out_of_the_unlabelled_ones_behind_a_link(root: Path) -> None:
    linked = root.parent / "linked"
    linked.symlink_to(root, target_is_directory=True)
    named = [f"{kind}{number}.png,{kind}" for number in range(6) for kind in "ab"]
    train = write(root.parent / "train.csv", "filename,label", *named[:4])
    test = write(root.parent / "test.csv", "image,diagnosis", *named[4:8])  # also a head
    splits = read_split_list(linked, train=train, test=test, unlabelled=[root])
    assert splits.test is not None and len(splits.test) == 4
    assert splits.unlabelled is not None and len(splits.unlabelled) == 4


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a1.png;a", "'a1.png;a' has no class; columns are separated by commas"),
        ("a,a1.png", "expected filename,class, got 'a' before 'a1.png'"),
    ],
)
def test_other_shapes_of_rows(root: Path, row: str, expected: str) -> None:
    train = write(root.parent / "train.csv", "filename,class", "a0.png,a", "b0.png,b", row)
    with refused("line 4") as caught:
        read_split_list(root, train=train)
    assert expected in str(caught.value)
