"""What an ImageSet promises."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused
from source_cases import overlap, picture_folder

from genkt.data.images import concat, from_arrays
from genkt.data.pictures.decode import DECODING
from genkt.readers.folders import read_unlabelled


def toy(count: int = 6, seed: int = 0, prefix: str = "toy") -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    return from_arrays(pixels, np.arange(count) % 2, ("cat", "dog"), prefix)


def test_ids_follow_the_pixels() -> None:
    pixels = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    before = from_arrays(pixels, [0, 0], ("a",), "x")
    assert before.ids[0].startswith("x/0#") and len(before.ids[0]) == len("x/0#") + 16
    pixels = pixels.copy()
    pixels[1, 0, 0, 0] = 1
    after = from_arrays(pixels, [0, 0], ("a",), "x")
    assert after.ids[0] == before.ids[0] and after.ids[1] != before.ids[1]


def test_select_load_and_labels() -> None:
    images = toy()
    part = images.select([4, 1])
    assert part.ids == (images.ids[4], images.ids[1]) and part.labels.tolist() == [0, 1]
    assert np.array_equal(np.asarray(part.load(0)), np.asarray(images.load(4)))
    assert images.select(images.labels == 1).class_counts() == {"cat": 0, "dog": 3}
    assert len(images.select([])) == 0
    bare = images.without_labels()
    assert (bare.num_labelled, bare.classes, bare.ids) == (0, images.classes, images.ids)
    assert repr(bare) == "ImageSet(6 images, 2 classes, 0 labelled)"
    with pytest.raises(IndexError):
        images.select([6])
    with pytest.raises(IndexError):
        images.select([-1])
    with pytest.raises(IndexError):
        images.select([True])
    part.labels[:] = -1
    assert images.num_labelled == 6, "a selection has its own labels"


def test_concat_opens_the_right_pictures_even_nested_and_pickled() -> None:
    a, b, c = toy(3, 1, "a"), toy(4, 2, "b"), toy(2, 3, "c").without_labels()
    joined = concat(concat(a, b.select([3, 0])), c, a.select([2]))
    joined = pickle.loads(pickle.dumps(joined))
    assert len(joined) == 8 and joined.num_labelled == 6
    expected = [(a, 0), (a, 1), (a, 2), (b, 3), (b, 0), (c, 0), (c, 1), (a, 2)]
    for index, (part, place) in enumerate(expected):
        assert joined.ids[index] == part.ids[place]
        assert np.array_equal(np.asarray(joined.load(index)), np.asarray(part.load(place)))


def test_a_set_knows_how_its_pictures_are_decoded(tmp_path: Path) -> None:
    files = read_unlabelled(picture_folder(tmp_path, range(3)))
    assert toy().decoding == 1 and files.decoding == DECODING > 1
    assert concat(toy(), files).decoding == DECODING and concat(toy(), toy(2, 5, "b")).decoding == 1
    assert files.select([0]).decoding == DECODING == pickle.loads(pickle.dumps(files)).decoding


def test_concat_refuses_other_classes() -> None:
    other = from_arrays(np.zeros((1, 2, 2), np.uint8), [0], ("bird",), "o")
    with refused("[cat, dog]", "[bird]"):
        concat(toy(), other)
    nameless = from_arrays(np.zeros((1, 2, 2), np.uint8), [-1], (), "n")
    assert concat(nameless, toy()).classes == ("cat", "dog")
    with refused("concat"):
        concat()


def test_overlap_finds_equal_content() -> None:
    a = toy(4)
    b = from_arrays(
        np.stack([np.asarray(a.load(2).convert("L")), np.zeros((4, 4), np.uint8)]),
        [0, 0],
        ("cat",),
        "b",
    )
    assert overlap(a, b) == [(a.ids[2], b.ids[0])]
    assert overlap(b, b.select([1])) == [(b.ids[1], b.ids[1])]


def test_faulty_sets_are_refused() -> None:
    pixels = np.zeros((2, 4, 4), dtype=np.uint8)
    with refused(-1, 0, 1, "x/1"):
        from_arrays(pixels, [0, 1], ("a",), "x")
    with refused("2 ids", "(1,)"):
        from_arrays(pixels, [0], ("a",), "x")
    with refused(key="x", got="float32 [2, 4, 4]"):
        from_arrays(pixels.astype(np.float32), [0, 0], ("a",), "x")  # type: ignore[arg-type]
    with refused("a, a"):
        from_arrays(pixels, [0, 0], ("a", "a"), "x")
