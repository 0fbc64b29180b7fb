"""Each picture is in one part of a data set: copies are removed from all other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from genkt.data.groups import on_both_sides, without_groups_of
from genkt.data.images import ImageSet
from genkt.data.splits import Splits, carve_missing, group_keys, shown_names
from genkt.types import UNLABELLED, UserError, counted

HELD_OUT = ("test", "validation")
"""Parts whose pictures nothing may be trained on."""

_ORDER = (*HELD_OUT, "train", "unlabelled")
"""A picture is kept in the first of these that has it."""


_Owner = tuple[str, int]
"""The part that keeps a picture, and the index there."""


def finished(
    splits: Splits, *, test_fraction: float, validation_fraction: float, seed: int
) -> Splits:
    """The last step of all readers: remove shared pictures, then split off missing parts.

    Raises:
        UserError: as ``carve_missing``.
    """
    apart = separated(splits)
    if not len(apart.train):  # this is reported, and refused when something is to be trained
        return apart
    carved = carve_missing(
        apart, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed
    )
    carved, notes = _groups_apart(apart, carved)
    return _with_notes(carved, [*notes, *_lacking(carved)])


def _groups_apart(given: Splits, carved: Splits) -> tuple[Splits, list[str]]:
    """No unlabelled image is of a group that went into a new part; what is left out is told."""
    new = {name: part for name, part in carved.parts.items() if name not in given.parts}
    if not new or carved.unlabelled is None:
        return carved, []
    left, notes = without_groups_of(carved.unlabelled, "unlabelled", new)
    if not len(left):
        raise UserError(f"unlabelled: no image is left: {' '.join(notes)}")
    return replace(carved, unlabelled=left), notes


def separated(splits: Splits) -> Splits:
    """Remove from each part the pictures of an earlier part; ``notes`` say what is left out.

    The order is test, validation, train, unlabelled. Two pictures are the same if their bytes are
    equal. Copies inside a labelled part stay, because they do no harm. Of unlabelled copies only
    the first stays. A picture in several classes stays too and is named, because both labels may be
    intended. A group that is in two given parts stays in both, and is told. Parts that share
    nothing are returned unchanged.

    Raises:
        UserError: a part other than train that loses all images. (Without training images a model
        can still be tested: they are asked for when something is to be trained.)
    """
    parts, notes = dict(splits.parts), list[str]()
    known: dict[str, _Owner] = {}
    looked_at: dict[str, ImageSet] = {}
    for name in _ORDER:
        if name not in parts:
            continue
        looked_at[name] = parts[name]
        owners = [
            known.setdefault(key, (name, index))
            for index, key in enumerate(group_keys(parts[name]))
        ]
        out = [
            (index, owner)
            for index, owner in enumerate(owners)
            if owner[0] != name or (name == "unlabelled" and owner[1] != index)
        ]
        told = _shared(name, parts[name], out, looked_at)
        kept = _without(parts[name], [index for index, _ in out])
        if told and not len(kept) and name != "train":
            raise UserError(
                f"{name}: no image is left: {' '.join(told)} Give other images, or leave the part "
                "out"
            )
        parts[name] = kept
        notes += [*told, *_several_classes(kept, name)]
    apart = Splits(**parts, notes=splits.notes)
    return _with_notes(apart, [*notes, *on_both_sides(parts), *_lacking(apart)])


def _with_notes(splits: Splits, notes: Sequence[str]) -> Splits:
    return replace(splits, notes=tuple(dict.fromkeys([*splits.notes, *notes])))


def without_held_out(
    images: ImageSet,
    splits: Splits,
    place: str,
    copied_from: Sequence[Sequence[str]] = (),
    made_from: Sequence[str] = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows of images that are not of test or validation images, and notes on the others.

    Args:
        place: what the images are called in the notes.
        copied_from: [N] content hashes of the pictures that each was saved from; () for original
        images.
        made_from: [N] content hash of the picture that each was synthesized from, "" for none; ()
        where nothing was.
    """
    known = _owners(splits, HELD_OUT)
    copied = _copies(images, known, copied_from)
    made = [
        (index, known[key])
        for index, key in enumerate(made_from)
        if key in known and index not in copied
    ]
    out = [*copied, *(index for index, _ in made)]
    notes = _shared(place, images, list(copied.items()), splits.parts)
    notes += _shared(place, images, made, splits.parts, made=True)
    return np.setdiff1d(np.arange(len(images)), out), tuple(notes)


def without_data(images: ImageSet, splits: Splits, place: str) -> tuple[str, ...]:
    """Notes on images elsewhere that copy some image of the data, as of a gallery.

    Args:
        place: what the images are called.

    Raises:
        UserError: no other image is among them.
    """
    copied = _copies(images, _owners(splits, _ORDER))
    notes = _shared(place, images, list(copied.items()), splits.parts)
    if notes and len(copied) == len(images):
        raise UserError(f"{place}: no other image is left: {' '.join(notes)}")
    return tuple(notes)


def _owners(splits: Splits, names: Sequence[str]) -> dict[str, _Owner]:
    """Content -> the first of the parts that has it, and the first index there."""
    found: dict[str, _Owner] = {}
    for name in names:
        if name in splits.parts:
            for index, key in enumerate(group_keys(splits.parts[name])):
                found.setdefault(key, (name, index))
    return found


def _copies(
    images: ImageSet, known: Mapping[str, _Owner], copied_from: Sequence[Sequence[str]] = ()
) -> dict[int, _Owner]:
    """Index -> owner, of images whose content (or one of those that it was saved from) is known."""
    keys = group_keys(images)
    groups = zip(keys, copied_from or [()] * len(keys), strict=True)
    found = (next((known[k] for k in (own, *more) if k in known), None) for own, more in groups)
    return {index: owner for index, owner in enumerate(found) if owner is not None}


def _without(images: ImageSet, out: Sequence[int]) -> ImageSet:
    return images.select(np.setdiff1d(np.arange(len(images)), out)) if out else images


def _shared(
    name: str,
    images: ImageSet,
    out: Sequence[tuple[int, _Owner]],
    parts: Mapping[str, ImageSet],
    *,
    made: bool = False,
) -> list[str]:
    """One sentence for each part that keeps pictures which are left out of ``name``.

    Args:
        made: they are no copies, but were made of these pictures.
    """
    found: dict[str, list[tuple[_Place, _Place]]] = {}
    for index, (part, there) in out:
        pair = _Place(images, index), _Place(parts[part], there)
        found.setdefault(part, []).append(pair)
    return [_sentence(name, part, pairs, made) for part, pairs in found.items()]


@dataclass(frozen=True)
class _Place:
    """A sample, for the notes."""

    images: ImageSet
    index: int

    @property
    def path(self) -> str:
        return self.images.ids[self.index].rpartition("#")[0]

    @property
    def class_name(self) -> str | None:
        label = int(self.images.labels[self.index])
        return None if label == UNLABELLED else self.images.classes[label]


def _sentence(name: str, part: str, pairs: Sequence[tuple[_Place, _Place]], made: bool) -> str:
    mine, owner = pairs[0]
    count = len({there.index for _, there in pairs})
    where = f"also in {name}" if part != name else "there more than once"
    if made:
        where = f"what images of {name} were made from"
    files = counted(len(pairs), "file")
    text = (
        f"{counted(count, f'{part} image', 'is')} {where}: {files} left out of "
        f"{name} (e.g. {mine.path}, which {'was made from' if made else 'is'} {owner.path}"
    )
    other = [a for a, b in pairs if None not in (a.class_name, b.class_name) and _differ(a, b)]
    if other:
        text += f"; {len(other):,} had another class, e.g. {other[0].path}"
    return f"{text})."


def _differ(one: _Place, other: _Place) -> bool:
    return one.class_name != other.class_name


def _several_classes(images: ImageSet, name: str) -> list[str]:
    """A sentence on pictures with several classes, of which a model can get only one right."""
    first: dict[str, _Place] = {}
    several: dict[str, tuple[_Place, _Place]] = {}
    keys = group_keys(images)
    if len(set(keys)) == len(keys):  # no copies, as mostly: a million images are soon looked at
        return []
    for index in np.flatnonzero(images.labels != UNLABELLED).tolist():
        place = _Place(images, index)
        one = first.setdefault(keys[index], place)
        if _differ(one, place):
            several.setdefault(keys[index], (one, place))
    if not several:
        return []
    count = counted(len(several), "picture", "is")
    one, other = next(iter(several.values()))
    return [
        f"{name}: {count} in more than one class and kept there (e.g. {one.path}, "
        f"{one.class_name}, is {other.path}, {other.class_name}); only one answer counts as right."
    ]


def _lacking(splits: Splits) -> list[str]:
    """Sentences on classes that only some labelled parts have images of."""
    counts: Mapping[str, Mapping[str, int]] = {
        name: splits.parts[name].class_counts()
        for name in ("train", *HELD_OUT)
        if name in splits.parts
    }
    notes = []
    for name, own in counts.items():
        if empty := [each for each, number in own.items() if not number]:
            classes = counted(len(empty), "class", "has")
            which = "training" if name == "train" else name
            notes.append(f"{classes} no {which} image: {shown_names(empty)}.")
    return notes
