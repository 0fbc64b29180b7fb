"""Image files on disk that belong together: found, hashed and decoded once, opened by path."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.file_index import examine_files, forget, index_of
from genkt.data.formats import IMAGE_SUFFIXES
from genkt.data.images import ImageSet, Skipped, content_hash, decode, left_out_text
from genkt.io import did_you_mean, home_path
from genkt.types import UserError


@dataclass
class Listing:
    """Image files found for one part: paths relative to the root, labels, and what to leave out."""

    root: Path
    classes: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, folder: Path, label: int, without: Container[str] = ()) -> None:
        """Every image below a folder but those of some absolute paths."""
        for path, reason in walk(folder):
            if reason:
                self.skipped.append(Skipped(str(path), reason))
            elif str(path) not in without:
                self.paths.append(path.relative_to(self.root).as_posix())
                self.labels.append(label)


@dataclass(frozen=True)
class _FileOpener:
    root: str

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        relative, _, digest = sample_id.rpartition("#")
        path = Path(self.root, relative)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}, though it was there at the start"
            ) from error
        if content_hash(data) != digest:
            forget(index_of("folder", self.root))
            raise UserError(f"{path}: the file changed since the folder was read; start again")
        return decode(data)


def existing_folder(folder: str | Path) -> Path:
    """The absolute path of a folder.

    Raises:
        UserError: it is not there, or no folder.
    """
    path = Path(os.path.abspath(home_path(folder)))
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        names = os.listdir(path.parent) if os.access(path.parent, os.R_OK) else []
        raise UserError(f"{path}: does not exist.{did_you_mean(path.name, names)}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if not is_folder:
        raise UserError(f"{path}: expected a folder of images, it is a file")
    return path


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds but hidden things, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error
    return sorted(visible, key=lambda entry: entry.name)


def looks_like_image(name: str) -> bool:
    """Whether a file's suffix is that of pictures."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Every image-like file below ``folder`` with "" or the reason to leave it out."""
    try:
        entries = entries_of(folder)
    except UserError:
        yield folder, "folder cannot be listed"
        return
    here = (*above, os.path.realpath(folder))
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            if os.path.realpath(path) in here:
                yield path, "link to a folder above it"
            else:
                yield from walk(path, here)
        elif looks_like_image(entry.name):
            printable = entry.path.encode(errors="replace").decode() == entry.path
            yield (path, "") if printable else (Path(ascii(entry.path)), "name is not UTF-8")


def holds_images(folder: Path) -> bool:
    """Whether an image lies in the folder or below it."""
    return any(not reason for _, reason in walk(folder))


def scan(
    listing: Listing, description: str, num_threads: int | None, progress: bool | None
) -> ImageSet:
    """Hash and decode every listed file that no earlier start has seen as it is now."""
    results = examine_files(
        listing.root,
        listing.paths,
        description=f"reading {description}",
        num_threads=num_threads,
        progress=progress,
    )
    ids, labels, skipped = [], [], list(listing.skipped)
    for path, label, (digest, reason) in zip(listing.paths, listing.labels, results, strict=True):
        if reason:
            skipped.append(Skipped(str(listing.root / path), reason))
        else:
            ids.append(f"{path}#{digest}")
            labels.append(label)
    return ImageSet(
        ids, labels, listing.classes, np.arange(len(ids)), _FileOpener(str(listing.root)), skipped
    )


def check_usable(parts: Mapping[str, ImageSet], place: str) -> None:
    """Refuse parts that nothing can be learnt from or tested on.

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
    return f" ({left_out_text(images.skipped)})" if images.skipped else ""
