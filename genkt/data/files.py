"""Single image files and folders named by hand, for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.file_index import examine_file
from genkt.data.formats import IMAGE_SUFFIXES
from genkt.data.images import ImageSet, Skipped, decode, reasons_text
from genkt.data.scan import map_in_threads
from genkt.io import nearby, shown
from genkt.types import UNLABELLED, UserError


@dataclass(frozen=True)
class _PathOpener:
    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return decode(Path(sample_id.rpartition("#")[0]))


def read_files(paths: Sequence[str | Path]) -> ImageSet:
    """Every named image, and every image below a named folder; ids start with the path as given.

    Files that cannot be decoded are in ``skipped``.

    Raises:
        UserError: a path that is not there (all of them named), or nothing that decodes.
    """
    missing = [str(path) for path in paths if not Path(path).exists()]
    if missing:
        names, more = ", ".join(map(shown, missing[:5])), len(missing) - 5
        more_told = f" and {more} more" if more > 0 else ""
        raise UserError(f"no such file or folder: {names}{more_told}{nearby(missing[0])}")
    files = list(dict.fromkeys(str(file) for path in paths for file in _expand(Path(path))))
    ids, skipped = [], []
    results = map_in_threads(
        examine_file, [Path(file) for file in files], description="reading images"
    )
    for file, (digest, reason) in zip(files, results, strict=True):
        if reason:
            skipped.append(Skipped(file, reason))
        else:
            ids.append(f"{file}#{digest}")
    if not ids:
        why = f": {reasons_text(skipped)}" if skipped else ""
        raise UserError(f"no readable image in {', '.join(map(str, paths))}{why}")
    labels = np.full(len(ids), UNLABELLED, dtype=np.int64)
    return ImageSet(ids, labels, (), np.arange(len(ids)), _PathOpener(), skipped)


def _expand(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))
