"""Decoding all files of a set that was read by headers and ends only, before it is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.data.images import ImageSet, Skipped
from genkt.data.openers import origin_of
from genkt.data.splits import Splits
from genkt.readers.file_index import examine_files
from genkt.readers.listing import FileOpener
from genkt.readers.scan import check_skipped
from genkt.types import UserError


def splits_in_full(splits: Splits, max_skipped: int | float) -> Splits:
    """The parts without the files that cannot be decoded, with the looks of the others.

    Parts keep their other images: nothing is split off anew.

    Raises:
        UserError: more such files than allowed, or a part of nothing else.
    """
    parts: dict[str, Any] = {name: images_in_full(part) for name, part in splits.parts.items()}
    if all(part is splits.parts[name] for name, part in parts.items()):
        return splits
    for name, part in parts.items():
        if not len(part) and len(splits.parts[name]):
            raise UserError(f"{name}: none of its images can be decoded")
    found = {entry for part in parts.values() for entry in part.skipped} - {*splits.skipped}
    total = sum(map(len, splits.parts.values()))
    check_skipped(sorted(found, key=lambda each: each.path), total, max_skipped, "data")
    return replace(splits, **parts)


def images_in_full(images: ImageSet) -> ImageSet:
    """The images without the files that cannot be decoded, which are listed as skipped.

    Only what no earlier reading decoded is read. Images that are not files of a folder stay: their
    readers have decoded all of them.
    """
    if images.looks is not None:
        return images
    roots: dict[str, list[int]] = {}
    for row, item in enumerate(images.items.tolist()):
        opener, _ = origin_of(images.open_item, item)
        if isinstance(opener, FileOpener):
            roots.setdefault(opener.root, []).append(row)
    looks, broken = np.zeros(len(images), np.uint64), dict[int, Skipped]()
    for root, rows in roots.items():
        paths = [images.ids[row].rpartition("#")[0] for row in rows]
        found = examine_files(Path(root), paths, description="decoding images", looks=True)
        for row, path, each in zip(rows, paths, found, strict=True):
            looks[row] = each.look
            if each.reason:
                broken[row] = Skipped(str(Path(root, path)), each.reason)
    if not roots:
        return images
    kept = np.setdiff1d(np.arange(len(images)), list(broken))
    left = images.select(kept).with_skipped(list(broken.values())) if broken else images
    return left.replaced(looks=looks[kept]) if looks[kept].all() else left
