"""Helpers to compose sets: choice of rows, parts of a mix, provenance that is read lazily."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genkt.data.images import ImageSet, content_of
from genkt.io import derive_seed
from genkt.transfer_set.set_files import Record, Source
from genkt.types import UserError

SOURCES: tuple[Source, ...] = ("real", "retrieved", "synthesized")

NO_PARTS = np.empty(0, dtype=np.int64)
"""The parts of the rows of a set that is not a mix."""

Reader = Callable[[NDArray[np.int64]], list[Record]]
"""Gives the provenance of some rows of one set; must be picklable if the set is."""


@dataclass(frozen=True)
class Part:
    """A part of a mix.

    Args:
        name: what the user calls it.
        share: its weight among the parts, above 0; they need not add up to 1.
    """

    name: str
    share: float


def nested_parts(name: str, inner: Sequence[Part], share: float) -> list[Part]:
    """The parts of one member of a mix: itself, or its own parts with shares of its share.

    >>> nested_parts("made", [Part("digg", 3), Part("irf", 1)], 0.5)
    [Part(name='made/digg', share=0.375), Part(name='made/irf', share=0.125)]

    Raises:
        UserError: a share that is not above 0.
    """
    if not (share > 0 and math.isfinite(share)):
        raise UserError.of("mix", f"a share above 0 for {name}", share)
    shares = [Fraction(str(part.share)) for part in inner]  # in decimals, as they were typed
    of_one = Fraction(str(share)) / (sum(shares) or 1)
    found = [
        Part(f"{name}/{part.name}", float(own * of_one))
        for part, own in zip(inner, shares, strict=True)
    ]
    return found or [Part(name, float(share))]


def capped_rows(ids: Sequence[str], most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` rows, ascending, by a seeded priority of their ids.

    The rows of a smaller number are among those of a larger one, whatever the order of the ids.
    """
    order = sorted(range(len(ids)), key=lambda row: derive_seed(seed, ids[row], "transfer"))
    return np.sort(np.array(order[:most], dtype=np.int64))


def split_rows(
    ids: Sequence[str], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About ``share * N`` rows and the others, both ascending, drawn by content.

    Copies of one picture stay together. The first part has ``round(share * N)`` rows, or the
    nearest number that keeps copies together.

    Raises:
        UserError: a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise UserError.of("split", "a share from 0 to 1", share)
    order = sorted(
        range(len(ids)), key=lambda row: derive_seed(seed, content_of(ids[row]), "split")
    )
    contents = [content_of(ids[row]) for row in order]
    inner = (at for at, pair in enumerate(pairwise(contents), 1) if pair[0] != pair[1])
    cut = min([0, *inner, len(ids)], key=lambda at: abs(at - round(share * len(ids))))
    first, second = np.array(order[:cut], np.int64), np.array(order[cut:], np.int64)
    return np.sort(first), np.sort(second)


def first_rows(ids: Sequence[str]) -> NDArray[np.int64]:
    """[N] for each row the first row with the same content."""
    known: dict[str, int] = {}
    rows = [known.setdefault(content_of(each), row) for row, each in enumerate(ids)]
    return np.array(rows, dtype=np.int64)


def without_classes(images: ImageSet) -> ImageSet:
    """The same samples without labels or class names, which fit beside any others."""
    return images.without_labels().replaced(classes=())


@dataclass(frozen=True)
class PlainRecords:
    """Provenance of images of which nothing more than their source is known.

    Args:
        images: N samples.  source: of all of them.
    """

    images: ImageSet
    source: Source

    def __call__(self, rows: NDArray[np.int64]) -> list[Record]:
        """One record a row."""
        images = self.images
        return [Record(images.ids[r], int(images.labels[r]), self.source) for r in rows.tolist()]


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the images of a composed set come from; records are read when needed.

    Args:
        readers: of the sets that the rows came from.
        places: [N, 2] int64 (reader, row there).
        sources: [N] int8, places in ``SOURCES``.
    """

    readers: tuple[Reader, ...]
    places: NDArray[np.int64]
    sources: NDArray[np.int8]

    @classmethod
    def of(cls, reader: Reader, sources: ArrayLike) -> Provenance:
        """All rows of one set, in its order."""
        kinds = np.asarray(sources, dtype=np.int8)
        places = np.stack([np.zeros(len(kinds), np.int64), np.arange(len(kinds))], axis=1)
        return cls((reader,), places, kinds)

    def select(self, rows: NDArray[np.int64]) -> Provenance:
        """The provenance of some rows."""
        return replace(self, places=self.places[rows], sources=self.sources[rows])

    def join(self, others: Sequence[Provenance]) -> Provenance:
        """The provenance of this set's rows, then of others' rows."""
        members = [self, *others]
        known = {id(reader): reader for member in members for reader in member.readers}
        number = {key: place for place, key in enumerate(known)}
        places = [member.places.copy() for member in members]
        for own, member in zip(places, members, strict=True):
            renamed = np.array([number[id(reader)] for reader in member.readers], dtype=np.int64)
            own[:, 0] = renamed[own[:, 0]]
        return Provenance(
            tuple(known.values()),
            np.concatenate(places),
            np.concatenate([member.sources for member in members]),
        )

    def read(self, rows: NDArray[np.int64]) -> list[Record]:
        """The records of some rows, in their order."""
        found: dict[int, Record] = {}
        reader_of, row_there = self.places[rows].T
        for number in np.unique(reader_of).tolist():
            here = np.flatnonzero(reader_of == number)
            records = self.readers[number](row_there[here])
            found |= dict(zip(here.tolist(), records, strict=True))
        return [found[place] for place in range(len(rows))]

    def counts(self) -> dict[str, int]:
        """The number of images of each source that occurs."""
        numbers = np.bincount(self.sources, minlength=len(SOURCES)).tolist()
        return {name: n for name, n in zip(SOURCES, numbers, strict=True) if n}


def shares_text(parts: Sequence[Part], counts: Mapping[str, int]) -> str:
    """The parts of a mix in one line: ``60 % digg (800), 40 % few (20)``."""
    total = sum(part.share for part in parts)
    return ", ".join(
        f"{100 * part.share / total:.3g} % {part.name} ({counts[part.name]})" for part in parts
    )
