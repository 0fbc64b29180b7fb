"""Transfer sets in Python: images with labels, shares and provenance, combined as needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.data.images import ImageSet, concat
from genkt.io import home_path
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.parts import (
    NO_PARTS,
    SOURCES,
    Part,
    PlainRecords,
    Provenance,
    capped_rows,
    first_rows,
    nested_parts,
    shares_text,
    split_rows,
    without_classes,
)
from genkt.transfer_set.read_set import is_transfer_set, read_rows
from genkt.transfer_set.save_set import save_set
from genkt.transfer_set.set_files import ImageFiles, Record, Source, read_tokens
from genkt.transfer_set.set_rows import SetRows, Stored
from genkt.types import UserError, counted


@dataclass(frozen=True, eq=False)
class TransferSet(SetRows):
    """Images to distil on and the provenance of each: a saved set, or one composed of others.

    Every method returns a new set and leaves this one unchanged. Images are opened only when they
    are loaded or saved. Made by ``open``, ``of`` and ``mix``.

    Example:
        >>> import tempfile
        >>> from genkt.data.images import from_arrays
        >>> def drawn(name, count):
        ...     pixels = np.random.default_rng(count).integers(0, 256, (count, 8, 8), np.uint8)
        ...     return TransferSet.of(from_arrays(pixels, [-1] * count, (), name))
        >>> made, few = drawn("made", 30), drawn("few", 4)
        >>> made.cap(10).concat(few)
        TransferSet(14 real images)
        >>> mixed = TransferSet.mix({"made": (made, 0.75), "few": (few, 0.25)})
        >>> mixed
        TransferSet(34 real images; 75 % made (30), 25 % few (4))
        >>> saved = mixed.save(tempfile.mkdtemp() + "/set")
        >>> len(TransferSet.open(saved.directory)), saved.record(33).detail["original"][:6]
        (34, 'few/3#')
    """

    @classmethod
    def open(cls, location: str | Path | Sequence[str], *, in_full: bool = True) -> TransferSet:
        """A saved set, or real images in any place that ``open_images`` reads; a list gives all.

        Args:
            in_full: decode the images of folders, so that damaged ones are left out; else they are
                decoded when they are used.

        Raises:
            UserError: nothing is found, the set is not finished, or a file is damaged.
        """
        if not isinstance(location, (str, Path)):
            if not location:
                raise UserError("expected at least one place to read images from, got none")
            first, *others = [cls.open(each, in_full=in_full) for each in location]
            return first.concat(*others)
        if is_transfer_set(location):
            return cls.of_rows(read_rows(location))
        return cls.of(open_images(location, in_full=in_full))

    @classmethod
    def of_rows(cls, rows: SetRows) -> TransferSet:
        """A set of the given rows."""
        return cls(rows.images, rows.provenance, rows.parts, rows.part_of, rows.stored)

    @classmethod
    def of(
        cls,
        images: ImageSet,
        source: Source = "real",
        *,
        records: Callable[[int], Record] | None = None,
    ) -> TransferSet:
        """A set of images that are open already.

        Args:
            source: of all of them.
            records: gives the provenance of a row if more is known; called only when needed.
        """
        reader = PlainRecords(images, source) if records is None else _EachRecord(records)
        sources = np.full(len(images), SOURCES.index(source))
        return cls(images, Provenance.of(reader, sources))

    @classmethod
    def mix(cls, members: Mapping[str, tuple[TransferSet, float]]) -> TransferSet:
        """Sets that share every batch: each gives its share, however many images it has.

        Args:
            members: name -> (set, share). Shares are weights and need not add up to 1. A mix inside
            a mix divides its share among its own parts.

        Raises:
            UserError: no member, a member without images or share, or a share that is not above 0.
        """
        parts: list[Part] = []
        part_of = []
        for name, given in members.items():
            if not isinstance(given, tuple):
                raise UserError.of("mix", f"(set, share) for {name}", repr(given))
            member, share = given
            if not len(member):
                raise UserError(f"mix: {name} has no images")
            own = member.part_of if member.parts else np.zeros(len(member), np.int64)
            part_of.append(own + len(parts))
            parts += nested_parts(name, member.parts, share)
        if not parts:
            raise UserError.of("mix", "at least one set", "none")
        plain = [member.flat() for member, _ in members.values()]
        joined = plain[0].concat(*plain[1:])
        return replace(joined, parts=tuple(parts), part_of=np.concatenate(part_of), stored=None)

    def flat(self) -> TransferSet:
        """The same images, all drawn equally often."""
        return replace(self, parts=(), part_of=NO_PARTS)

    def concat(self, *others: TransferSet) -> TransferSet:
        """The images of this set, then those of the others; all are drawn equally often.

        Raises:
            UserError: class names differ (``without_labels`` drops them), or one of several sets is
            a mix: its shares would have no meaning for the other images.
        """
        if not others:
            return self
        members = (self, *others)
        if any(member.parts for member in members):
            raise UserError("concat: a mix has shares; give its parts and the other sets to mix")
        images = concat(*(member.images for member in members))
        return TransferSet(images, self.provenance.join([each.provenance for each in others]))

    def with_labelled(self, images: ImageSet, share: float | None = None) -> TransferSet:
        """This set with a few labelled images added.

        Args:
            images: the labelled images; only their pictures count.
            share: of every batch, above 0 and below 1; None: all images are drawn equally often.

        Raises:
            UserError: a share out of bounds, or no share although this set is a mix.
        """
        few = TransferSet.of(without_classes(images))
        if share is None:
            return self.without_labels().concat(few)
        if not 0 < share < 1:
            raise UserError.of("with_labelled", "a share above 0 and below 1", share)
        members = {"set": (self.without_labels(), 1 - share), "labelled": (few, share)}
        return TransferSet.mix(members)

    def select(self, rows: ArrayLike) -> TransferSet:
        """The images at some rows (integers in any order, or N booleans).

        Raises:
            IndexError: there is no such row.
        """
        images = self.images.select(rows)
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        part_of = self.part_of[chosen] if self.parts else NO_PARTS
        return TransferSet(images, self.provenance.select(chosen), self.parts, part_of)

    def cap(self, most: int, seed: int = 0) -> TransferSet:
        """At most ``most`` images in their order, drawn by seed; smaller draws are nested in
        larger.

        Raises:
            UserError: a number below 0.
        """
        if most < 0:
            raise UserError.of("cap", "a number of images, at least 0", most)
        return self.select(capped_rows(self.images.ids, most, seed))

    def split(self, share: float, seed: int = 0) -> tuple[TransferSet, TransferSet]:
        """About ``share * N`` images drawn by seed, and the others, each in their order.

        Copies of one picture stay together; see ``split_rows``.

        Raises:
            UserError: a share outside 0..1.
        """
        first, second = split_rows(self.images.ids, share, seed)
        return self.select(first), self.select(second)

    def deduplicate(self) -> TransferSet:
        """The first of all images with the same content; near copies: ``genkt.deduplicate``."""
        return self.select(np.unique(first_rows(self.images.ids)))

    def without_labels(self) -> TransferSet:
        """The same images without labels and class names."""
        return replace(self, images=without_classes(self.images))

    def save(
        self,
        path: str | Path,
        *,
        files: ImageFiles | None = None,
        shard_size: int = 1000,
        header: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> TransferSet:
        """Write the set to a folder; a second call continues one that was interrupted.

        The same set gives the same bytes. A mix keeps its shares. Every image keeps its provenance
        and its first id (``detail["original"]``).

        Args:
            path: the folder.
            files: how images are stored; None: ``ImageFiles()``.
            shard_size: images per shard.
            header: more facts for ``transfer_set.json``, e.g. ``funnel``.
            progress: False shows no progress.

        Returns:
            The set as saved.

        Raises:
            UserError: the folder has other content, or an image cannot be read.
        """
        saved = save_set(
            self, home_path(path), files or ImageFiles(), shard_size, header or {}, progress
        )
        return TransferSet.of_rows(saved)

    def __repr__(self) -> str:
        counts = self.counts()
        sources = ", ".join(f"{n} {name}" for name, n in counts.items())
        images = counted(len(self), "image")
        text = (
            counted(len(self), f"{next(iter(counts))} image")
            if len(counts) == 1
            else f"{images}: {sources}"
        )
        text += f" in {self.stored.directory}" if self.stored else ""
        text += f"; {shares_text(self.parts, self.part_counts())}" if self.parts else ""
        return f"TransferSet({text if counts else 'no images'})"

    @property
    def directory(self) -> Path:
        """The folder of a saved set.

        Raises:
            UserError: the set was composed and has no folder.
        """
        return self._saved.directory

    @property
    def header(self) -> Mapping[str, Any]:
        """The content of ``transfer_set.json`` of a saved set; {} for a composed set."""
        return self.stored.header if self.stored else {}

    @property
    def num_shards(self) -> int:
        """How many shards a saved set is stored in."""
        return len(self.starts) - 1

    @property
    def starts(self) -> NDArray[np.int64]:
        """[shards + 1] the row that each shard of a saved set starts at."""
        return self._saved.starts

    @property
    def _saved(self) -> Stored:
        if self.stored is None:
            raise UserError("a composed transfer set has no folder of its own; save(...) it first")
        return self.stored

    def tokens(self, shard: int) -> dict[str, NDArray[Any]]:
        """A shard's arrays, one row per image: ``tokens`` [n, h, w], ``hidden``, ``seeds`` [n].

        Raises:
            UserError: a set that was not made from tokens, or a damaged file.
        """
        return read_tokens(self.directory, shard)


@dataclass(frozen=True)
class _EachRecord:
    record: Callable[[int], Record]

    def __call__(self, rows: NDArray[np.int64]) -> list[Record]:
        return [self.record(row) for row in rows.tolist()]


def read_transfer_set(directory: str | Path) -> TransferSet:
    """Open a saved set; see ``read_rows``."""
    return TransferSet.of_rows(read_rows(directory))
