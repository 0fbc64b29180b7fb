"""Tables of names and classes: what any program wrote comes back, numbers are one class."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkt.data.class_names import class_in, class_name, several_classes, sorted_classes
from genkt.data.names import canonical
from genkt.data.tables import find_columns, read_rows

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
HEADER = ["image_path", "label", "fold", "remark"]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, st.integers(0, 9), TEXT), min_size=1, max_size=5),
    order=st.permutations(range(4)),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_any_table_comes_back(
    rows: list[tuple[Any, ...]], order: list[int], separator: str, encoding: str, ending: str
) -> None:
    stream = io.StringIO()
    writer = csv.writer(
        stream, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_NONNUMERIC
    )
    table = [HEADER, *([f"{name}.png", f"c{label}", *more] for name, label, *more in rows)]
    writer.writerows([[row[at] for at in order] for row in table])
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "t.csv")
        file.write_text(stream.getvalue(), encoding=encoding, newline="")
        found = read_rows(file, "list", known=lambda name: False, labelled=True)
    assert [(row.name, row.class_name, row.fault) for row in found] == [
        (row[0], canonical(row[1]), "") for row in table[1:]
    ]


@settings(max_examples=100)
@given(st.integers(-(10**30), 10**30).filter(lambda number: number != -1))
def test_a_whole_number_is_one_class_however_it_is_typed(number: int) -> None:
    ways = [number, str(number), f"{number}.0", f" {number}.00\n", [number], f"array([{number}])"]
    ways += [json.loads(f'"{number}"')]
    ways += [float(number)] if abs(number) < 2**53 else []
    assert {class_name(way) for way in ways} == {str(number)}


def test_numbers_are_sorted_by_value_where_all_are() -> None:
    assert sorted_classes(["10", "-2", "9", "9", "-10"]) == ("-10", "-2", "9", "10")
    assert sorted_classes(["10", "9", "x"]) == ("10", "9", "x")
    assert sorted_classes(["9" * 5000, "10"]) == ("10", "9" * 5000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"label": True}, "'label' is true or false"),
        ({"Label": 1.5, "name": "x"}, "'Label' is a number with a fraction"),
        ({"label": ["a", "b"]}, "'label' is several classes"),
        ({"label": {"id": 3}}, "'label' is a dict"),
        ({"caption": "cat"}, "no key that names a class"),
    ],
)
def test_what_names_no_single_class(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        class_in(value)


def test_lists_of_classes_are_told_from_names() -> None:
    assert list(several_classes(["cat|dog", "dog", "a|b"])) == ["cat|dog"]
    assert list(several_classes(["crane, bird", "crane", "cat;dog", "cat", "dog"])) == ["cat;dog"]
    assert not several_classes(["|", ";", ",", "a", "a-b"])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["Image Index", "Finding Labels", "Age"], (0, 1)),
        (["lesion", "image_id", "dx", "dx_type"], (1, 2)),
        (["filename", "width", "class_id", "class"], (0, 3)),
        (["image", "name"], (0, 1)),
        (["label", "path"], (1, 0)),
        (["split", "label", "fold"], (None, 1)),
        (["filename"], (0, 1)),
        (["cat", "boat"], None),
        (["class.png", "label", "fold"], None),
        (["--", "=="], None),
    ],
)
def test_headers_name_the_columns(
    cells: list[str], expected: tuple[int | None, int] | None
) -> None:
    columns = find_columns(cells)
    assert (None if columns is None else (columns.name, columns.label)) == expected


@pytest.mark.parametrize("columns", [["file", "label"], ["label", "file"], ["fold", "label", "id"]])
def test_a_header_behind_a_mark_of_comments_is_one(columns: list[str], tmp_path: Path) -> None:
    """As NumPy writes it; what is no header stays a comment."""
    values = {"file": "7.png", "id": "7.png", "label": "cat", "fold": "3"}
    rows = np.array([[values[column] for column in columns]] * 2)
    np.savetxt(tmp_path / "t.csv", rows, fmt="%s", delimiter=",", header=",".join(columns))
    assert (tmp_path / "t.csv").read_text().startswith("# ")
    found = read_rows(tmp_path / "t.csv", "list", known=lambda name: False, labelled=True)
    assert [(row.name, row.class_name) for row in found] == [("7.png", "cat")] * 2
    (tmp_path / "t.csv").write_text("# label, made by hand\n7.png,cat\n")
    (row,) = read_rows(tmp_path / "t.csv", "list", known=lambda name: False, labelled=True)
    assert (row.name, row.class_name, row.fault) == ("7.png", "cat", "")
