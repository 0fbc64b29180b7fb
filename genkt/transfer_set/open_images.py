"""Opens any location of images: a folder, tars, a saved set or a named data set."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from genkt.data.images import ImageSet, Skipped, concat
from genkt.data.packages.packaged_images import read_packaged_part
from genkt.io import did_you_mean, is_remote, nearby, shown
from genkt.readers.folders import read_unlabelled
from genkt.readers.huggingface import read_huggingface
from genkt.readers.listing import holds_images
from genkt.readers.remote import local_copy
from genkt.readers.scan import as_list
from genkt.readers.system_files import file_kind, folder_kind
from genkt.readers.tars import read_tars
from genkt.readers.torchvision_sets import read_torchvision_part
from genkt.transfer_set.read_set import read_rows
from genkt.transfer_set.set_files import HEADER
from genkt.types import UNLABELLED, UserError

logger = logging.getLogger("genkt")

FORMS = (
    "a folder of images (s3://bucket/folder, too), a saved transfer set, tars (shards/*.tar, "
    "train-{000..012}.tar), hf:NAME_OR_PATH[:split], torchvision:NAME:ROOT[:part], "
    "package:NAME[:part] or a list of these"
)
"""The forms of a location, for messages."""

_SCHEMES = ("hf", "package", "torchvision")
_SCHEME = re.compile(r"(\w{2,}):")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_NAMES = 1_000_000


class _Reading(TypedDict):
    """How a source is read; see ``open_images``."""

    max_skipped: int | float
    num_threads: int | None
    progress: bool | None


def open_images(
    location: str | Path | Sequence[str | Path],
    *,
    max_skipped: int | float = 0.05,
    in_full: bool = False,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """Open the images that a location names, with their labels if the source has any.

    - ``photos``: every image below the folder, unlabelled; or all tars, if the folder only has
    tars;
    - ``runs/synth``: a saved transfer set;
    - ``shards/*.tar``, ``a.tar``, ``train-{000..012}.tar``: WebDataset tars;
    - ``hf:NAME_OR_PATH[:split]``: a Hugging Face data set, from the hub or from disk;
    - ``torchvision:NAME:ROOT[:part]``: a torchvision data set, by default its train part;
    - ``package:NAME[:part]``: ``stamps`` or ``fashion_mnist`` of ``data``, by default the part
    without labels;
    - ``s3://``, ``gs://``, ``https://`` and what else fsspec opens: a folder of images, or a tar,
    copied into the cache and compared with the place at every opening;
    - a list of these, whose classes are matched by name.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (8, 8), "red").save(root / "a.png")
    >>> open_images(root)
    ImageSet(1 image, 0 classes, 0 labelled)
    >>> open_images([root, "torchvision:fake::test"])
    ImageSet(201 images, 10 classes, 200 labelled)

    Args:
        location: one location or several. Files with the same name and content count once (the
        others are in ``skipped``), so that ids differ.
        max_skipped: limit of unusable images per source: a number, or a share (float).
        in_full: for folders, see ``read_folder``; other images are decoded in any case.
        num_threads: reading threads, by default up to 8.
        progress: False shows no progress.

    Raises:
        UserError: a location of unknown form, one that is missing, has no image or is given twice,
        or more unusable images than allowed.
    """
    given = as_list(location)
    if not given:
        raise UserError(f"expected a place of images, got an empty list. Expected {FORMS}")
    names = [name for each in given for name in _expand(str(each))]
    _refuse_repeats(names)
    reading = _Reading(max_skipped=max_skipped, num_threads=num_threads, progress=progress)
    return _without_repeats(_union(list(_open_all(names, reading, in_full))))


def _expand(location: str) -> list[str]:
    """The paths that match a pattern; anything else unchanged."""
    if is_remote(location):
        return [str(local_copy(location))]
    location = os.path.expanduser(location)
    if os.path.lexists(location) or _scheme(location):
        return [location]
    names = list(_braces(location))
    found = [path for name in names for path in _glob(name)]
    if not found:
        raise UserError(f"{location}: no file matches. Expected {FORMS}")
    missing = [name for name in found if not os.path.exists(name)]
    if missing and names != [location]:
        raise UserError(
            f"{location}: {len(missing)} of {len(found)} are missing, the first is {missing[0]}"
        )
    if missing:
        close = nearby(os.path.abspath(location)) or "."
        raise UserError(f"{shown(location)}: does not exist{close} Expected {FORMS}")
    return found


def _glob(name: str) -> list[str]:
    """Paths that match a pattern; system folders are searched only if it names them."""
    if not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))
    kept = [path for path in found if not _is_system(path, set(Path(name).parts))]
    if out := len(found) - len(kept):
        first = next(path for path in found if path not in kept)
        logger.warning("%s: left out system files and folders: %d (e.g. %s)", name, out, first)
    return kept


def _is_system(path: str, named: set[str]) -> bool:
    """Whether a path is in a system folder, or is a system file, that the pattern does not name."""
    *folders, last = Path(path).parts
    kinds = [folder for folder in folders if folder_kind(folder)]
    if file_kind(last) if os.path.isfile(path) else folder_kind(last):
        kinds.append(last)
    return not named.issuperset(kinds)


def _braces(text: str) -> Iterator[str]:
    """``a-{00..11}.tar`` and ``{x,y}.tar`` written out, as a shell does it."""
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    choices = match[1].split(",")
    if span := _RANGE.fullmatch(match[1]):
        first, last = int(span[1]), int(span[2])
        if not first <= last < first + _MOST_NAMES:
            raise UserError(f"{text}: expected an ascending range of at most {_MOST_NAMES} numbers")
        choices = [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    for choice in choices:
        yield from _braces(text[: match.start()] + choice + text[match.end() :])


def _scheme(location: str) -> str:
    """The scheme that the location starts with, "" for a path."""
    match = _SCHEME.match(location)
    if match is None or os.path.lexists(location):
        return ""
    if match[1] not in _SCHEMES:
        raise UserError(
            f"{location}: '{match[1]}:' is no kind of location."
            f"{did_you_mean(match[1], _SCHEMES)} Expected {FORMS}"
        )
    return match[1]


def _refuse_repeats(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        key = name if _scheme(name) else os.path.realpath(name)
        if key in seen:
            raise UserError(f"{name}: given twice, so its images would count twice: give it once")
        seen.add(key)


def _open_all(names: Sequence[str], reading: _Reading, in_full: bool) -> Iterator[ImageSet]:
    """Folders are read together, and so are tars: the ids of tars start where all of them lie."""
    folders: list[str] = []
    tars: list[str] = []
    others: list[ImageSet] = []
    for name in names:
        if scheme := _scheme(name):
            others.append(_open_named(scheme, name.partition(":")[2], reading))
        elif os.path.isfile(name):
            tars.append(_tar(name))
        elif _is_saved(Path(name)):
            others.append(read_rows(name).images)
        elif inside := _tars_alone(Path(name)):
            tars += inside
        else:
            folders.append(name)
    if folders:
        yield read_unlabelled(folders, in_full=in_full, **reading)
    if tars:
        yield read_tars(tars, **reading)
    yield from others


def _open_named(scheme: str, name: str, reading: _Reading) -> ImageSet:
    if scheme == "hf":
        # A split may hold colons itself (train[:10%]), a path hardly does.
        path, _, split = name.partition(":")
        return read_huggingface(path, split or None, **reading)
    if scheme == "package":
        dataset, _, part = name.partition(":")
        return read_packaged_part(dataset, part or "unlabelled")
    dataset, _, rest = name.partition(":")
    root, _, part = rest.rpartition(":") if ":" in rest else (rest, "", "train")
    return read_torchvision_part(dataset, root or None, part, **reading)


def _tar(name: str) -> str:
    if name.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")):
        raise UserError(
            f"{name}: single images cannot be read from a compressed tar: unpack it to a .tar first"
        )
    if not name.lower().endswith(".tar"):
        raise UserError(f"{name}: a file, but no .tar. Expected {FORMS}")
    return name


def _is_saved(folder: Path) -> bool:
    """Open a transfer set; the message says if it is not finished."""
    return (folder / HEADER).is_file() or (folder / "shards" / "00000.json").is_file()


def _tars_alone(folder: Path) -> list[str]:
    tars = sorted(
        str(path) for path in folder.glob("*.tar") if path.is_file() and not file_kind(path.name)
    )
    return tars if tars and not holds_images(folder) else []


def _union(sets: list[ImageSet]) -> ImageSet:
    """All samples, with the class names of all sets in the order of first use."""
    classes = tuple(dict.fromkeys(name for images in sets for name in images.classes))
    place = {name: number for number, name in enumerate(classes)}
    joined = []
    for images in sets:
        # One more entry, for the label -1, which indexes the last one.
        numbers = np.array([*(place[name] for name in images.classes), UNLABELLED])
        labels = numbers[images.labels]
        joined.append(images.replaced(labels=labels, classes=classes))
    return joined[0] if len(joined) == 1 else concat(*joined)


def _without_repeats(images: ImageSet) -> ImageSet:
    if len(set(images.ids)) == len(images):
        return images
    seen: set[str] = set()
    kept, repeats = [], []
    for index, sample_id in enumerate(images.ids):
        if sample_id in seen:
            repeats.append(Skipped(sample_id.rpartition("#")[0], "repeated file"))
        else:
            seen.add(sample_id)
            kept.append(index)
    return images.select(kept).with_skipped(repeats)
