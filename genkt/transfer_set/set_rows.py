"""The rows of a transfer set: images, where each comes from, and the set's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.data.images import ImageSet
from genkt.transfer_set.parts import NO_PARTS, Part, Provenance
from genkt.transfer_set.set_files import Record
from genkt.types import UserError

_TOGETHER = 1024
"""Records in memory while all are read."""


@dataclass(frozen=True)
class Stored:
    """Where a set is on disk.

    Args:
        directory: its folder.
        header: what ``transfer_set.json`` holds.
        starts: [shards + 1] the row that each shard starts at.
    """

    directory: Path
    header: Mapping[str, Any]
    starts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SetRows:
    """Images with their provenance; the rows that are read, saved and composed.

    Args:
        images: N images, opened lazily.
        provenance: where each of them comes from.
        parts: of a mix, each with its share of every batch; empty: all rows are drawn equally
        often.
        part_of: [N] the part of each row; empty where there are none.
        stored: where the set is on disk; None for a composed set.
    """

    images: ImageSet
    provenance: Provenance
    parts: tuple[Part, ...] = ()
    part_of: NDArray[np.int64] = field(default_factory=NO_PARTS.copy)
    stored: Stored | None = None

    def __len__(self) -> int:
        return len(self.images)

    def counts(self) -> dict[str, int]:
        """Images by source: real, retrieved, synthesized."""
        return self.provenance.counts()

    def part_counts(self) -> dict[str, int]:
        """Images of every part of a mix, by name."""
        numbers = np.bincount(self.part_of, minlength=len(self.parts)).tolist()
        return {part.name: n for part, n in zip(self.parts, numbers, strict=True)}

    def record(self, index: int) -> Record:
        """Provenance of the image at ``index``."""
        return self.read([index])[0]

    def records(self) -> Iterator[Record]:
        """Provenance of every image, in order; few records are in memory at a time."""
        for start in range(0, len(self), _TOGETHER):
            yield from self.read(range(start, min(start + _TOGETHER, len(self))))

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Record]:
        """Provenance of the images at some rows.

        Raises:
            IndexError: a row that is not there.
            UserError: a manifest is damaged, or changed after the set was opened.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        outside = (chosen < 0) | (chosen >= len(self))
        if outside.any():
            raise IndexError(
                f"expected an index from 0 to {len(self) - 1}, got {chosen[outside][0]}"
            )
        records = self.provenance.read(chosen)
        for place, row in enumerate(chosen.tolist()):
            if records[place].id != self.images.ids[row]:
                raise UserError(
                    f"{self.images.ids[row]}: its record has another id "
                    f"({records[place].id}); the set changed since it was opened"
                )
            if records[place].label != (label := int(self.images.labels[row])):
                records[place] = replace(records[place], label=label)
        return records
