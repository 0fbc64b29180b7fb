"""Seeded stratified draws: counts, nesting, independence of order, list files and their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.data.images import ImageSet, from_arrays
from genkt.data.splits import Splits, carve_missing, draw_labels, holdout


def toy(counts: tuple[int, ...] = (12, 7, 30), unlabelled: int = 4) -> ImageSet:
    labels = [label for label, count in enumerate(counts) for _ in range(count)] + [-1] * unlabelled
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2), dtype=np.uint8)
    return from_arrays(pixels, labels, tuple("abcdefgh"[: len(counts)]), "toy")


def ids(images: ImageSet, indices: Any) -> set[str]:
    return set(images.select(indices).ids)


counts_strategy = st.lists(st.integers(2, 20), min_size=2, max_size=5).map(tuple)


@settings(max_examples=30, deadline=None)
@given(counts_strategy, st.integers(0, 99), st.data())
def test_draws_are_stratified_nested_and_blind_to_order(
    counts: tuple[int, ...], seed: int, data: st.DataObject
) -> None:
    images = toy(counts)
    large = data.draw(st.integers(1, min(counts)))
    small = data.draw(st.integers(1, large))
    kept, rest = draw_labels(images, per_class=large, seed=seed)
    assert set(images.select(kept).class_counts().values()) == {large}
    assert sorted([*kept, *rest]) == list(range(len(images))), "every index on one side"
    fewer, _ = draw_labels(images, per_class=small, seed=seed)
    assert ids(images, fewer) <= ids(images, kept)
    shuffled = images.select(np.random.default_rng(seed).permutation(len(images)))
    again, _ = draw_labels(shuffled, per_class=large, seed=seed)
    assert ids(shuffled, again) == ids(images, kept)


@settings(max_examples=30, deadline=None)
@given(counts_strategy, st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.integers(0, 9))
def test_fractions(counts: tuple[int, ...], one: float, other: float, seed: int) -> None:
    images = toy(counts)
    low, high = sorted((one, other))
    kept, _ = draw_labels(images, fraction=high, seed=seed)
    for count, got in zip(counts, images.select(kept).class_counts().values(), strict=True):
        assert got >= 1 and abs(got - high * count) <= max(0.5 + 1e-9, 1 - high * count)
    fewer, _ = draw_labels(images, fraction=low, seed=seed)
    assert ids(images, fewer) <= ids(images, kept)
    stays, held = holdout(images, high, seed)
    assert not set(stays) & set(held) and len(stays) + len(held) == len(images)
    assert min(images.select(stays).class_counts().values()) >= 1
    assert min(images.select(held).class_counts().values()) >= 1
    assert set(held) >= set(holdout(images, low, seed)[1])


def test_seeds_and_purposes_differ() -> None:
    images = toy()
    draws = {tuple(draw_labels(images, per_class=3, seed=seed)[0]) for seed in range(5)}
    assert len(draws) == 5
    assert tuple(holdout(images, 0.3, 0)[1]) != tuple(holdout(images, 0.3, 0, "test")[1])


def test_a_known_draw_never_changes() -> None:
    kept, _ = draw_labels(toy(), per_class=2, seed=7)
    assert kept.tolist() == [3, 7, 13, 17, 20, 39]


def test_all_labels_by_default() -> None:
    kept, rest = draw_labels(toy())
    assert (len(kept), len(rest)) == (49, 4)


def test_per_class_faults() -> None:
    with refused("per_class=13", "a", 12, "b"):
        draw_labels(toy(), per_class=13)
    with refused("per_class=0", 1):
        draw_labels(toy(), per_class=0)
    with refused("per_class=1", "fraction=0.5"):
        draw_labels(toy(), per_class=1, fraction=0.5)
    for wrong in (0.0, 1.5, float("nan")):
        with refused(0, 1):
            draw_labels(toy(), fraction=wrong)


def test_list_file(tmp_path: Path) -> None:
    images = toy()
    path = tmp_path / "labels.txt"
    lines = ["# mine", "toy/0", "", f"{images.ids[13]}, b", "toy/20,c"]
    path.write_text("\ufeff" + "\r\n".join(lines))
    kept, rest = draw_labels(images, list_file=path)
    assert kept.tolist() == [0, 13, 20] and len(rest) == len(images) - 3


def test_list_file_names_every_fault(tmp_path: Path) -> None:
    images = toy()
    path = tmp_path / "labels.txt"
    path.write_text("toy/0\ntoy/999\n5\ntoy/1,b\ntoy/0\ntoy/50\nelse.png,a\n")
    with refused("6 faults") as caught:
        draw_labels(images, list_file=path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "line 2: 'toy/999' is not among the 53 training images",
        "line 3: '5' is not among the 53 training images (did you mean toy/5?)",
        "line 4: 'toy/1' is of class 'a', not 'b'",
        "line 5: 'toy/0' comes twice",
        "line 6: 'toy/50' has no label",
        "line 7: 'else.png' is not among",
    ):
        assert part in message
    with refused("none.txt"):
        draw_labels(images, list_file=tmp_path / "none.txt")
    path.write_text("# nothing\n")
    with refused("labels.txt"):
        draw_labels(images, list_file=path)
    path.write_bytes(b"\xff\xfe\x00")
    with refused("labels.txt"):
        draw_labels(images, list_file=path)


def test_list_file_paths_may_hold_commas(tmp_path: Path) -> None:
    images = from_arrays(np.zeros((2, 2, 2), np.uint8), [0, 1], ("a", "b"), "odd,name#1")
    path = tmp_path / "labels.txt"
    path.write_text("odd,name#1/0\nodd,name#1/1,b\n")
    assert draw_labels(images, list_file=path)[0].tolist() == [0, 1]


def test_list_file_may_have_a_header_and_other_columns(tmp_path: Path) -> None:
    images = from_arrays(np.zeros((3, 2, 2), np.uint8), [0, 1, 1], ("3", "b"), "#toy")
    path = tmp_path / "labels.csv"
    path.write_text("fold;label;image\n0;3.0;#toy/0\n1;b;#toy/2\n", encoding="utf-16")
    assert draw_labels(images, list_file=path)[0].tolist() == [0, 2]
    path.write_text("# toy/1\n#toy/1\n")
    assert draw_labels(images, list_file=path)[0].tolist() == [1]
    path.write_text("image,label\n#toy/0,b\n")
    with refused(2, "#toy/0", 3, "b"):
        draw_labels(images, list_file=path)


def test_holdout_needs_two_of_a_class() -> None:
    with refused("copies"):
        holdout(toy((1, 1)), 0.5, 0)


def test_carving_what_is_missing() -> None:
    images = toy((20, 40), 0)
    splits = carve_missing(Splits(images), test_fraction=0.25, validation_fraction=0.1, seed=0)
    assert splits.test is not None and splits.validation is not None
    assert splits.test.class_counts() == {"a": 5, "b": 10}
    assert splits.validation.class_counts() == {"a": 2, "b": 4}
    everything = [sample_id for part in splits.parts.values() for sample_id in part.ids]
    assert sorted(everything) == sorted(images.ids)
    kept = carve_missing(
        Splits(images, validation=images), test_fraction=0.25, validation_fraction=0.1, seed=0
    )
    assert kept.test is None and len(kept.train) == 60, "a part that is there is never replaced"
    with refused("test_fraction=0.5", "validation_fraction=0.5"):
        carve_missing(Splits(images), test_fraction=0.5, validation_fraction=0.5, seed=0)
    with refused("test_fraction=-0.1"):
        carve_missing(Splits(images), test_fraction=-0.1, validation_fraction=0.0, seed=0)
    with refused("validation_fraction=0.2", 0):
        carve_missing(Splits(toy((2, 2))), test_fraction=0.4, validation_fraction=0.2, seed=0)


def test_splits_must_agree_on_classes() -> None:
    with refused("c"):
        Splits(toy(), test=toy((2, 2)))
    with refused("c"):
        Splits(toy((2, 2)), validation=toy())
