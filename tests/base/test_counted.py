"""One of a thing and several of it, in messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkt.data.images import Skipped, from_arrays, left_out_text
from genkt.readers.grouping import told
from genkt.types import counted, plural


@pytest.mark.parametrize(
    ("thing", "several"),
    [
        ("file", "files"),
        ("class", "classes"),
        ("index", "indexes"),
        ("batch", "batches"),
        ("near copy", "near copies"),
        ("array", "arrays"),
        ("group of test images", "groups of test images"),
    ],
)
def test_several_of_a_thing(thing: str, several: str) -> None:
    assert plural(thing) == several
    assert counted(1, thing, "was") == f"1 {thing} was"
    assert counted(0, thing, "has") == f"0 {several} have"


@given(st.integers(0, 10**7))
def test_one_is_the_only_singular(number: int) -> None:
    text = counted(number, "image", "is")
    assert text.endswith(" image is" if number == 1 else " images are")
    assert int(text.split()[0].replace(",", "")) == number


@pytest.mark.parametrize(
    ("number", "files", "images"),
    [(1, "1 file was left out", "1 image"), (2, "2 files were left out", "2 images")],
)
def test_messages_count_right(number: int, files: str, images: str) -> None:
    skipped = [Skipped(f"{row}.jpg", "empty file") for row in range(number)]
    assert left_out_text(skipped).startswith(files)
    found = from_arrays(
        np.zeros((number, 4, 4), np.uint8), [-1] * number, classes=("cat",), prefix="toy"
    )
    assert repr(found) == f"ImageSet({images}, 1 class, 0 labelled)"
    assert f" {images} without" in told([f"{row}.jpg" for row in range(number)], "a value")[0]
