"""WebDataset tars, not unpacked: read once in order for an index, then image by image."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from genkt.data.class_names import several_classes, sorted_classes, with_bars
from genkt.data.images import ImageSet, LostImage, Skipped, content_hash, decode
from genkt.data.openers import BLOCK_ROWS
from genkt.readers.file_index import examine_bytes, forget, index_of
from genkt.readers.scan import as_list, check_skipped, map_in_threads
from genkt.readers.system_files import SystemFiles
from genkt.readers.tar_listing import BESIDE, TarListing, list_tar, write_listing
from genkt.types import UNLABELLED, UserError, counted, verb

logger = logging.getLogger(__name__)

_OPEN_TARS = 64


def read_tars(
    paths: str | Path | Sequence[str | Path],
    *,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """Every image in the tars, with its class where a ``.cls`` or ``.json`` member has one.

    A JSON member names it under a key such as class or label (``CLASS_COLUMNS``). Labels without
    exactly one class or without an image are counted and reported. So are images without a label in
    a tar that has labels.

    Each tar is read in order once, to check, hash and decode its images; the next start only reads
    its index, unless the tar has changed.

    >>> import io, tarfile, tempfile
    >>> path = Path(tempfile.mkdtemp(), "toy.tar")
    >>> picture = io.BytesIO()
    >>> Image.new("RGB", (8, 8)).save(picture, "png")
    >>> with tarfile.open(path, "w") as tar:
    ...     for name, data in {"7.png": picture.getvalue(), "7.cls": b"cat"}.items():
    ...         member = tarfile.TarInfo(name)
    ...         member.size = len(data)
    ...         tar.addfile(member, io.BytesIO(data))
    >>> images = read_tars([path])
    >>> images, images.ids[0].rpartition("#")[0]
    (ImageSet(1 image, 1 class, 1 labelled), 'toy.tar/7.png')

    Args:
        paths: the tars, or one; ids are relative to the innermost folder that holds all of them.
        max_skipped: limit of unusable members: a number, or a share (float, rounded up).
        num_threads: reading threads, by default up to 8.
        progress: False shows no progress.

    Returns:
        The images in the order of the tars. Classes are sorted, by value where all are numbers.

    Raises:
        UserError: a tar that is missing, given twice, compressed, damaged or cut off (with the
            byte), no image at all, or more unusable members than allowed.
    """
    paths = as_list(paths)
    files = [os.path.abspath(path) for path in paths]
    if not files or len({os.path.realpath(file) for file in files}) < len(files):
        raise UserError(f"expected tars, each once, got {', '.join(map(str, paths)) or 'none'}")
    listings = list(
        map_in_threads(
            list_tar, files, description="listing tars", num_threads=num_threads,
            progress=progress, unit="tars",
        )
    )  # fmt: skip
    _opened.cache_clear()  # a path may be another file than when it was opened before
    tars = list(zip(files, listings, strict=True))
    skipped = _noted(tars) + _examine(tars, num_threads, progress)
    place = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    total = sum(len(tar.names) + tar.num_damaged for tar in listings)
    check_skipped(skipped, total, max_skipped, place)
    if not any(any(tar.hashes) for tar in listings):
        raise UserError(f"{place}: no {'usable ' if total else ''}image in it")
    images = _image_set(tars, skipped)
    _tell_labels(place, tars, images)
    return images


def _noted(tars: Sequence[tuple[str, TarListing]]) -> list[Skipped]:
    """What the listings leave out: damaged members one by one, system files by kind."""
    beside, damaged = SystemFiles(), []
    for file, tar in tars:
        for name, why in tar.notes:
            if why == BESIDE:
                beside.add_member(file, name)
            else:
                damaged.append(Skipped(f"{file}/{name}", why))
    return damaged + beside.entries()


def _examine(
    tars: Sequence[tuple[str, TarListing]], num_threads: int | None, progress: bool | None
) -> list[Skipped]:
    """Hash and decode what no earlier start did, tar after tar; return what is unusable."""
    jobs = [
        (file, tar, row)
        for file, tar in tars
        for row, digest in enumerate(tar.hashes)
        if not digest
    ]
    if not jobs:
        return []
    results = map_in_threads(
        _examine_member, jobs, description="reading tars",
        num_threads=num_threads, progress=progress,
    )  # fmt: skip
    skipped = []
    pairs = zip(jobs, results, strict=True)
    for file, group in groupby(pairs, key=lambda pair: pair[0][0]):
        tar, learnt = None, False
        try:
            for (_, tar, row), (digest, reason) in group:
                tar.hashes[row] = digest
                learnt = learnt or bool(digest)
                if reason:
                    skipped.append(Skipped(f"{file}/{tar.names[row]}", reason))
        finally:
            if tar is not None and learnt:
                write_listing(file, tar)
    return skipped


def _examine_member(job: tuple[str, TarListing, int]) -> tuple[str, str]:
    file, tar, row = job
    try:
        return examine_bytes(_read(file, tar.offsets[row], tar.sizes[row]))
    except OSError as error:
        return "", error.strerror or "cannot be read"


def _image_set(tars: Sequence[tuple[str, TarListing]], skipped: Sequence[Skipped]) -> ImageSet:
    root = os.path.commonpath([os.path.dirname(file) for file, _ in tars])
    names = {name for _, tar in tars for name in tar.classes if name}
    classes = sorted_classes(names)
    numbers = {name: number for number, name in enumerate(classes)} | {"": UNLABELLED}
    ids: list[str] = []
    labels: list[int] = []
    offsets: list[int] = []
    sizes: list[int] = []
    starts = [0]
    for file, tar in tars:
        prefix = Path(file).relative_to(root).as_posix()
        for row, digest in enumerate(tar.hashes):
            if digest:
                ids.append(f"{prefix}/{tar.names[row]}#{digest}")
                labels.append(numbers[tar.classes[row]])
                offsets.append(tar.offsets[row])
                sizes.append(tar.sizes[row])
        starts.append(len(ids))
    opener = _TarOpener(
        tuple(file for file, _ in tars),
        np.array(starts, np.int64),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
    )
    return ImageSet(ids, labels, classes, np.arange(len(ids)), opener, skipped)


def _tell_labels(place: str, tars: Sequence[tuple[str, TarListing]], images: ImageSet) -> None:
    """Say once which labels are not used, and which images have no label while others do."""
    remarks: dict[str, list[str]] = {}
    for file, tar in tars:
        for member, reason in tar.remarks:
            remarks.setdefault(reason, []).append(f"{file}/{member}")
    for reason, members in remarks.items():
        count = counted(len(members), "member")
        logger.warning("%s: %s: %s (first: %s)", place, count, reason, members[0])
    without = np.flatnonzero(images.labels == UNLABELLED)
    if images.classes and len(without):
        logger.warning(
            "%s: %d of %s %s no class: without a label (first: %s)",
            place, len(without), counted(len(images), "image"), verb(len(without), "has"),
            images.ids[without[0]].rpartition("#")[0],
        )  # fmt: skip
    several = sorted({*several_classes(images.classes), *with_bars(images.classes)})
    if several:
        logger.warning(
            "%s: expected one class per image; these count as classes of their own: %d like '%s'",
            place, len(several), several[0],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _TarOpener:
    """Opens the image of an item: a row of these tables.

    Args:
        files: T tars.  starts: [T + 1] the first item of each.
        offsets, sizes: [N] where the bytes of each item are.
    """

    files: tuple[str, ...]
    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        file = self.files[int(self._tars(item))]
        try:
            data = _read(file, int(self.offsets[item]), int(self.sizes[item]))
        except OSError as error:
            reason = f"{error.strerror}, but it existed at the start"
            raise LostImage(file, reason) from error
        if content_hash(data) != sample_id.rpartition("#")[2]:
            forget(index_of("tar", file))
            raise LostImage(file, "the tar changed since it was read", "; start again")
        return decode(data)

    def blocks(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] each item's block: ``BLOCK_ROWS`` neighbours in one tar."""
        tars = self._tars(items)
        per_tar = -(-np.diff(self.starts) // BLOCK_ROWS)
        first = np.concatenate([[0], np.cumsum(per_tar)])
        found: NDArray[np.int64] = first[tars] + (items - self.starts[tars]) // BLOCK_ROWS
        return found

    def read_ahead(self, items: NDArray[np.int64]) -> None:
        """Prefetch the bytes of all the items; a missing tar is reported when it is read."""
        if not hasattr(os, "posix_fadvise"):
            return
        for tar, item in zip(self._tars(items).tolist(), items.tolist(), strict=True):
            offset, size = int(self.offsets[item]), int(self.sizes[item])
            with suppress(OSError):
                handle = _opened(self.files[tar])
                os.posix_fadvise(handle.number, offset, size, os.POSIX_FADV_WILLNEED)

    def _tars(self, items: ArrayLike) -> NDArray[np.int64]:
        """Which tar each item is in."""
        return np.searchsorted(self.starts, items, side="right") - 1


class _Handle:
    """An open file that is closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


# Not part of an opener, so that openers can be pickled. Reads give their offset, so several threads
# and forked processes can share a handle.
_opened = lru_cache(_OPEN_TARS)(_Handle)


def _read(file: str, offset: int, size: int) -> bytes:
    handle = _opened(file)
    return os.pread(handle.number, size, offset)
