"""Each picture is in one part of a data set: copies are removed from all other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from genkt.data.images import ImageSet
from genkt.data.splits import Splits, carve_missing, group_keys, shown_names
from genkt.types import UNLABELLED

HELD_OUT = ("test", "validation")
"""Parts whose pictures nothing may be trained on."""

_ORDER = (*HELD_OUT, "train", "unlabelled")
"""A picture is kept in the first of these that has it."""


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
    return _with_notes(carved, _lacking(carved))


def separated(splits: Splits) -> Splits:
    """Remove from each part the pictures of an earlier part; ``notes`` say what is left out.

    The order is test, validation, train, unlabelled. Two pictures are the same if their bytes are
    equal. Copies inside a labelled part stay, because they do no harm. Of unlabelled copies only
    the first stays. A picture in several classes stays too and is named, because both labels may be
    intended. A part other than train that loses all images is treated as absent. Parts that share
    nothing are returned unchanged.
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
        notes += _shared(name, parts[name], out, looked_at)
        parts[name] = _without(parts[name], [index for index, _ in out])
        notes += _several_classes(parts[name], name)
    empty = [name for name, images in splits.parts.items() if len(images) and not len(parts[name])]
    notes += [f"{name}: no other image is left." for name in empty]
    gone = {name for name in empty if name != "train"}
    parts = {name: images for name, images in parts.items() if name not in gone}
    apart = Splits(**parts, notes=splits.notes)
    return _with_notes(apart, [*notes, *_lacking(apart)])


def _with_notes(splits: Splits, notes: Sequence[str]) -> Splits:
    return replace(splits, notes=tuple(dict.fromkeys([*splits.notes, *notes])))


def without_held_out(
    images: ImageSet, splits: Splits, place: str, copied_from: Sequence[Sequence[str]] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows of images that do not copy test or validation images, and notes on the others.

    Args:
        place: what the images are called in the notes.
        copied_from: [N] content hashes of the pictures that each was saved from; () for original
        images.
    """
    known: dict[str, _Owner] = {
        key: (name, index)
        for name in reversed(HELD_OUT)
        if name in splits.parts
        for index, key in enumerate(group_keys(splits.parts[name]))
    }
    keys = group_keys(images)
    groups = zip(keys, copied_from or [()] * len(keys), strict=True)
    found = [next((known[k] for k in (own, *more) if k in known), None) for own, more in groups]
    out = [(index, owner) for index, owner in enumerate(found) if owner is not None]
    kept = np.setdiff1d(np.arange(len(images)), [index for index, _ in out])
    return kept, tuple(_shared(place, images, out, splits.parts))


_Owner = tuple[str, int]
"""The part that keeps a picture, and the index there."""


def _without(images: ImageSet, out: Sequence[int]) -> ImageSet:
    return images.select(np.setdiff1d(np.arange(len(images)), out)) if out else images


def _shared(
    name: str,
    images: ImageSet,
    out: Sequence[tuple[int, _Owner]],
    parts: Mapping[str, ImageSet],
) -> list[str]:
    """One sentence for each part that keeps pictures which are left out of ``name``."""
    found: dict[str, list[tuple[_Place, _Place]]] = {}
    for index, (part, there) in out:
        pair = _Place(images, index), _Place(parts[part], there)
        found.setdefault(part, []).append(pair)
    return [_sentence(name, part, pairs) for part, pairs in found.items()]


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


def _sentence(name: str, part: str, pairs: Sequence[tuple[_Place, _Place]]) -> str:
    mine, owner = pairs[0]
    count = len({there.index for _, there in pairs})
    noun, verb = ("image", "is") if count == 1 else ("images", "are")
    where = f"also in {name}" if part != name else "there more than once"
    files = f"{len(pairs):,} file{'s' if len(pairs) > 1 else ''}"
    text = (
        f"{count:,} {part} {noun} {verb} {where}: {files} left out of {name} (e.g. {mine.path}, "
        f"which is {owner.path}"
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
    count = f"{len(several):,} picture{' is' if len(several) == 1 else 's are'}"
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
            plural = "class has" if len(empty) == 1 else "classes have"
            which = "training" if name == "train" else name
            notes.append(f"{len(empty):,} {plural} no {which} image: {shown_names(empty)}.")
    return notes
