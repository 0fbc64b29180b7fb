"""Unlabelled pictures that could no longer be read after their set was opened."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from genkt.data.images import ImageSet, LostImage, Skipped, reasons_text
from genkt.readers.scan import check_skipped, map_in_threads
from genkt.types import counted

logger = logging.getLogger("genkt")


@dataclass
class LostImages:
    """Counts lost pictures; each is told once, by the process that meets it first.

    Args:
        most: more of them are an error: a number, or a share of the images (``max_skipped``).
        path: a file that all processes and starts of a run share; None: this object is alone.
        tell: gets one line about the first picture; the others are only in the log.
        instead: what happens to a lost picture, for that line.
    """

    most: int | float = 0.05
    path: Path | None = None
    tell: Callable[[str], None] = logger.warning
    instead: str = "another transfer image takes its place"
    _known: dict[str, Skipped] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read()

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._known

    def add(self, sample_id: str, error: LostImage, total: int) -> None:
        """Count a picture; one that is known already changes nothing.

        Args:
            total: pictures of its kind, which a share counts from.

        Raises:
            UserError: more pictures are lost than may be.
        """
        if sample_id in self._known:
            return
        entry = Skipped(error.place, error.reason)
        if self.path is None:
            self._tell_new(entry)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                if sample_id not in self._read():
                    self._tell_new(entry)
                    with open(self.path, "a", encoding="utf-8") as stream:
                        line = {"id": sample_id, "path": entry.path, "reason": entry.reason}
                        stream.write(json.dumps(line) + "\n")
        self._known[sample_id] = entry
        check_skipped(self.entries(), total, self.most, "images that are needed now")

    def entries(self) -> list[Skipped]:
        """All lost pictures, by path: those of other processes too."""
        return sorted(self._read().values(), key=lambda entry: entry.path)

    def notes(self) -> list[str]:
        """One sentence on all of them; none where nothing was lost."""
        lost = self.entries()
        if not lost:
            return []
        return [
            f"{counted(len(lost), 'image')} could not be read after the data were opened; for each "
            f"of them, {self.instead}: {reasons_text(lost)}."
        ]

    def _tell_new(self, entry: Skipped) -> None:
        text = f"{entry.path}: {entry.reason}"
        if self._known:
            logger.info("%s", text)
        else:
            self.tell(f"{text}; {self.instead}, as for every one that cannot be read from now on")

    def _read(self) -> dict[str, Skipped]:
        """What this process knows, and what the file has of others."""
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                each = json.loads(line)
                self._known[each["id"]] = Skipped(each["path"], each["reason"])
        return self._known


def readable_rows(images: ImageSet, rows: NDArray[np.int64], lost: LostImages) -> NDArray[np.int64]:
    """The rows whose pictures can be read; each is decoded once, and the others are counted."""

    def error_of(row: int) -> LostImage | None:
        try:
            images.load(row)
        except LostImage as error:
            return error
        return None

    read = map_in_threads(error_of, rows.tolist(), description="reading images", progress=False)
    errors = dict(zip(rows.tolist(), read, strict=True))
    for row, error in errors.items():
        if error is not None:
            lost.add(images.ids[row], error, len(images))
    return np.array([row for row, error in errors.items() if error is None], dtype=np.int64)
