"""Parts of a data set listed in text files, one ``filename,class`` per line."""

from __future__ import annotations

import difflib
import logging
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath

from genkt.data.class_names import several_classes, sorted_classes, with_bars
from genkt.data.images import ImageSet, Skipped, concat
from genkt.data.names import on_disk
from genkt.data.pictures.formats import looks_like_image
from genkt.data.separation import finished
from genkt.data.splits import Splits, check_classes
from genkt.data.tables import Row, check_faults, read_rows
from genkt.io import home_path
from genkt.readers.grouping import told, ungrouped
from genkt.readers.listing import (
    InFull,
    Listing,
    check_usable,
    decodes,
    entries_of,
    existing_folder,
    scan,
    walk,
)
from genkt.readers.scan import check_skipped
from genkt.readers.unlabelled import UnlabelledPlaces
from genkt.types import UNLABELLED, UserError, counted

logger = logging.getLogger("genkt")

_WHAT = "split list"
_MOST_HINTS = 3
_MOST_SEARCHED = 200_000
_MOST_COMPARED = 10_000
"""Limit of files searched and names compared to guess the name of a missing file."""


@dataclass(frozen=True)
class _Row:
    """One line of a list: the file relative to the root, its class and group ("" for none)."""

    line: int
    path: str
    class_name: str
    group: str


@dataclass(frozen=True)
class _List:
    """The rows of a file.

    Args:
        has_groups: groups were asked for.
    """

    file: Path
    rows: tuple[_Row, ...]
    has_groups: bool

    @property
    def paths(self) -> list[str]:
        return [row.path for row in self.rows]


def read_split_list(
    root: str | Path,
    train: str | Path,
    *,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    unlabelled: Sequence[str | Path] = (),
    group: str | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
    max_skipped: int | float = 0.05,
    in_full: InFull = False,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> Splits:
    """Read images by lists of them: CSV rows ``filename,class``, relative to one folder.

    A header may name the columns, in any order, beside others; semicolons and tabs separate them
    too; a name with a comma needs quotes, and the file's ending may be left out. Empty lines do not
    count. Lines that start with ``#`` do not count, unless a file has that name. Classes are those
    of the training list, ordered as numbers where all are whole numbers, else as texts; "3.0" is
    "3". Image files are recognised and checked as in ``read_folder``.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for number in range(4):
    ...     Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(root / f"{number}.png")
    >>> rows = "filename,class\\n0.png,dog\\n1.png,cat\\n"
    >>> _ = (root / "train.csv").write_text(rows)
    >>> splits = read_split_list(root, root / "train.csv", unlabelled=[root], test_fraction=0.0)
    >>> splits.train, splits.classes, len(splits.unlabelled)
    (ImageSet(2 images, 2 classes, 2 labelled), ('cat', 'dog'), 2)

    Args:
        root: the folder of the images.
        train, validation, test: list files; None: the part is split off train as in
        ``read_folder``.
        unlabelled: folders, and list files whose classes (if any) are not read. Images of the
            other lists are left out of them.
        group: a column of the lists; images with the same value in it stay on one side of every
            split. Lists of unlabelled images need not have it.
        test_fraction, validation_fraction, seed, in_full, num_threads, progress: as for
            ``read_folder``.
        max_skipped: limit of missing or unusable files: a number, or a share (float, rounded up).

    Raises:
        UserError: a list that cannot be read, faulty lines (all are counted), a repeated file,
        different classes, more missing or unusable files than allowed.
    """
    root = existing_folder(root)
    given = {"train": train, "validation": validation, "test": test}
    lists = {
        name: _read_list(home_path(file), root, labelled=True, group=group)
        for name, file in given.items()
        if file is not None
    }
    _check_apart(lists)
    classes = _classes_of(lists["train"])
    for each in lists.values():
        extra = sorted({row.class_name for row in each.rows}.difference(classes))
        check_classes([*classes, *extra], classes, str(each.file))
    listings = {name: [_listing(root, each, classes)] for name, each in lists.items()}
    notes: list[str] = []
    if unlabelled:
        places = _list_unlabelled(root, unlabelled, listings, group)
        notes = places.notes
        if any(each.paths for each in places.listings):
            listings["unlabelled"] = places.listings
    every = [each for several in listings.values() for each in several]
    notes += [] if group is None else told(ungrouped(every), f"a value in column {group}")
    total = sum(len(each.paths) + len(each.skipped) for each in every)
    missing = _leave_out_missing(root, [each for each in every if each.root == root])
    check_skipped(missing, total, max_skipped, f"{root}, {_not_there(missing)}")
    parts = _scan_parts(listings, root.name, num_threads, progress, in_full)
    skipped = [entry for part in parts.values() for entry in part.skipped]
    check_skipped(skipped, total, max_skipped, str(root))
    check_usable(parts, str(root))
    whole = Splits(**parts, notes=tuple(notes))
    return finished(
        whole, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed
    )


def _scan_parts(
    listings: Mapping[str, Sequence[Listing]],
    title: str,
    num_threads: int | None,
    progress: bool | None,
    in_full: InFull,
) -> dict[str, ImageSet]:
    def read(each: Listing, name: str) -> ImageSet:
        whole = decodes(in_full, name)
        return scan(each, f"{title} {name}", num_threads, progress, in_full=whole)

    return {name: concat(*[read(each, name) for each in many]) for name, many in listings.items()}


def _read_list(file: Path, root: Path, *, labelled: bool, group: str | None) -> _List:
    """The rows of a list file; every faulty line is counted, the first few are named."""

    complete = _Endings(root)
    spelled: dict[str, dict[str, str]] = {}

    def known(name: str) -> bool:
        path = _path(name, root)
        if path is None:
            return False
        return os.path.isfile(root / complete(on_disk(root, path, spelled)))

    found = read_rows(file, _WHAT, known=known, labelled=labelled, group=group)
    several = several_classes(row.class_name for row in found) if labelled else {}
    rows: dict[str, _Row] = {}
    faults: list[str] = []
    completed: list[str] = []
    for each in found:
        row = _row(each, root, labelled, several)
        if isinstance(row, _Row):
            path = on_disk(root, row.path, spelled)
            if (whole := complete(path)) != path:
                completed.append(whole)
            row = replace(row, path=whole)
        if isinstance(row, _Row) and row.path in rows:
            row = f"'{row.path}' is repeated, first in line {rows[row.path].line}"
        if isinstance(row, _Row):
            rows[row.path] = row
        else:
            faults.append(f"line {each.line.number}: {row}")
    check_faults(faults, f"{_WHAT} {file}")
    if not rows:
        columns = "filename,class" if labelled else "filename"
        raise UserError(f"{_WHAT} {file}: expected rows of {columns}, got none")
    if barred := with_bars(row.class_name for row in rows.values()):
        told = (_WHAT, file, len(barred), barred[0])
        logger.warning("%s %s: one class per image is expected; %d are like '%s'", *told)
    if completed:
        lacking = (_WHAT, file, len(completed), completed[0])
        logger.warning("%s %s: names without the file's ending: %d, the first is %s", *lacking)
    return _List(file, tuple(rows.values()), group is not None)


class _Endings:
    """Completes names without the file's ending if exactly one image matches."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, dict[str, list[str]]] = {}

    def __call__(self, path: str) -> str:
        if looks_like_image(path) or os.path.lexists(self._root / path):
            return path
        folder, name = posixpath.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._images(folder)
        found = self._folders[folder].get(name, [])
        return posixpath.join(folder, found[0]) if len(found) == 1 else path

    def _images(self, folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        place = self._root / folder
        for entry in entries_of(place) if place.is_dir() else ():
            if looks_like_image(entry.name):
                names.setdefault(os.path.splitext(entry.name)[0], []).append(entry.name)
        return names


def _row(row: Row, root: Path, labelled: bool, several: Mapping[str, str]) -> _Row | str:
    """A row, or what is wrong with it."""
    if row.fault:
        return row.fault
    if labelled and not row.class_name:
        separated = any(looks_like_image(row.name.partition(mark)[0]) for mark in "; \t")
        told = "; columns are separated by commas, or all by semicolons or tabs"
        return f"'{row.name}' has no class" + separated * told
    if row.class_name in several:
        return several[row.class_name]
    if looks_like_image(row.class_name) and not looks_like_image(row.name):
        return f"expected filename,class, got '{row.name}' before '{row.class_name}'"
    path = _path(row.name, root)
    if path is None:
        return f"'{row.name}' is not a file below {root}"
    return _Row(row.line.number, path, row.class_name if labelled else "", row.group)


def _path(name: str, root: Path) -> str | None:
    """A listed name relative to the root; None if it is outside the root or does not exist."""
    expanded = os.path.expanduser(name)
    if os.path.isabs(expanded):
        expanded = os.path.relpath(expanded, root)
    path = posixpath.normpath(PurePath(expanded).as_posix()) if name else "."
    return None if path in (".", "..") or path.startswith("../") else path


def _check_apart(lists: Mapping[str, _List]) -> None:
    """Refuse a file in two of the lists."""
    seen: dict[str, tuple[str, _Row]] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for name, each in lists.items():
        for row in each.rows:
            other, first = seen.setdefault(row.path, (name, row))
            if other != name:
                places = f"{row.path}, lines {first.line} and {row.line}"
                shared.setdefault((other, name), []).append(places)
    if shared:
        faults = "; ".join(
            f"{len(places)} of {a} are in {b} too (first: {places[0]})"
            for (a, b), places in shared.items()
        )
        raise UserError(f"data.{', data.'.join(lists)}: expected different files: {faults}")


def _classes_of(train: _List) -> tuple[str, ...]:
    names = {row.class_name for row in train.rows}
    if len(names) < 2:
        raise UserError.of(f"split list {train.file}", "two classes at least", names.pop())
    return sorted_classes(names)


def _listing(root: Path, given: _List, classes: tuple[str, ...] = ()) -> Listing:
    number = {name: label for label, name in enumerate(classes)}
    labels = [number.get(row.class_name, UNLABELLED) for row in given.rows]
    groups = {row.path: row.group for row in given.rows if row.group}
    known = groups if given.has_groups else None
    return Listing(root, classes, given.paths, labels, groups=known)


def _list_unlabelled(
    root: Path,
    places: Sequence[str | Path],
    listings: Mapping[str, Sequence[Listing]],
    group: str | None,
) -> UnlabelledPlaces:
    """Images of folders and list files, each once, without those of the labelled lists."""
    found = UnlabelledPlaces.beside(listings)
    for place in places:
        path = home_path(place)
        if path.is_file():
            listing = _listing(root, _read_list(path, root, labelled=False, group=group))
        else:
            listing = Listing(existing_folder(place))
            listing.add(listing.root, UNLABELLED)
        found.add(listing, place)
    return found


def _not_there(missing: Sequence[Skipped]) -> str:
    return f"{counted(len(missing), 'file', 'is')} not there"


def _leave_out_missing(root: Path, listings: Sequence[Listing]) -> list[Skipped]:
    """Move missing files to the skipped ones; guess what was meant for the first few."""
    gone = [{path for path in each.paths if not os.path.exists(root / path)} for each in listings]
    first = [
        path
        for each, paths in zip(listings, gone, strict=True)
        for path in each.paths
        if path in paths
    ]
    hints = _closest(root, first[:_MOST_HINTS])
    missing: list[Skipped] = []
    for each, paths in zip(listings, gone, strict=True):
        rows = zip(each.paths, each.labels, strict=True)
        kept = [(path, label) for path, label in rows if path not in paths]
        found = [
            Skipped(str(root / path), f"no such file{hints.get(path, '')}")
            for path in each.paths
            if path in paths
        ]
        each.paths, each.labels = [path for path, _ in kept], [label for _, label in kept]
        each.skipped += found
        missing += found
    return missing


def _closest(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Path -> a hint: an image with this stem anywhere below the root, else a similar name."""
    same: dict[str, list[str]] = {PurePath(path).stem: [] for path in paths}
    beside: dict[str, list[str]] = {}
    for found, reason in islice(walk(root), _MOST_SEARCHED if paths else 0):
        if not reason:
            name = Path(found).relative_to(root).as_posix()
            beside.setdefault(posixpath.dirname(name), []).append(name)
            if (stem := PurePath(name).stem) in same:
                same[stem].append(name)
    hints = {}
    for path in paths:
        alike = same[PurePath(path).stem]
        near = alike or beside.get(posixpath.dirname(path), [])[:_MOST_COMPARED]
        if close := difflib.get_close_matches(path, near, 1, 0.0 if alike else 0.6):
            hints[path] = f", did you mean {close[0]}?"
    return hints
