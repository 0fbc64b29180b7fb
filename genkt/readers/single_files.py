"""Single image files and folders named by hand, for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet, Skipped, decode, reasons_text
from genkt.io import nearby, shown
from genkt.readers.file_index import examine_file
from genkt.readers.listing import walk
from genkt.readers.scan import as_list, map_in_threads
from genkt.readers.system_files import SystemFiles
from genkt.types import UNLABELLED, UserError


@dataclass(frozen=True)
class _PathOpener:
    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return decode(Path(sample_id.rpartition("#")[0]))


def read_files(paths: str | Path | Sequence[str | Path]) -> ImageSet:
    """Every named image, and every image below a named folder; ids start with the path as given.

    Files that cannot be decoded, and counts of system files in the folders, are in ``skipped``.

    Raises:
        UserError: missing paths (all of them named), or no file that can be decoded.
    """
    paths = as_list(paths)
    missing = [str(path) for path in paths if not Path(path).exists()]
    if missing:
        names, more = ", ".join(map(shown, missing[:5])), len(missing) - 5
        more_told = f" and {more} more" if more > 0 else ""
        raise UserError(f"no such file or folder: {names}{more_told}{nearby(missing[0])}")
    beside = SystemFiles()
    skipped: list[Skipped] = []
    found = [file for path in paths for file in _expand(Path(path), beside, skipped)]
    files, ids = list(dict.fromkeys(found)), []
    examine = partial(examine_file, look=True)  # the look is not used, but all must decode
    results = map_in_threads(examine, files, description="reading images")
    for file, each in zip(files, results, strict=True):
        if each.reason:
            skipped.append(Skipped(file, each.reason))
        else:
            ids.append(f"{file}#{each.digest}")
    skipped += beside.entries()
    if not ids:
        why = f": {reasons_text(skipped)}" if skipped else ""
        raise UserError(f"no readable image in {', '.join(map(str, paths))}{why}")
    labels = np.full(len(ids), UNLABELLED, dtype=np.int64)
    return ImageSet(ids, labels, (), np.arange(len(ids)), _PathOpener(), skipped)


def _expand(path: Path, beside: SystemFiles, skipped: list[Skipped]) -> list[str]:
    """A file itself; for a folder, every image below it, sorted."""
    if path.is_file():
        return [str(path)]
    found = list(walk(path, beside=beside))
    skipped += [Skipped(file, reason) for file, reason in found if reason]
    return [str(file) for file in sorted(Path(file) for file, reason in found if not reason)]
