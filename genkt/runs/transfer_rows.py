"""From ``transfer_set`` to images and to the transfer rows of each label draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from genkt.config.set_settings import OWN_PARTS, Opener, SetPart, TransferSettings, places_text
from genkt.data.images import ImageSet, concat, content_of
from genkt.data.separation import without_held_out
from genkt.data.splits import Splits
from genkt.io import did_you_mean
from genkt.settings.objects import object_in, places_in
from genkt.training.batches import TransferPart
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.parts import (
    PlainRecords,
    capped_rows,
    first_rows,
    nested_parts,
    without_classes,
)
from genkt.transfer_set.set_files import Record
from genkt.types import UserError


@dataclass(frozen=True)
class _Kind:
    """One kind of transfer images of a run.

    Args:
        name: ``OWN_PARTS``, or their source.
        rows: those that are not training images.
        share: weight in every batch; None: all images are drawn equally often.
        most: limit of them in a draw.
    """

    name: str
    rows: np.ndarray
    share: float | None = None
    most: int | None = None


@dataclass(frozen=True)
class TransferImages:
    """All images that a run may train on, and which of them a draw may transfer on.

    Args:
        images: training images, then those from elsewhere, without their labels.
        from_elsewhere: the latter, with their provenance.
        kinds: the kinds of transfer images of a draw.
        most: limit of transfer images of a draw, of all kinds.
        notes: what was left out.
    """

    images: ImageSet
    from_elsewhere: TransferSet | None
    kinds: tuple[_Kind, ...]
    most: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> int:
        """The row where images from elsewhere start."""
        return len(self.images) - len(self.from_elsewhere or ())

    def choose(
        self, labelled: np.ndarray, others: np.ndarray, seed: int
    ) -> tuple[np.ndarray, tuple[TransferPart, ...], np.ndarray]:
        """The transfer rows of one draw, and their parts where they have shares.

        Args:
            labelled, others: the draw's labelled training rows, and its other ones.
            seed: of the draw.

        Returns:
            (rows, parts, rows that were left out because they copy labelled ones).

        Raises:
            UserError: a part that has no image.
        """
        own = {"labelled": labelled, "unlabelled": others}
        same = self._first_rows
        chosen, copies = [], []
        for kind in self.kinds:
            rows = np.concatenate([own.get(kind.name, others[:0]), kind.rows])
            is_copy = np.isin(same[rows], same[labelled]) & ~np.isin(rows, labelled)
            copies.append(rows[is_copy])
            rows = rows[~is_copy]
            if not len(rows):
                raise UserError(_nothing_in(kind.name, len(self.kinds) > 1))
            chosen.append(self._capped(rows, kind.most, seed))
        transfer = np.concatenate([others[:0], *chosen])
        kept = self._capped(transfer, self.most, seed)
        if len(kept) < len(transfer):
            transfer, chosen = kept, [rows[np.isin(rows, kept)] for rows in chosen]
        parts = [
            TransferPart(rows, kind.share)
            for kind, rows in zip(self.kinds, chosen, strict=True)
            if kind.share is not None and len(rows)
        ]
        return transfer, tuple(parts), np.unique(np.concatenate([others[:0], *copies]))

    @cached_property
    def _first_rows(self) -> np.ndarray:
        """[N] for each row the first one with the same content."""
        return first_rows(self.images.ids)

    def _capped(self, rows: np.ndarray, most: int | None, seed: int) -> np.ndarray:
        """At most ``most`` of the rows, by a seeded priority of their ids."""
        if most is None or len(rows) <= most:
            return rows
        return rows[capped_rows([self.images.ids[row] for row in rows.tolist()], most, seed)]


def _nothing_in(name: str, is_mix: bool) -> str:
    if name != "unlabelled":
        return f"transfer_set: {name} has no images"
    where = "transfer_set.parts: unlabelled" if is_mix else "transfer_set=unlabelled"
    return (
        f"{where}: all training images are labelled and there are no unlabelled ones; give "
        "data.unlabelled=[FOLDER], transfer_set=folder, or transfer_set=labelled to distil on the "
        "labelled images alone"
    )


def read_transfer_images(settings: TransferSettings, splits: Splits) -> TransferImages:
    """Open the transfer images that the settings name.

    Raises:
        UserError: no images found, or nothing to transfer on.
    """
    parts = settings.set_parts
    if not parts:  # the labelled images alone, or a set that each draw makes of its own
        return TransferImages(splits.train, None, ())
    members: list[_Member] = []
    for part in parts:
        if part.places is not None:
            own: TransferSet | None = object_in(part.places)
            found = own or _OPENERS[part.opened](places_in(part.places))
        elif part.name == "unlabelled" and splits.unlabelled is not None:
            found = TransferSet.of(splits.unlabelled)
        else:
            found = None
        members.append((part, found))
    return _joined(splits, members, settings.most_images)


_Member = tuple[SetPart, TransferSet | None]
"""A part, and its images from elsewhere."""


def _saved(roots: list[str]) -> TransferSet:
    """Saved sets alone: a folder of pictures named by mistake is told."""
    if not roots:
        raise UserError("transfer_set.root: expected at least one transfer set, got an empty list")
    first, *others = [read_transfer_set(each).without_labels() for each in roots]
    return first.concat(*others)


def _pictures(places: list[str]) -> TransferSet:
    return TransferSet.of(open_images(places))


def _any(places: list[str]) -> TransferSet:
    """A part without its labels: parts may well have classes of their own."""
    try:
        return TransferSet.open(places, in_full=False).without_labels()
    except UserError as error:
        hint = did_you_mean(places_text(places), OWN_PARTS, most=1)
        raise UserError(f"transfer_set.parts: {error}{hint and '.'}{hint}") from error


_OPENERS: Mapping[Opener, Callable[[list[str]], TransferSet]] = {
    "pictures": _pictures,
    "saved": _saved,
    "any": _any,
}


def _joined(splits: Splits, members: Sequence[_Member], most: int | None) -> TransferImages:
    """The images of all members behind the training images; a mix brings its own kinds."""
    train = splits.train
    kinds: list[_Kind] = []
    sets: list[TransferSet] = []
    notes: list[str] = []
    start = len(train)
    for part, given in members:
        name, share, cap = part.name, part.share, part.most
        found = _without_held_out(name, given, splits, notes)
        rows = np.arange(start, start + len(found or ()))
        if found is None or not found.parts:
            kinds.append(_Kind(name, rows, share, cap))
        else:
            if share is None and len(members) > 1:
                raise UserError(f"transfer_set.parts: {name} is a mix: give transfer_set.shares")
            for number, inner in enumerate(nested_parts(name, found.parts, share or 1.0)):
                kinds.append(_Kind(inner.name, rows[found.part_of == number], inner.share, cap))
        if found is not None:
            sets.append(found.flat())
            start += len(found)
    if not sets:
        return TransferImages(train, None, tuple(kinds), most, tuple(notes))
    found = sets[0].concat(*sets[1:])
    if len(kinds) > 1:
        # A picture in several parts is one row, so that a teacher sees it once. Training images are
        # not merged, as a transfer row must not get a label.
        same = len(train) + first_rows(found.images.ids)
        kinds = [replace(kind, rows=same[kind.rows - len(train)]) for kind in kinds]
    images = concat(train, without_classes(found.images))
    return TransferImages(images, found, tuple(kinds), most, tuple(notes))


def _without_held_out(
    name: str, found: TransferSet | None, splits: Splits, notes: list[str]
) -> TransferSet | None:
    """The set without copies of test and validation images, which are reported.

    Raises:
        UserError: no other image is in it.
    """
    if found is None:
        return None
    kept, said = kept_apart(found, splits, f"transfer_set: {name}")
    if len(found) and not len(kept):
        raise UserError(f"{said[0]} No other image is in it")
    notes += said
    return kept


def kept_apart(
    found: TransferSet, splits: Splits, place: str
) -> tuple[TransferSet, tuple[str, ...]]:
    """The set without copies of test and validation images and what was made from them.

    Saved copies count too; images that a test image found do not. Notes say what is left out.

    Args:
        place: what the set is called in the notes.
    """
    records = list(found.records()) if has_origins(found) else []
    rows, notes = without_held_out(
        found.images,
        splits,
        place,
        copied_from=[[content_of(each) for each in copies_in(record)] for record in records],
        made_from=[made_from(record) for record in records],
    )
    return found.select(rows) if notes else found, notes


def has_origins(found: TransferSet) -> bool:
    """Whether some image has more provenance than its source."""
    return not all(isinstance(reader, PlainRecords) for reader in found.provenance.readers)


def made_from(record: Record) -> str:
    """Content hash of the image whose pixels this one was made from; "" for none."""
    if record.parent is None or record.source == "retrieved":  # by that image, from another one
        return ""
    return content_of(record.parent)


def copies_in(record: Record) -> list[str]:
    """Ids of the images of which this one is a saved copy or a part."""
    detail = record.detail or {}
    return [str(detail[key]) for key in ("original", "image") if detail.get(key)]
