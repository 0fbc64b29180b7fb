"""Folds of labelled images: every one is held out once, so that no other labels are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from genkt.data.images import ImageSet
from genkt.data.splits import Indices, in_several_classes, shown_names, shuffled_groups
from genkt.types import UserError

MOST_FOLDS = 5
"""Of ``auto``: more of them cost more trainings and change little (Kohavi, 1995, takes 5 to 20)."""


@dataclass(frozen=True)
class Folds:
    """The labelled images, divided.

    Args:
        held: of each fold, the indices of the images that are held out in it, sorted.
        kept: those that every fold trains on, sorted: a class's only label, and pictures that are
            in several classes. They judge nothing.
        single: classes with one labelled picture.
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
        many = "1 class has" if count == 1 else f"{count} classes have"
        return (
            f"{many} only one labelled picture ({shown_names(self.single)}): it is in the training "
            "part of every fold, and no fold asks for it."
        )


def stratified_folds(images: ImageSet, wanted: int | Literal["auto"], seed: int) -> Folds:
    """Divide labelled images into folds with equal shares of every class.

    Copies of one picture stay together. No fold holds all labels of a class. The folds depend on
    the seed and the sample ids only, not on the order of the images.

    Args:
        images: the labelled images of a draw.
        wanted: number of folds; auto: 5, or as many as the rarest class has labels, at least 2.
            Classes with a single label do not count.
        seed: of the draw.

    Raises:
        UserError: no class has two images that are no copies, or more folds than images.
    """
    unsure = in_several_classes(images)
    classes = [
        [group for key, group in groups.items() if key not in unsure]
        for groups in shuffled_groups(images, seed, "folds")
    ]
    divided = [groups for groups in classes if len(groups) > 1]
    if not divided:
        raise UserError(
            "validation: expected a class with two labelled images that are no copies, to hold "
            "one out, got none; give more labels, or validation=images or none"
        )
    total = sum(map(len, divided))
    number = min(MOST_FOLDS, *map(len, divided)) if wanted == "auto" else wanted
    if number > total:
        raise UserError.of(
            "folds", f"at most {total}, the labelled images to hold out", str(number)
        )
    held: list[list[int]] = [[] for _ in range(number)]
    # From class to class the count goes on, so that folds differ by one group at most.
    for place, group in enumerate(group for groups in divided for group in groups):
        held[place % number] += group
    inside = np.array([index for fold in held for index in fold])
    single = [n for n, groups in zip(images.classes, classes, strict=True) if len(groups) == 1]
    return Folds(
        tuple(np.sort(np.array(fold, dtype=np.int64)) for fold in held),
        np.setdiff1d(np.arange(len(images)), inside),
        tuple(single),
    )
