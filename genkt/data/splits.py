"""Which samples train, validate, test, and which of them keep their label: seeded, stratified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.data.class_names import class_of_text
from genkt.data.groups import held_groups
from genkt.data.images import ImageSet, Skipped, content_of
from genkt.data.names import canonical
from genkt.data.tables import Row, check_faults, read_rows
from genkt.io import derive_seed, did_you_mean, home_path
from genkt.types import UNLABELLED, UserError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """A data set's parts; ``unlabelled`` holds the pictures without a class.

    Args:
        notes: what the user should know about how the parts were made, one sentence each.
    """

    train: ImageSet
    validation: ImageSet | None = None
    test: ImageSet | None = None
    unlabelled: ImageSet | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            part: ImageSet | None = getattr(self, name)
            if part is not None:
                check_classes(part.classes, self.classes, name)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same in every labelled part."""
        return self.train.classes

    @property
    def parts(self) -> dict[str, ImageSet]:
        """The parts that exist, by name."""
        named = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "unlabelled": self.unlabelled,
        }
        return {name: part for name, part in named.items() if part is not None}

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every file left out of any part, once."""
        entries = (entry for part in self.parts.values() for entry in part.skipped)
        return tuple(dict.fromkeys(entries))


def check_classes(found: Sequence[str], expected: Sequence[str], place: str) -> None:
    """Refuse a part whose class names are not those of the training part.

    Raises:
        UserError: with the names that are too many and those that are missing.
    """
    if tuple(found) == tuple(expected):
        return
    extra = sorted(set(found) - set(expected))
    lacking = sorted(set(expected) - set(found))
    reasons = []
    if extra:
        reasons.append(f"it has {shown_names(extra)}, unknown to train")
        reasons[0] += did_you_mean(extra[0], expected).replace(" Did", ", did")
    if lacking:
        reasons.append(
            f"{shown_names(lacking)} missing (a class may be empty there, but must exist)"
        )
    reason = "; ".join(reasons) or "the order differs"
    raise UserError(f"{place}: its classes are not those of train: {reason}")


def shown_names(names: Sequence[str], most: int = 5) -> str:
    """The first few names in quotes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def group_keys(images: ImageSet) -> list[str]:
    """[N] keys: samples with the same key are copies and must stay on the same side."""
    return [content_of(sample_id) for sample_id in images.ids]


def _shuffled_groups(images: ImageSet, seed: int, purpose: str) -> list[dict[str, list[int]]]:
    """For each class, key -> indices, in an order set only by seed, purpose and ids."""
    keys = group_keys(images)
    members: list[list[int]] = [[] for _ in images.classes]
    for index, label in enumerate(images.labels.tolist()):
        if label != UNLABELLED:
            members[label].append(index)

    def order(index: int) -> tuple[int, str]:
        return derive_seed(seed, images.ids[index], purpose), images.ids[index]

    found: list[dict[str, list[int]]] = []
    for indices in members:
        found.append({})
        for index in sorted(indices, key=order):
            found[-1].setdefault(keys[index], []).append(index)
    return found


def _copies_last(groups: dict[str, list[int]], unsure: set[str]) -> list[int]:
    """The first sample of every group, then the second ones, and so on; unsure ones come last."""
    ranked = [
        (key in unsure, rank, index)
        for key, group in groups.items()
        for rank, index in enumerate(group)
    ]
    return [index for _, _, index in sorted(ranked, key=lambda entry: entry[:2])]


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise UserError(f"{name}={value}: expected a number above 0 and at most 1")


def _portion(fraction: float, count: int) -> int:
    """``fraction`` of ``count``, half rounded up, at least 1; grows with the fraction."""
    return max(1, math.floor(fraction * count + 0.5))


def _divide(images: ImageSet, chosen: list[int]) -> tuple[Indices, Indices]:
    """Sorted ``chosen`` and sorted others."""
    mask = np.zeros(len(images), dtype=np.bool_)
    mask[chosen] = True
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def draw_labels(
    images: ImageSet,
    *,
    per_class: int | None = None,
    fraction: float | None = None,
    list_file: str | Path | None = None,
    seed: int = 0,
) -> tuple[Indices, Indices]:
    """Choose the samples that keep their label: (labelled indices, all other indices), sorted.

    The draw depends on the seed and the sample ids only, not on their order, and is nested: with
    one seed the samples of a small ``per_class`` or ``fraction`` are among those of a larger one.
    A copy of a picture is drawn only when no other picture of its class is left, and a picture
    that is in several classes comes last.

    Args:
        images: the training images.
        per_class: this many of every class.
        fraction: this share of every class, rounded, at least one of each class that has any.
        list_file: a text with one relative path or sample id per line, then optionally ``,class``,
            which must be the image's class; empty lines and lines that start with ``#`` do not
            count.
        seed: of the draw; a list file needs none. If none of the three is given, every label is
        kept.

    Raises:
        UserError: more than one way given, a class with fewer images, faulty lines (all named).
    """
    given = [value for value in (per_class, fraction, list_file) if value is not None]
    if len(given) > 1:
        raise UserError(
            "choose labels by one of per_class, fraction and list_file, "
            f"got per_class={per_class}, fraction={fraction}, list_file={list_file}"
        )
    if list_file is not None:
        return _divide(images, _read_list(images, home_path(list_file)))
    if per_class is None and fraction is None:
        return _divide(images, np.flatnonzero(images.labels >= 0).tolist())
    unsure = _in_several_classes(images)
    groups = _shuffled_groups(images, seed, "labels")
    classes = [_copies_last(each, unsure) for each in groups]
    if per_class is not None:
        _check_per_class(images, per_class)
        return _divide(images, [index for order in classes for index in order[:per_class]])
    assert fraction is not None
    _check_fraction("fraction", fraction)
    chosen = [i for order in classes if order for i in order[: _portion(fraction, len(order))]]
    return _divide(images, chosen)


def _check_per_class(images: ImageSet, per_class: int) -> None:
    if per_class < 1:
        raise UserError(f"per_class={per_class}: expected at least 1")
    short = [
        f"'{name}' has {count}"
        for name, count in images.class_counts().items()
        if count < per_class
    ]
    if short:
        more = f" and {len(short) - 5} classes more" if len(short) > 5 else ""
        raise UserError(
            f"per_class={per_class} is more than some classes have: {', '.join(short[:5])}{more}"
        )


def _read_list(images: ImageSet, list_file: Path) -> list[int]:
    places: dict[str, list[int]] = {}
    for index, sample_id in enumerate(images.ids):
        path = sample_id.rpartition("#")[0]
        for name in {sample_id, path, canonical(sample_id), canonical(path)}:
            places.setdefault(name, []).append(index)
    chosen: dict[int, None] = {}
    faults: list[str] = []
    for row in read_rows(list_file, "list file", known=places.__contains__, labelled=False):
        found = _resolve(images, places, row)
        if isinstance(found, int) and found in chosen:
            found = f"'{row.line.text}' comes twice"
        if isinstance(found, int):
            chosen[found] = None
        else:
            faults.append(f"line {row.line.number}: {found}")
    check_faults(faults, f"list file {list_file}")
    if not chosen:
        raise UserError(
            f"list file {list_file}: expected one path or sample id per line, got an empty file"
        )
    return list(chosen)


def _resolve(images: ImageSet, places: dict[str, list[int]], row: Row) -> int | str:
    """The index of the sample that a row names, or what is wrong with the row."""
    path, class_name = row.line.text, ""
    if canonical(path) not in places:  # a path may itself contain a comma, and need no quotes
        path, _, class_name = (part.strip() for part in path.rpartition(","))
    if canonical(path) not in places:
        path, class_name = row.name, row.class_name
        if row.fault:
            return row.fault
    found = places.get(path) or places.get(canonical(path), [])
    if not found:
        return f"'{path}' is not among the {len(images)} training images{_near(path, places)}"
    if len(found) > 1:
        return f"'{path}' names {len(found)} images, give the sample id"
    label = int(images.labels[found[0]])
    if label == UNLABELLED:
        return f"'{path}' has no label"
    own = images.classes[label]
    if class_name not in ("", own) and class_of_text(class_name) != class_of_text(own):
        return f"'{path}' is of class '{own}', not '{class_name}'"
    return found[0]


def _near(path: str, places: dict[str, list[int]]) -> str:
    """A hint if only a leading folder such as ``train/`` is missing from the path; else ""."""
    longer = next((name for name in places if name.endswith("/" + path)), None)
    return f" (did you mean {longer}?)" if longer else ""


def holdout(
    images: ImageSet, fraction: float, seed: int, purpose: str = "holdout"
) -> tuple[Indices, Indices]:
    """Hold out a stratified part of the labelled samples: (kept indices, held-out indices).

    Each class with two or more images loses ``fraction`` of them (rounded, at least one, never
    all); all other samples are kept. Nested and independent of file order, as ``draw_labels``.
    Copies of one picture stay together, so that a class may give more or fewer by less than the
    largest group of copies; pictures that are in several classes, or labelled only once, are kept.
    Where the images have groups, whole groups are held out (see ``held_groups``): counts by class
    are as close as they allow, and a larger fraction may hold out other groups.

    Args:
        images: what to divide.
        fraction: above 0, at most 1.
        seed: of the draw.
        purpose: a word that makes draws with one seed for different purposes independent.

    Raises:
        UserError: a fraction out of range, or no class with two images that are no copies.
    """
    _check_fraction("fraction", fraction)
    unsure = _in_several_classes(images)
    held: list[int] = []
    if images.groups is not None:
        counts = images.class_counts().values()
        wanted = [_portion(fraction, count) if count > 1 else 0 for count in counts]
        held = held_groups(images, wanted, unsure, seed, purpose)
    else:
        for groups in _shuffled_groups(images, seed, purpose):
            size = _portion(fraction, sum(map(len, groups.values())))
            certain = [group for key, group in groups.items() if key not in unsure]
            held += _first_groups(certain[: len(groups) - 1], size)
    if not held and images.groups is not None:
        raise UserError("nothing can be held out: every group has all images of some class")
    if not held:
        raise UserError(
            "nothing can be held out: no class has two labelled images that are no copies"
        )
    chosen, kept = _divide(images, held)
    return kept, chosen


def _in_several_classes(images: ImageSet) -> set[str]:
    """Keys whose samples disagree in their class, or in whether they have one."""
    first: dict[str, int] = {}
    pairs = zip(group_keys(images), images.labels.tolist(), strict=True)
    return {key for key, label in pairs if first.setdefault(key, label) != label}


def _first_groups(groups: list[list[int]], wanted: int) -> list[int]:
    """The samples of the first groups, with a total closest to ``wanted``; at least one group."""
    if not groups:
        return []
    totals = np.cumsum([len(group) for group in groups])
    count = int(np.abs(totals - wanted).argmin()) + 1
    return [index for group in groups[:count] for index in group]


def carve_missing(
    splits: Splits, *, test_fraction: float, validation_fraction: float, seed: int
) -> Splits:
    """Split the missing parts of a data set off its training images.

    A test part is made only if there is neither test nor validation. Fractions are of the full
    ``train``; 0 makes no such part.

    Raises:
        UserError: a fraction below 0, fractions that leave nothing to train on, or nothing that can
        be split off.
    """
    for name, value in (
        ("test_fraction", test_fraction),
        ("validation_fraction", validation_fraction),
    ):
        if not 0.0 <= value < 1.0:
            raise UserError(f"{name}={value}: expected a number from 0 to below 1")
    if test_fraction + validation_fraction >= 1.0:
        raise UserError(
            f"test_fraction={test_fraction} and validation_fraction={validation_fraction} "
            "leave nothing to train on: expected a sum below 1"
        )
    rest = 1.0
    if test_fraction and splits.test is None and splits.validation is None:
        kept, held = _carve(splits.train, "test", test_fraction, test_fraction, seed)
        splits = replace(splits, train=splits.train.select(kept), test=splits.train.select(held))
        rest -= test_fraction
    if validation_fraction and splits.validation is None:
        share = validation_fraction / rest
        kept, held = _carve(splits.train, "validation", validation_fraction, share, seed)
        splits = replace(
            splits, train=splits.train.select(kept), validation=splits.train.select(held)
        )
    return splits


def _carve(
    images: ImageSet, part: str, fraction: float, share: float, seed: int
) -> tuple[Indices, Indices]:
    """As ``holdout``; where nothing can be, the message names the setting."""
    try:
        return holdout(images, share, seed, part)
    except UserError as error:
        raise UserError(
            f"{part}_fraction={fraction}: {error}; give more images, a {part} part, or 0"
        ) from error
