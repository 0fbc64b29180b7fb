"""Near copies of test pictures: found however they were saved, and no false alarm on digits."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from genkt.data import near_copies
from genkt.data.builtin.digits import digits, digits_on_photos
from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, photo_crops
from genkt.data.images import ImageSet
from genkt.data.looks import NUM_PARTS, bits_apart, likeness, look_of, nearest_looks
from genkt.data.near_copies import find_near_copies
from genkt.data.splits import Splits

PHOTOS = [Image.fromarray(pixels) for pixels in photo_crops(DOWNSTREAM_PHOTOS, 40, seed=3, size=96)]
TOP = np.uint64(1 << 63)


def saved(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


SAME: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": lambda p: saved(p, 75),
    "saved badly": lambda p: saved(p, 30),
    "smaller": lambda p: p.resize((64, 64), Image.Resampling.LANCZOS),
    "larger": lambda p: p.resize((200, 220)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
    "grey": lambda p: p.convert("L"),
}


def looks(pictures: list[Image.Image]) -> np.ndarray:
    return np.array([look_of(each) for each in pictures], np.uint64)


def image_set(pictures: list[Image.Image], prefix: str, known: bool = True) -> ImageSet:
    ids = [f"{prefix}/{row}.png#{prefix}{row}" for row in range(len(pictures))]
    opener = lambda sample_id, item: pictures[item]  # noqa: E731
    labels = [row % 2 for row in range(len(pictures))]
    return ImageSet(
        ids, labels, ("a", "b"), np.arange(len(ids)), opener,
        looks=looks(pictures) if known else None,
    )  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_a_picture_is_found_however_it_was_saved(how: str) -> None:
    other = [SAME[how](each) for each in reversed(PHOTOS)]
    rows, partners = nearest_looks(looks(PHOTOS), looks(other))
    assert len(rows) >= 0.95 * len(PHOTOS)
    assert (rows == len(PHOTOS) - 1 - partners).all(), "and no other one"
    assert min(likeness(PHOTOS[row], other[-1 - row]) for row in range(40)) > near_copies.ALIKE


@pytest.mark.parametrize("splits", [digits(), digits_on_photos()], ids=["digits", "on photos"])
def test_handwritten_digits_are_no_near_copies(splits: Splits) -> None:
    found = find_near_copies(splits)
    assert found.pairs == () and not found.notes()


looks_of_few_bits = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(looks_of_few_bits, st.lists(st.sets(st.integers(0, 62), max_size=7), max_size=30))
def test_the_nearest_is_found_as_if_all_were_compared(
    values: list[int], flips: list[set[int]]
) -> None:
    others = np.array(values, np.uint64) | TOP
    mine = [values[n % len(values)] ^ sum(1 << bit for bit in bits) for n, bits in enumerate(flips)]
    own = np.array(mine, np.uint64) | TOP
    rows, partners = nearest_looks(own, others)
    apart = [[bits_apart(int(a), int(b)) for b in others] for a in own]
    flat = [value == TOP for value in own]
    near = [row for row, each in enumerate(apart) if min(each) < NUM_PARTS and not flat[row]]
    assert rows.tolist() == near
    for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
        assert apart[row][partner] == min(apart[row])


def test_flat_pictures_have_no_neighbours() -> None:
    blank = looks([Image.new("RGB", (20, 30), color) for color in ("white", "black", "red")])
    assert len(set(blank.tolist())) == 1 and not len(nearest_looks(blank, blank)[0])
    assert likeness(Image.new("L", (9, 9)), PHOTOS[0]) == 0


def test_pairs_of_every_part_are_told_and_their_parts_unchanged() -> None:
    test = image_set(PHOTOS[:10], "test")
    train = image_set([*PHOTOS[20:30], saved(PHOTOS[3], 80)], "train")
    validation = image_set([*PHOTOS[30:34], SAME["grey"](PHOTOS[3])], "val", known=False)
    splits = Splits(train, validation, test)
    found = find_near_copies(splits)
    assert found.pairs is not None
    assert {(pair.test, pair.part, pair.other) for pair in found.pairs} == {
        (3, "train", 10), (3, "validation", 4),
    }  # fmt: skip
    assert [pair.likeness for pair in found.pairs] == sorted(
        (pair.likeness for pair in found.pairs), reverse=True
    )
    (note,) = found.notes()
    assert note.startswith("1 test image has a near copy (1 in validation, 1 in train)")


def test_what_is_not_compared_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = Splits(image_set(PHOTOS[:8], "train"), test=image_set(PHOTOS[:9], "test"))
    monkeypatch.setattr(near_copies, "MOST_PAIRS", 5)
    few = find_near_copies(splits)
    assert few.pairs is not None and len(few.pairs) == 5
    assert "8 pairs look alike" in few.notes()[1]
    monkeypatch.setattr(near_copies, "MOST", 16)
    none = find_near_copies(splits)
    assert none.pairs is None and "17 images" in none.notes()[0]
    monkeypatch.setattr(near_copies, "MOST_LOADED", 8)
    monkeypatch.setattr(near_copies, "MOST", 17)
    unseen = replace(splits, test=splits.parts["test"].replaced(looks=None))
    assert (
        find_near_copies(unseen).pairs is None and "9 images" in find_near_copies(unseen).notes()[0]
    )


def test_labelled_parts_are_compared_where_unlabelled_ones_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = image_set(PHOTOS[8:20], "pool", known=False).without_labels()
    splits = Splits(
        image_set([*PHOTOS[30:34], saved(PHOTOS[3], 80)], "train"),
        test=image_set(PHOTOS[:8], "test"),
        unlabelled=pool,
    )
    everything = find_near_copies(splits)
    monkeypatch.setattr(near_copies, "MOST", 24)
    found = find_near_copies(splits)
    assert found.pairs == everything.pairs and len(found.pairs or ()) == 1
    assert "among unlabelled ones were not looked for: the data have 25 images" in found.notes()[1]
    monkeypatch.setattr(near_copies, "MOST", 12)
    assert find_near_copies(splits).pairs is None


def test_no_picture_is_opened_where_looks_are_known_and_nothing_is_near() -> None:
    def never(sample_id: str, item: int) -> Image.Image:
        raise AssertionError("opened")

    test, train = image_set(PHOTOS[:5], "test"), image_set(PHOTOS[20:30], "train")
    splits = Splits(train.replaced(open_item=never), test=test.replaced(open_item=never))
    assert find_near_copies(splits).pairs == ()


def test_many_pictures_are_not_all_compared_with_all() -> None:
    """All pairs would take minutes."""
    values = np.random.default_rng(0).integers(0, 2**63, 50_000, dtype=np.uint64) | TOP
    begun = time.process_time()
    rows, partners = nearest_looks(values[:40_000] ^ np.uint64(0b1011), values)
    assert (rows == partners).all() and len(rows) == 40_000
    assert time.process_time() - begun < 30
