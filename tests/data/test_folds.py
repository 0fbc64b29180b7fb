"""Folds: every label is held out once, every class stays, copies stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.data.folds import stratified_folds
from genkt.data.images import ImageSet, from_arrays
from genkt.types import UserError


def toy(counts: tuple[int, ...], copies: int = 0) -> ImageSet:
    """Pictures of some classes, the first of them ``copies`` times more."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2), dtype=np.uint8)
    pixels = np.concatenate([pixels, pixels[:1].repeat(copies, 0)])
    return from_arrays(pixels, labels + labels[:1] * copies, tuple("abcdef"[: len(counts)]), "toy")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=5).map(tuple),
    st.integers(0, 99),
    st.integers(2, 7) | st.just("auto"),
)
def test_every_label_is_held_out_once(
    counts: tuple[int, ...], seed: int, wanted: int | str
) -> None:
    images = toy(counts)
    if wanted != "auto" and int(wanted) > len(images):
        return
    folds = stratified_folds(images, wanted, seed)  # type: ignore[arg-type]
    assert len(folds.held) == (min(5, *counts) if wanted == "auto" else wanted)
    assert sorted(np.concatenate(folds.held)) == list(range(len(images)))
    assert not len(folds.kept) and not folds.note
    sizes = [len(fold) for fold in folds.held]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    for fold in folds.held:
        rest = images.select(np.setdiff1d(np.arange(len(images)), fold))
        assert min(rest.class_counts().values()) >= 1
        shares = images.select(fold).class_counts().values()
        assert all(
            abs(got - count / len(sizes)) < 1 for got, count in zip(shares, counts, strict=True)
        )


def test_the_folds_are_blind_to_order_and_differ_by_seed() -> None:
    images = toy((6, 6))
    shuffled = images.select(np.random.default_rng(0).permutation(len(images)))

    def sets(found: ImageSet, seed: int) -> list[set[str]]:
        held = stratified_folds(found, 3, seed).held
        return [set(found.select(fold).ids) for fold in held]

    assert sets(images, 0) == sets(shuffled, 0) != sets(images, 1)


def test_copies_stay_together() -> None:
    images = toy((3, 3), copies=2)
    held = stratified_folds(images, "auto", 0).held
    assert len(held) == 3  # three pictures a class, however many copies
    with_first = [fold for fold in held if {0, 6, 7} & set(fold.tolist())]
    assert len(with_first) == 1 and {0, 6, 7} <= set(with_first[0].tolist())


def test_a_class_with_one_label_is_always_trained_on_and_told() -> None:
    folds = stratified_folds(toy((4, 1, 3)), "auto", 0)
    assert folds.kept.tolist() == [4] and len(folds.held) == 3
    assert folds.single == ("b",) and folds.note.startswith("1 class has")


def test_what_cannot_be_divided_is_refused() -> None:
    with refused("two labelled images"):
        stratified_folds(toy((1, 1)), "auto", 0)
    with refused("folds", "at most 4"):
        stratified_folds(toy((2, 2)), 5, 0)


def test_a_picture_in_two_classes_judges_nothing() -> None:
    pixels = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    pixels = np.concatenate([pixels, pixels[:1]])
    images = from_arrays(pixels, [0, 0, 1, 1, 1], ("a", "b"), "toy")
    folds = stratified_folds(images, 2, 0)
    assert set(folds.kept.tolist()) >= {0, 4}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=12, max_size=12), st.integers(0, 9))
def test_groups_stay_together_and_every_class_stays(names: list[int], seed: int) -> None:
    """Twelve images of three classes, in groups that may have images of several."""
    images = toy((4, 4, 4)).replaced(groups=[f"p{name}" for name in names])
    try:
        folds = stratified_folds(images, 2, seed)
    except UserError:
        shared = [{names[i] for i in range(12) if i // 4 == label} for label in range(3)]
        assert min(map(len, shared)) == 1  # some class is one group
        return
    groups = np.array(names)
    asked = np.concatenate([*folds.held, folds.kept])
    assert sorted(asked) == list(range(12))
    for fold in folds.held:
        rest = np.setdiff1d(np.arange(12), fold)
        assert not set(groups[fold]) & set(groups[rest])
        assert set(images.labels[rest]) == {0, 1, 2}


@pytest.mark.parametrize("wanted", ["auto", 2])
def test_two_labels_a_class_make_two_folds(wanted: int | str) -> None:
    folds = stratified_folds(toy((2, 2, 2)), wanted, 0)  # type: ignore[arg-type]
    assert [len(fold) for fold in folds.held] == [3, 3]
