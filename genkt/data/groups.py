"""Groups of images (a patient, a plant, a video) that stay on one side of every split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from genkt.data.images import ImageSet, content_of
from genkt.io import derive_seed
from genkt.types import UNLABELLED, UserError, counted, verb

Indices = NDArray[np.int64]

JUDGED = ("test", "validation")
"""A group on one of these sides makes figures look better where it is on another side too."""


def group_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression that finds the group of an image in its path.

    >>> group_of(group_pattern(r"(P\\d+)_"), "scans/P07_left.png")
    'P07'

    Raises:
        UserError: it is none, or does not say with one pair of brackets what the group is.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UserError.of("data.group", "a regular expression", f"{pattern!r}: {error}") from error
    if found.groups != 1 and len(found.groupindex) != 1:
        many = f"{found.groups} of them" if found.groups else "none"
        hint = "; name the one that counts: (?P<group>...)" if found.groups else ""
        raise UserError.of(
            "data.group", r"one pair of brackets around the group, as in (P\d+)_",
            f"{many} in {pattern!r}", hint,
        )  # fmt: skip
    return found


def group_of(pattern: re.Pattern[str], path: str) -> str | None:
    """What the pattern's brackets hold, anywhere in a path; None where that is nothing."""
    found = pattern.search(path)
    return (found[next(iter(pattern.groupindex), 1)] or None) if found else None


def linked(images: ImageSet) -> Indices:
    """[N] numbers; images with the same one share a group, or a content, or are linked by others.

    Without groups these are the copies of one picture.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = [[f"content {content_of(each)}" for each in images.ids]]
    if images.groups is not None:
        names.append([f"group {each}" for each in images.groups])
    place: dict[str, int] = {}
    ends = [place.setdefault(name, len(images) + len(place)) for each in names for name in each]
    size, rows = len(images) + len(place), np.tile(np.arange(len(images)), len(names))
    graph = coo_array((np.ones(len(ends)), (rows, np.array(ends, np.int64))), (size, size))
    _, found = connected_components(graph, directed=False)
    return np.asarray(found[: len(images)], dtype=np.int64)


def held_groups(
    images: ImageSet, wanted: Sequence[int], unsure: set[str], seed: int, purpose: str
) -> list[int]:
    """Indices of whole groups that hold about as many images of each class as wanted.

    Groups come in an order set by seed, purpose and ids; each is taken if the counts by class come
    closer to what is wanted. No class loses all its images. A group with an image that has no
    class, or more than one, is never taken.

    Args:
        wanted: [C] counts.  unsure: contents of the images with several classes.
    """
    members: dict[int, list[int]] = {}
    for index, number in enumerate(linked(images).tolist()):
        members.setdefault(number, []).append(index)
    counts = {
        number: np.bincount(images.labels[rows], minlength=len(images.classes))
        for number, rows in members.items()
        if (images.labels[rows] != UNLABELLED).all()
        and unsure.isdisjoint(content_of(images.ids[row]) for row in rows)
    }

    def order(number: int) -> tuple[int, str]:
        name = min(images.ids[row] for row in members[number])
        return derive_seed(seed, name, purpose), name

    ordered = sorted(counts, key=order)
    left = np.array(list(images.class_counts().values()), dtype=np.int64)
    lacking = np.array(wanted, dtype=np.int64)
    held: list[int] = []
    for number in ordered:
        if _fits(counts[number], left, lacking):
            held += members[number]
            left, lacking = left - counts[number], lacking - counts[number]
    if not held and (able := [each for each in ordered if _leaves_some(counts[each], left)]):
        held = members[min(able, key=lambda each: np.abs(lacking - counts[each]).sum())]
    return held


def _fits(count: Indices, left: Indices, lacking: Indices) -> bool:
    closer = np.abs(lacking - count).sum() < np.abs(lacking).sum()
    return bool(closer) and _leaves_some(count, left)


def _leaves_some(count: Indices, left: Indices) -> bool:
    return bool((count[count > 0] < left[count > 0]).all())


def on_both_sides(parts: Mapping[str, ImageSet]) -> list[str]:
    """A sentence for each two parts that share groups, where one of them is there to judge."""
    groups = {name: set(part.groups) for name, part in parts.items() if part.groups is not None}
    notes = []
    for one, other in combinations([name for name in _ORDER if name in groups], 2):
        shared = sorted(groups[one] & groups[other])
        if one in JUDGED and shared:
            images = sum(group in groups[one] for group in parts[other].groups or ())
            notes.append(
                f"{counted(len(shared), 'group')} of {one} {verb(len(shared), 'is')} also in "
                f"{other} (e.g. {shared[0]}; {counted(images, 'image')} there): these parts were "
                "given so, and stay so; figures say less about new groups."
            )
    return notes


def without_groups_of(images: ImageSet, name: str, held: Mapping[str, ImageSet]) -> tuple[
    ImageSet, list[str]
]:  # fmt: skip
    """The images without those of groups that were split off, and a sentence for each part.

    Args:
        name: what the images are called.  held: parts that were split off, by name.
    """
    notes = []
    for part, taken in held.items():
        groups = set(taken.groups or ())
        out = [group in groups for group in images.groups or ()]
        if any(out):
            shared = sorted(groups.intersection(images.groups or ()))
            notes.append(
                f"{counted(sum(out), 'image')} of {name} left out: of "
                f"{counted(len(shared), 'group')} (e.g. {shared[0]}) that {part} was made of."
            )
            images = images.select(~np.array(out))
    return images, notes


_ORDER = (*JUDGED, "train", "unlabelled")
