"""Folds of labelled images: every one is held out once, so that no other labels are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genkt.data.groups import linked
from genkt.data.images import ImageSet, content_of
from genkt.data.splits import Indices, shown_names
from genkt.io import derive_seed
from genkt.types import UserError, counted

MOST_FOLDS = 5
"""Of ``auto``: more of them cost more trainings and change little."""


@dataclass(frozen=True)
class Folds:
    """The labelled images, divided.

    Args:
        held: of each fold, the indices of the images that are held out in it, sorted.
        kept: those that every fold trains on, sorted: a class's only picture (or group), and
            pictures that are in several classes. They judge nothing.
        single: classes of which nothing can be held out.
    """

    held: tuple[Indices, ...]
    kept: Indices
    single: tuple[str, ...]

    @property
    def note(self) -> str:
        """One sentence on the classes that no fold can ask about; "" if there are none."""
        if not self.single:
            return ""
        count = len(self.single)
        many = counted(count, "class", "has")
        return (
            f"{many} only one labelled picture or group ({shown_names(self.single)}): it is in the "
            "training part of every fold, and no fold asks for it."
        )


def stratified_folds(images: ImageSet, wanted: int | Literal["auto"], seed: int) -> Folds:
    """Divide labelled images into folds with equal shares of every class.

    Copies of one picture, and images of one group, stay together. No fold holds all labels of a
    class. The folds depend on the seed and the sample ids only, not on the order of the images.

    Args:
        images: the labelled images of a draw.
        wanted: number of folds; auto: 5, or as many as the rarest class has pictures (or groups),
            at least 2. Classes of which nothing can be held out do not count.
        seed: of the draw.

    Raises:
        UserError: nothing can be held out, or there are more folds than images.
    """
    units = _units(images, seed)
    kinds = [np.unique(images.labels[unit]) for unit in units]
    counts = np.bincount(np.concatenate([*kinds, _NONE]), minlength=len(images.classes))
    divided = [unit for unit, kind in zip(units, kinds, strict=True) if counts[kind].min() > 1]
    if not divided:
        raise UserError(
            "validation: expected a class with two labelled images that are no copies (nor of one "
            "group), to hold one out, got none; give more labels, or validation=images or none"
        )
    number = min(MOST_FOLDS, int(counts[counts > 1].min())) if wanted == "auto" else wanted
    if number > len(divided):
        expected = f"at most {len(divided)}, the images to hold out"
        raise UserError.of("folds", expected, str(number))
    held = _dealt(images, divided, counts, number)
    single = [name for name, count in zip(images.classes, counts, strict=True) if count == 1]
    kept = np.setdiff1d(np.arange(len(images)), np.concatenate(held))
    return Folds(tuple(held), kept, tuple(single))


_NONE = np.empty(0, dtype=np.int64)


def _units(images: ImageSet, seed: int) -> list[Indices]:
    """What stays together, class after class, in an order set by the seed and the ids.

    What is linked to a picture that is in several classes is left out.
    """
    classes: dict[str, set[int]] = {}
    contents = [content_of(sample_id) for sample_id in images.ids]
    for content, label in zip(contents, images.labels.tolist(), strict=True):
        classes.setdefault(content, set()).add(label)
    members: dict[int, list[int]] = {}
    for index, number in enumerate(linked(images).tolist()):
        members.setdefault(number, []).append(index)

    def order(unit: list[int]) -> tuple[int, int, int, str]:
        name = min(images.ids[index] for index in unit)
        first = int(images.labels[unit].min())
        return first, -len(unit), derive_seed(seed, name, "folds"), name

    certain = [u for u in members.values() if all(len(classes[contents[i]]) == 1 for i in u)]
    return [np.array(unit, dtype=np.int64) for unit in sorted(certain, key=order)]


def _dealt(
    images: ImageSet, units: list[Indices], counts: NDArray[np.int64], number: int
) -> list[Indices]:
    """Each unit in the fold with the fewest images of its classes, then with the fewest images.

    Args:
        counts: [C] units of each class; no fold gets all of them.
    """
    per_class = np.zeros((number, len(images.classes)), dtype=np.int64)
    per_unit = np.zeros_like(per_class)
    folds: list[list[Indices]] = [[] for _ in range(number)]
    for unit in units:
        kind, sizes = np.unique(images.labels[unit], return_counts=True)
        able = np.flatnonzero((per_unit[:, kind] + 1 < counts[kind]).all(axis=1)).tolist()
        if able:  # else every fold would lose a class: always trained on
            full = per_class[:, kind].sum(axis=1), per_class.sum(axis=1)
            fold = min(able, key=lambda each: (full[0][each], full[1][each]))
            folds[fold].append(unit)
            per_unit[fold, kind] += 1
            per_class[fold, kind] += sizes
    return [np.sort(np.concatenate(fold)) for fold in folds if fold]
