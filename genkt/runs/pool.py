"""From the data and transfer-set settings to image sets and the rows of one label draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genkt.config.data_settings import DataSettings
from genkt.config.set_settings import TransferSettings
from genkt.data.images import ImageSet, Skipped, concat, content_of
from genkt.data.separation import separated
from genkt.data.splits import Splits, draw_labels
from genkt.data.views import ViewSpec
from genkt.io import derive_seed
from genkt.readers.in_full import images_in_full, splits_in_full
from genkt.readers.scan import left_out_notes
from genkt.runs.transfer_rows import (
    TransferImages,
    copies_in,
    has_origins,
    made_from,
    read_transfer_images,
)
from genkt.training.batches import TransferPart
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.parts import without_classes
from genkt.transfer_set.set_files import Record
from genkt.types import UNLABELLED, UserError

_EPOCHS_APART = 720_720_000
"""A multiple of the usual numbers of stored views: an epoch that begins a new order of them."""


class PoolSettings(Protocol):
    """The settings that decide which images a run needs (read-only)."""

    @property
    def data(self) -> DataSettings: ...
    @property
    def transfer_set(self) -> TransferSettings: ...
    @property
    def seed(self) -> int: ...
    @property
    def num_draws(self) -> int: ...
    @property
    def first_draw(self) -> int: ...


@dataclass(frozen=True)
class Draw:
    """One label draw: which rows of a set of images are labelled, which are transfer images.

    Args:
        images: the images of the rows; for the draws of a run, the pool.
        labels: [N] int64 over the images, ``UNLABELLED`` for hidden or unknown labels.
        labelled, transfer: row indices.
        parts: the parts of ``transfer`` if they share every batch; empty: all rows are drawn
        equally often.
        seed: of its transfer set, its teachers and its first student.
        student: which of the draw's students is trained, from 0.
    """

    index: int
    seed: int
    images: ImageSet
    labels: np.ndarray
    labelled: np.ndarray
    transfer: np.ndarray
    parts: tuple[TransferPart, ...] = ()
    student: int = 0

    def for_student(self, number: int) -> Draw:
        """The same rows for another student: with first weights, order and views of its own.

        Student 0 has the draw's own seed, which its teachers and its transfer set have too.
        """
        assert self.student == 0
        if not number:
            return self
        return replace(self, seed=derive_seed(self.seed, "student", number), student=number)

    @property
    def first_epoch(self) -> int:
        """The epoch whose views a student sees first, far from those of the draw's others."""
        return self.student * _EPOCHS_APART

    def seed_for(self, purpose: str) -> int:
        """A seed for one purpose; the same for every arm that shares the purpose."""
        return derive_seed(self.seed, purpose)

    def without_transfer(self, rows: np.ndarray) -> Draw:
        """The same draw without some rows among its transfer images."""
        kept = [replace(part, rows=part.rows[~np.isin(part.rows, rows)]) for part in self.parts]
        return replace(
            self,
            transfer=self.transfer[~np.isin(self.transfer, rows)],
            parts=tuple(part for part in kept if len(part.rows)),
        )


@dataclass(frozen=True)
class Pool:
    """The images that some draw of a run needs, in one order: one teacher cache serves all draws.

    Args:
        images: training images, then the transfer images from elsewhere.
        draws: the run's label draws, rows of these images.
        splits: the data they come from.
        notes: notes for the user, e.g. on copies of test images that were left out.
        from_elsewhere: the transfer images that are not training images, with their provenance.
        first: the row of ``images`` where they start.
        own: the set that each draw made or retrieved, whose images come last in the draw.
    """

    images: ImageSet
    draws: tuple[Draw, ...]
    splits: Splits
    notes: tuple[str, ...] = ()
    from_elsewhere: TransferSet | None = None
    first: int = 0
    own: tuple[TransferSet, ...] = ()

    def elsewhere(self, rows: np.ndarray) -> TransferSet | None:
        """The given rows whose images are from elsewhere, in order; None if there are none."""
        inside = self._outside_training(rows)
        if self.from_elsewhere is None or not len(inside):
            return None
        return self.from_elsewhere.select(inside - self.first)

    def _outside_training(self, rows: np.ndarray) -> np.ndarray:
        """The given rows that are in ``from_elsewhere``."""
        return rows[(rows >= self.first) & (rows < self.first + len(self.from_elsewhere or ()))]

    def without(self, draw: Draw, rows: np.ndarray) -> Draw:
        """A draw without some labelled rows as transfer images, and without images of them."""
        hidden = {draw.images.ids[row] for row in rows}
        if self.own and len(draw.transfer):
            records = self.own[draw.index].records()
            made = draw.transfer[[record.parent in hidden for record in records]]
        else:
            made = self.made_of(draw.transfer, hidden)
        return draw.without_transfer(np.concatenate([rows, made]))

    def made_of(self, rows: np.ndarray, ids: Iterable[str]) -> np.ndarray:
        """The given rows whose images were made from or found by some images, by content."""
        inside = self._outside_training(rows)
        if self.from_elsewhere is None or not len(inside) or not has_origins(self.from_elsewhere):
            return inside[:0]
        contents = set(map(content_of, ids))
        records = self.from_elsewhere.read(inside - self.first)
        return inside[[not contents.isdisjoint(_origins(record)) for record in records]]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every file left out of the data or the transfer images, once."""
        return tuple(dict.fromkeys([*self.splits.skipped, *self.images.skipped]))

    def with_sets(self, sets: Sequence[TransferSet]) -> Pool:
        """The pool with one more transfer set for each draw, without its labels."""
        own = [without_classes(found.images) for found in sets]
        images = concat(self.images, *own)
        starts = np.cumsum([len(self.images), *map(len, own)])
        draws = tuple(
            replace(
                draw,
                images=images,
                labels=np.pad(
                    draw.labels, (0, len(images) - len(draw.labels)), constant_values=UNLABELLED
                ),
                transfer=np.concatenate([draw.transfer, np.arange(start, stop)]),
            )
            for draw, (start, stop) in zip(self.draws, pairwise(starts.tolist()), strict=True)
        )
        return replace(self, images=images, draws=draws, own=tuple(sets))


def load_splits(data: DataSettings, seed: int, given: Splits | None = None) -> Splits:
    """Read the data that the settings name; no picture is in two parts.

    Args:
        given: parts that are read already.

    Raises:
        UserError: no data, a wrong layout, or too many unreadable files.
    """
    given = data.given if given is None else given
    if given is None:
        return data.read(seed)
    return separated(splits_in_full(given, data.most_skipped))


def chosen_images(
    data: DataSettings, splits: Splits, which: Literal["train", "labelled", "all"], *,
    seed: int, draw: int,
) -> ImageSet:  # fmt: skip
    """Images to start from: all training images, those of a label draw, or unlabelled ones too.

    All of them can be decoded.

    Args:
        seed, draw: seed and label draw of a run of ``genkt transfer``, for ``labelled``.

    Raises:
        UserError: labels that cannot be drawn.
    """
    _check_training(splits)
    train = splits.train
    if which == "all" and splits.unlabelled is not None:
        return concat(train, images_in_full(splits.unlabelled))
    if which != "labelled":
        return train
    labelled, _ = drawn_labels(data, splits, derive_seed(seed, "draw", draw))
    return train.select(labelled)


def drawn_labels(
    data: DataSettings, splits: Splits, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training images that keep their label, as the settings choose them, and all others.

    Raises:
        UserError: as ``draw_labels``; the message lists what was left out of the data, a possible
        cause.
    """
    try:
        return draw_labels(
            splits.train,
            per_class=data.labels_per_class,
            fraction=data.label_fraction,
            list_file=data.label_list,
            seed=seed,
        )
    except UserError as error:
        notes = [*splits.notes, *left_out_notes(splits.skipped)]
        raise UserError(" ".join([f"{error}{'.' * bool(notes)}", *notes])) from error


def _check_training(splits: Splits) -> None:
    if not len(splits.train):
        raise UserError(f"no training image is left: {' '.join(splits.notes)}")


def stored_views(settings: PoolSettings) -> ViewSpec:
    """The stored views of every image of the pool; each needs a pass of every teacher.

    Synthesized images are many, and each is a variation already. So such transfer sets set their
    own number of views.
    """
    views = settings.data.views.spec(derive_seed(settings.seed, "views"))
    own = settings.transfer_set.stored_views
    return replace(views, num_views=own) if own and views.is_random else views


def build_pool(settings: PoolSettings, splits: Splits) -> Pool:
    """The run's label draws and their images, with warnings.

    Raises:
        UserError: label settings that the data cannot meet, or nothing to transfer on.
    """
    _check_training(splits)
    transfer = read_transfer_images(settings.transfer_set, splits)
    drawn = [_draw(settings, splits, transfer, index) for index in range(settings.num_draws)]
    draws = [draw for draw, _ in drawn]
    needed = np.unique(np.concatenate([np.union1d(d.labelled, d.transfer) for d in draws]))
    kept = transfer.images.select(needed)
    found = transfer.from_elsewhere
    if found is not None:
        found = found.select(needed[needed >= transfer.first] - transfer.first)
    pool = Pool(
        kept,
        tuple(_renumbered(draw, kept, needed) for draw in draws),
        splits,
        from_elsewhere=found,
        first=int(np.searchsorted(needed, transfer.first)),
    )
    notes = [*splits.notes, *transfer.notes, *_copies_of_labelled(drawn)]
    notes += left_out_notes(pool.skipped, "; the report lists them")
    if transfer.from_elsewhere is not None:
        notes += _found_by_test_images(transfer.from_elsewhere, splits)
    return replace(pool, notes=tuple(notes))


def _draw(
    settings: PoolSettings, splits: Splits, transfer: TransferImages, index: int
) -> tuple[Draw, np.ndarray]:
    """One label draw, as rows of all images that the run may train on.

    Returns:
        The draw, and the rows left out of its transfer images because they copy its labelled ones.
    """
    data = settings.data
    seed = derive_seed(settings.seed, "draw", settings.first_draw + index)
    labelled, others = drawn_labels(data, splits, seed)
    labels = np.full(len(transfer.images), UNLABELLED, dtype=np.int64)
    labels[labelled] = splits.train.labels[labelled]
    rows, parts, copies = transfer.choose(labelled, others, seed)
    return Draw(index, seed, transfer.images, labels, labelled, rows, parts), copies


def _copies_of_labelled(drawn: Sequence[tuple[Draw, np.ndarray]]) -> list[str]:
    counts = [len(copies) for _, copies in drawn]
    if not any(counts):
        return []
    images, row = next((draw.images, int(rows[0])) for draw, rows in drawn if len(rows))
    shown = ", ".join(map(str, counts[:5])) + (", ..." if len(counts) > 5 else "")
    return [
        "Copies of a draw's labelled images are not used as its transfer images. Left "
        "out, by draw: "
        f"{shown} (e.g. {images.ids[row].rpartition('#')[0]})."
    ]


def _renumbered(draw: Draw, images: ImageSet, rows: np.ndarray) -> Draw:
    """The same draw as rows of ``images``, the rows (ascending) that were kept."""

    def place(old: np.ndarray) -> np.ndarray:
        return np.searchsorted(rows, old)

    return replace(
        draw,
        images=images,
        labels=draw.labels[rows],
        labelled=place(draw.labelled),
        transfer=place(draw.transfer),
        parts=tuple(replace(part, rows=place(part.rows)) for part in draw.parts),
    )


def _found_by_test_images(found: TransferSet, splits: Splits) -> list[str]:
    """A warning if transfer images were found by test images of the run.

    What was made from them is left out: see ``kept_apart``.
    """
    if splits.test is None or not has_origins(found):
        return []
    tested = set(map(content_of, splits.test.ids))
    queries = {content_of(r.parent) for r in found.records() if r.parent and not made_from(r)}
    if not (used := queries & tested):
        return []
    return [
        f"The transfer set was retrieved by {len(used)} of the test images: accuracies say less "
        "about new images."
    ]


def _origins(record: Record) -> set[str]:
    """Content hashes of the images that one was made from or found by."""
    parents = [record.parent] if record.parent else []
    return set(map(content_of, [*copies_in(record), *parents]))
