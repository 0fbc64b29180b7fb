"""Lists of image files on disk; each file is hashed and decoded once and opened by path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from genkt.data.images import (
    ImageSet,
    LostImage,
    Skipped,
    UnreadableImage,
    content_hash,
    decode,
    left_out_text,
)
from genkt.data.pictures.formats import (
    DEVELOPED_SUFFIXES,
    IMAGE_SUFFIXES,
    RAW_SUFFIXES,
    looks_like_image,
)
from genkt.io import did_you_mean, home_path, is_remote
from genkt.readers.file_index import examine_files, forget, index_of
from genkt.readers.remote import local_copy
from genkt.readers.system_files import MOST_COUNTED, SystemFiles, file_kind, folder_kind
from genkt.types import UserError


@dataclass
class Listing:
    """Image files of one part: paths relative to the root, labels, and files to leave out.

    Args:
        beside: system files that were found and do not belong to the data.
        notes: what else the user should know, one sentence each.
        groups: path -> group of the image; None: the images have no groups.
    """

    root: Path
    classes: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    beside: SystemFiles = field(default_factory=SystemFiles)
    notes: list[str] = field(default_factory=list)
    groups: Mapping[str, str] | None = None

    def add(self, folder: Path, label: int) -> None:
        """Every image below a folder."""
        above = len(os.path.join(self.root, ""))
        for path, reason in walk(folder, beside=self.beside):
            if reason:
                self.skipped.append(Skipped(path, reason))
            else:
                self.paths.append(path[above:].replace(os.sep, "/"))
                self.labels.append(label)


@dataclass(frozen=True)
class FileOpener:
    """Opens the files of a folder by the paths in their ids.

    Args:
        root: the folder.
    """

    root: str

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        relative, _, digest = sample_id.rpartition("#")
        path = Path(self.root, relative)
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = f"{error.strerror}, but it existed at the start"
            raise LostImage(str(path), reason) from error
        if content_hash(data) != digest:
            forget(index_of("folder", self.root))
            raise LostImage(
                str(path), "the file changed since the folder was read", "; start again"
            )
        try:
            return decode(data)
        except UnreadableImage as error:
            raise LostImage(str(path), f"cannot be decoded: {error}") from error


def existing_folder(folder: str | Path) -> Path:
    """The absolute path of a folder; of its copy if it is elsewhere (``readers.remote``).

    Raises:
        UserError: it does not exist, or is not a folder.
    """
    if isinstance(folder, str) and is_remote(folder):
        return local_copy(folder)
    path = Path(os.path.abspath(home_path(folder)))
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        names = os.listdir(path.parent) if os.access(path.parent, os.R_OK) else []
        raise UserError(f"{path}: does not exist.{did_you_mean(path.name, names)}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if not is_folder:
        raise UserError(f"{path}: expected a folder of images, got a file")
    return path


def entries_of(folder: str | Path, beside: SystemFiles | None = None) -> list[os.DirEntry[str]]:
    """The sorted entries of a folder, without hidden and system files and circular links.

    Args:
        beside: counts what is left out.
    """
    try:
        with os.scandir(folder) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error
    straight = [entry for entry in every if not _goes_round(entry, folder, beside)]
    return [entry for entry in straight if not _is_system(entry, beside)]


def _goes_round(entry: os.DirEntry[str], folder: str | Path, beside: SystemFiles | None) -> bool:
    """Whether an entry is a circular link: to itself, or to a folder that contains it."""
    if not entry.is_symlink():
        return False
    try:
        leads_above = entry.is_dir() and Path(os.path.realpath(folder)).is_relative_to(
            os.path.realpath(entry.path)
        )
        reason = "link to a folder above it" if leads_above else ""
    except OSError as error:  # ELOOP
        reason = f"broken link: {error.strerror}"
    if reason and beside is not None:
        beside.add_link(entry.path, reason)
    return bool(reason)


def _is_system(entry: os.DirEntry[str], beside: SystemFiles | None) -> bool:
    if entry.is_dir():
        found = bool(folder_kind(entry.name))
        if found and beside is not None:
            beside.add_folder(entry.path, entry.name, _num_images(entry.path))
    else:
        found = bool(file_kind(entry.name))
        if found and beside is not None and looks_like_image(entry.name):
            beside.add_file(entry.path, entry.name)
    return found


def _num_images(folder: str) -> int:
    """Image files below a folder, at most ``MOST_COUNTED``; links are not followed."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    return sum(1 for _ in islice(filter(looks_like_image, names), MOST_COUNTED))


def walk(
    folder: str | Path, above: tuple[str, ...] = (), beside: SystemFiles | None = None
) -> Iterator[tuple[str, str]]:
    """The path of every image-like file below ``folder``, and "" or the reason to leave it out.

    Args:
        above: real paths of the folders that contain it.
        beside: counts the system files, which are no pictures.
    """
    try:
        entries = entries_of(folder, beside)
    except UserError:
        yield str(folder), "folder cannot be listed"
        return
    here = (*above, os.path.realpath(folder))
    endings = [os.path.splitext(entry.name.lower()) for entry in entries]
    developed = {stem for stem, suffix in endings if suffix in DEVELOPED_SUFFIXES}
    for entry, (stem, suffix) in zip(entries, endings, strict=True):
        if entry.is_dir():
            if os.path.realpath(entry.path) in here:
                yield entry.path, "link to a folder above it"
            else:
                yield from walk(entry.path, here, beside)
        elif suffix in RAW_SUFFIXES and stem in developed:
            if beside is not None:
                beside.add_raw(entry.path, entry.name)
        elif suffix in IMAGE_SUFFIXES:
            path = entry.path
            printable = path.isascii() or path.encode(errors="replace").decode() == path
            yield (path, "") if printable else (ascii(path), "name is not UTF-8")


def holds_images(folder: Path) -> bool:
    """Whether there is an image in the folder or below it."""
    return any(not reason for _, reason in walk(folder))


InFull = bool | Literal["labelled"]
"""Which pictures are decoded when they are opened: all, none, or those of the labelled parts."""


def decodes(in_full: InFull, part: str) -> bool:
    """Whether the pictures of a part are decoded when they are opened."""
    return in_full is True or (in_full == "labelled" and part != "unlabelled")


def scan(
    listing: Listing,
    description: str,
    num_threads: int | None,
    progress: bool | None,
    *,
    in_full: bool,
) -> ImageSet:
    """Hash and check every listed file that is new or has changed since an earlier start.

    Args:
        in_full: decode them, and note what the pictures look like.
    """
    results = examine_files(
        listing.root,
        listing.paths,
        description=f"reading {description}",
        looks=in_full,
        num_threads=num_threads,
        progress=progress,
    )
    ids, labels, skipped = [], [], [*listing.skipped, *listing.beside.entries()]
    groups, seen = [], []
    for path, label, (digest, reason, look) in zip(
        listing.paths, listing.labels, results, strict=True
    ):
        if reason:
            skipped.append(Skipped(str(listing.root / path), reason))
        else:
            ids.append(f"{path}#{digest}")
            labels.append(label)
            seen.append(look)
            groups.append((listing.groups or {}).get(path, ids[-1]))
    opener, items = FileOpener(str(listing.root)), np.arange(len(ids))
    known = None if listing.groups is None else groups
    return ImageSet(
        ids, labels, listing.classes, items, opener, skipped, known, seen if in_full else None
    )


def check_usable(parts: Mapping[str, ImageSet], place: str) -> None:
    """Refuse parts without usable images.

    Raises:
        UserError: a training class or a whole part without a usable image.
    """
    empty = [name for name, count in parts["train"].class_counts().items() if not count]
    if empty:
        names = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        why = _why_none(parts["train"])
        raise UserError(f"{place}: classes without a usable training image: {names}{why}")
    for name, part in parts.items():
        if not len(part):
            raise UserError(f"{place}: the {name} part has no usable images{_why_none(part)}")


def _why_none(images: ImageSet) -> str:
    damaged = [entry for entry in images.skipped if entry.is_damage]
    return f" ({left_out_text(damaged)})" if damaged else ""
