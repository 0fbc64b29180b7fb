"""Tables as people and their programs write them: headers, separators, encodings, comments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from split_list_cases import read, save, write

from genkt.types import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save(tmp_path / "photos", *(f"{kind}{number}.png" for kind in "ab" for number in range(6)))
    return tmp_path / "photos"


def found(splits: Any) -> dict[str, str]:
    """Path -> class of the training images."""
    train = splits.train
    return {
        sample_id.rpartition("#")[0]: splits.classes[label]
        for sample_id, label in zip(train.ids, train.labels.tolist(), strict=True)
    }


NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,"


@pytest.mark.parametrize(
    "rows",
    [
        [NIH, "a0.png,x,0,1,", "b0.png,y,0,2,"],
        [",Label,Filename", "0,x,a0.png", "1,y,b0.png"],
        ['"Filename";"Class"', '"a0.png";"x"', "b0.png;y"],
        ["image\tspecies", "a0.png\tx", "b0.png\ty"],
        ["id,breed", "a0,x", "b0,y"],
        ["LABEL,IMAGE_PATH", "x,a0.png", "y,b0.png"],
        ["filename,class,", "a0.png,x,", "b0.png,y,"],
        ["sep=;", "a0.png;x", "b0.png;y"],
        ["a0.png x", "b0.png y"],
        ["a0;x", "b0;y"],
        ["file|label", "a0.png|x", "b0.png|y"],
        ["a0.png,x\r", "b0.png,y\r"],
        ["class_id,class_name,img", "7,x,a0.png", "8,y,b0.png"],
    ],
)
def test_columns_and_separators(rows: list[str], root: Path, tmp_path: Path) -> None:
    expected = {"a0.png": "x", "b0.png": "y"}
    assert found(read(root, write(tmp_path / "t.csv", *rows))) == expected


def test_names_with_commas_between_semicolons(root: Path, tmp_path: Path) -> None:
    save(root, "a, one.png")
    splits = read(root, write(tmp_path / "t.csv", "a, one.png;x, y", "b0.png;y"))
    assert found(splits) == {"a, one.png": "x, y", "b0.png": "y"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(encoding: str, root: Path, tmp_path: Path) -> None:
    train = tmp_path / "t.csv"
    train.write_text("filename,class\na0.png,caf\u00e9\nb0.png,y\n", encoding=encoding)
    assert found(read(root, train)) == {"a0.png": "caf\u00e9", "b0.png": "y"}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_encodings_that_do_not_are_refused(encoding: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a0.png,x\nb0.png,caf\u00e9\n", encoding=encoding)
    with refused("t.csv") as caught:
        read(root, tmp_path / "t.csv")
    assert "save it as UTF-8" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["filename,split,fold", "a0.png,x,1"], r"expected a header .* got filename, split, fold"),
        (["split,fold,label", "1,2,x"], "expected a header with a column of names"),
        (["Bild;Klasse", "a0.png;x", "b0.png;y"], "expected a header .* got Bild"),
        (["filename,class", "a0.png,x", "a, b.png,y"], "line 3: 3 columns, the header has 2"),
        (["a0.png x", "b0.png"], "'a0.png x' has no class; columns are separated by commas"),
        (["a0.png,x|y", "b0.png,y"], r"line 1: 'x\|y' names 2 classes, expected one per image"),
        (['a0.png,"x, y"', "b0.png,y", "b1.png,x"], "line 1: 'x, y' names 2 classes"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(
    rows: list[str], expected: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read(root, write(tmp_path / "t.csv", *rows))
    assert "\n" not in str(caught.value)


def test_numbers_are_one_class_however_they_are_typed(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["a0.png,3", "a1.png,3.0", "a2.png,03", "b0.png,-1", "b1.png,10.00"]
    splits = read(root, write(tmp_path / "t.csv", *rows))
    assert splits.classes == ("-1", "03", "3", "10")
    assert list(found(splits).values()) == ["3", "3", "03", "-1", "10"]
    (said,) = [record.message for record in caplog.records]
    assert "3.0 are read as 3, in rows: 2" in said


def test_names_with_a_bar_are_classes_but_told(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = read(root, write(tmp_path / "t.csv", "a0.png,x|z", "b0.png,y"))
    assert splits.classes == ("x|z", "y")
    assert "one class per image is expected; 1 are like 'x|z'" in caplog.text


def test_what_is_ignored_is_told_once(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [NIH, "a0.png,x,0,1,", "b0,y,0,2,"]
    read(root, write(tmp_path / "t.csv", *rows))
    columns, endings = [record.message for record in caplog.records]
    assert "Image Index and Finding Labels, ignored 2 (Follow-up #, Patient ID)" in columns
    assert "without the file's ending: 1, the first is b0.png" in endings


def test_names_that_start_with_a_hash(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(root, "#1.png")
    rows = ["# chosen by hand", "#1.png,x", "b0.png,y", "# a1.png,x", "#9.png,y"]
    splits = read(root, write(tmp_path / "t.csv", *rows))
    assert found(splits) == {"#1.png": "x", "b0.png": "y"}
    (said,) = [record.message for record in caplog.records]
    assert "comments: 3, of which 2 name images (the first in line 4: # a1.png)" in said
    caplog.clear()
    read(root, write(tmp_path / "t.csv", "# by hand, in May", "#1.png,x", "b0.png,y"))
    assert not caplog.records


def test_a_name_without_ending_is_completed_where_one_file_is_called_so(
    root: Path, tmp_path: Path
) -> None:
    save(root, "deep/c.png")
    (root / "deep" / "c.jpg").write_bytes((root / "deep" / "c.png").read_bytes())
    train = write(tmp_path / "t.csv", "id,label", "a0,x", "b0,y", "deep/c,y")
    splits = read(root, train, max_skipped=1)
    assert found(splits) == {"a0.png": "x", "b0.png": "y"}
    assert [each.path for each in splits.skipped] == [str(root / "deep" / "c")]
    twice = write(tmp_path / "twice.csv", "id,label", "a0,x", "a0.png,y")
    with refused("a0.png", 2):
        read(root, twice)


def test_words_for_no_value_are_told(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = write(tmp_path / "train.csv", "a0.png,cat", "a1.png,dog", "a2.png,nan", "a3.png,nan")
    assert read(root, train).classes == ("cat", "dog", "nan")
    assert [m for m in caplog.messages if '"nan" counts as a class, in 2 rows' in m]
