"""Unlabelled images from several places: each file once, without the labelled parts' files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from genkt.readers.listing import Listing
from genkt.types import UNLABELLED


@dataclass
class UnlabelledPlaces:
    """Collects the files of one place after the other.

    Args:
        part_of: real path -> labelled part, of the files that belong to a labelled part.
        listings: what was taken.
        notes: what was left out, one sentence per place.
    """

    part_of: Mapping[str, str]
    listings: list[Listing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    @classmethod
    def beside(cls, parts: Mapping[str, Sequence[Listing]]) -> UnlabelledPlaces:
        """Places for what lies beside labelled parts."""
        return cls(
            {
                file: name
                for name, listings in parts.items()
                for listing in listings
                for file in real_paths(listing)
            }
        )

    def know(self, listing: Listing) -> None:
        """Files that were added already."""
        self._taken.update(real_paths(listing))

    def add(self, listing: Listing, place: str | Path) -> None:
        """Add the new files of a listing.

        Args:
            place: what it is of, as the user gave it.
        """
        real = real_paths(listing)
        files = list(zip(listing.paths, real, strict=True))
        named = [self.part_of[file] for file in real if file in self.part_of]
        kept: dict[str, str] = {}  # only the first link to a file counts
        for path, file in files:
            if file not in self.part_of and file not in self._taken:
                kept.setdefault(file, path)
        counts = [f"{named.count(name)} {name}" for name in dict.fromkeys(named)]
        if again := len(files) - len(named) - len(kept):
            counts.append(f"{again} unlabelled")
        if counts:
            text = f"data.unlabelled: {place}: left out files that were added already"
            self.notes.append(f"{text} ({', '.join(counts)}).")
        self._taken.update(kept)
        labels = [UNLABELLED] * len(kept)
        self.listings.append(
            Listing(
                listing.root, (), list(kept.values()), labels, listing.skipped, listing.beside,
                listing.notes, listing.groups,
            )
        )  # fmt: skip


def real_paths(listing: Listing) -> list[str]:
    """The path of every listed file behind all links."""

    @cache  # a folder holds many files
    def place_of(folder: str) -> _Place:
        return _Place.of(os.path.join(listing.root, folder, ""))

    found = []
    for path in listing.paths:
        folder, _, name = path.rpartition("/")
        place = place_of(folder)
        linked = place.links is None or name in place.links
        found.append(os.path.realpath(place.folder + name) if linked else place.real + name)
    return found


class _Place(NamedTuple):
    """A folder and its path behind all links, ready for a name.

    Args:
        links: names of the links in it; None: it cannot be listed.
    """

    folder: str
    real: str
    links: frozenset[str] | None

    @classmethod
    def of(cls, folder: str) -> _Place:
        """Ask once for all its files, which is a third of what asking for each takes."""
        real = os.path.join(os.path.realpath(folder), "")
        try:
            with os.scandir(folder) as entries:
                return cls(folder, real, frozenset(e.name for e in entries if e.is_symlink()))
        except OSError:
            return cls(folder, real, None)
