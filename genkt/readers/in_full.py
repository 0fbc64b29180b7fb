"""Decoding the files of a set that was read by headers and ends only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.data.images import ImageSet, Skipped, path_of
from genkt.data.looks import Looks
from genkt.data.openers import origin_of
from genkt.data.splits import Splits
from genkt.readers.file_index import examine_files
from genkt.readers.listing import FileOpener
from genkt.readers.scan import check_skipped
from genkt.types import UserError


def splits_in_full(splits: Splits, max_skipped: int | float) -> Splits:
    """The labelled parts without the files that cannot be decoded, with the looks of the others.

    Parts keep their other images: nothing is split off anew. Unlabelled images are not decoded
    before they are used.

    Raises:
        UserError: more such files than allowed, or a part of nothing else.
    """
    parts: dict[str, Any] = {
        name: part if name == "unlabelled" else images_in_full(part)
        for name, part in splits.parts.items()
    }
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
    looks, broken = _decoded(images, "decoding images")
    kept = np.setdiff1d(np.arange(len(images)), list(broken))
    left = images.select(kept).with_skipped(list(broken.values())) if broken else images
    return left.replaced(looks=looks[kept]) if looks[kept].all() else left


def with_looks(splits: Splits) -> Splits:
    """The splits with the looks of unlabelled images; 0 for what cannot be decoded.

    Where they are no files of a folder, or not all are, nothing changes.
    """
    images = splits.unlabelled
    if images is None or images.looks is not None:
        return splits
    looks, broken = _decoded(images, "looking for near copies of test images")
    unknown = set(np.flatnonzero(looks == 0).tolist())
    if unknown - broken.keys():
        return splits
    return replace(splits, unlabelled=images.replaced(looks=looks))


def _decoded(images: ImageSet, description: str) -> tuple[Looks, dict[int, Skipped]]:
    """[N] looks, 0 where there is none, and the rows of files that cannot be decoded."""
    roots: dict[str, list[int]] = {}
    for row, item in enumerate(images.items.tolist()):
        opener, _ = origin_of(images.open_item, item)
        if isinstance(opener, FileOpener):
            roots.setdefault(opener.root, []).append(row)
    looks: NDArray[np.uint64] = np.zeros(len(images), np.uint64)
    broken = dict[int, Skipped]()
    for root, rows in roots.items():
        paths = [path_of(images.ids[row]) for row in rows]
        found = examine_files(Path(root), paths, description=description, looks=True)
        for row, path, each in zip(rows, paths, found, strict=True):
            looks[row] = each.look
            if each.reason:
                broken[row] = Skipped(str(Path(root, path)), each.reason)
    return looks, broken
