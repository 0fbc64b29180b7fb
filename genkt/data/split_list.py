"""Parts of a data set that text files list, one ``filename,class`` a line."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from genkt.data.images import Skipped, concat
from genkt.data.listing import Listing, check_usable, existing_folder, looks_like_image, scan, walk
from genkt.data.scan import check_skipped
from genkt.data.splits import Splits, carve_missing, check_classes
from genkt.io import home_path
from genkt.types import UNLABELLED, UserError

logger = logging.getLogger("genkt")

_NAME_HEADS = ("file", "filename", "file_name", "filepath", "image", "image_id", "name", "path")
_CLASS_HEADS = ("category", "class", "class_id", "class_name", "dx", "label", "target")
_MOST_FAULTS = 10
_MOST_HINTS = 3
_MOST_SEARCHED = 200_000
_MOST_COMPARED = 10_000
"""Files that are looked at, and names compared, to guess what a missing one is called."""


@dataclass(frozen=True)
class _Row:
    """One line of a list: the file relative to the root, and its class ("" where none is read)."""

    line: int
    path: str
    class_name: str


@dataclass(frozen=True)
class _List:
    file: Path
    rows: tuple[_Row, ...]

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
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> Splits:
    """Read images by lists of them: CSV rows ``filename,class``, relative to one folder.

    A header, empty lines and lines that start with ``#`` do not count; a name with a comma stands
    in quotes. Classes are those of the training list, ordered as numbers where all are whole
    numbers, else as texts. What an image file is, and how it is checked, is as in ``read_folder``.

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
        root: the folder that the images lie in.
        train, validation, test: list files; None: the part is carved from train as in
            ``read_folder``.
        unlabelled: folders, and list files whose classes (if any) are not read. Images of the
            other lists are left out of them.
        test_fraction, validation_fraction, seed, num_threads, progress: as for ``read_folder``.
        max_skipped: listed files that may be missing or unusable: a number, or a share (float,
            rounded up).

    Raises:
        UserError: a list that cannot be read, faulty lines (all are counted), a file that comes
            twice, classes that disagree, more missing or unusable files than allowed.
    """
    root = existing_folder(root)
    given = {"train": train, "validation": validation, "test": test}
    lists = {
        name: _read_list(home_path(file), root, labelled=True)
        for name, file in given.items()
        if file is not None
    }
    _check_apart(lists)
    classes = _classes_of(lists["train"])
    for each in lists.values():
        extra = sorted({row.class_name for row in each.rows}.difference(classes))
        check_classes([*classes, *extra], classes, str(each.file))
    listings = {name: [_listing(root, each, classes)] for name, each in lists.items()}
    if unlabelled:
        listings["unlabelled"] = _list_unlabelled(root, unlabelled, lists)
    every = [each for group in listings.values() for each in group]
    total = sum(len(each.paths) + len(each.skipped) for each in every)
    missing = _leave_out_missing(root, [each for each in every if each.root == root])
    check_skipped(missing, total, max_skipped, f"{root}, {len(missing)} files are not there")
    parts = {
        name: concat(*[scan(each, f"{root.name} {name}", num_threads, progress) for each in group])
        for name, group in listings.items()
    }
    skipped = [entry for part in parts.values() for entry in part.skipped]
    check_skipped(skipped, total, max_skipped, str(root))
    check_usable(parts, str(root))
    return carve_missing(
        Splits(**parts),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def _read_list(file: Path, root: Path, *, labelled: bool) -> _List:
    """The rows of a list file; every faulty line is counted, the first few are named."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
        cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise UserError(f"split list {file}: {reason}") from error
    cells = [(line, row) for line, row in cells if any(row) and not row[0].startswith("#")]
    if cells and _is_header(cells[0][1]):
        del cells[0]
    rows: dict[str, _Row] = {}
    faults: list[str] = []
    for line, row in cells:
        found = _row(line, row, root, labelled)
        if isinstance(found, _Row) and found.path in rows:
            found = f"'{found.path}' comes twice, first in line {rows[found.path].line}"
        if isinstance(found, _Row):
            rows[found.path] = found
        else:
            faults.append(f"line {line}: {found}")
    if faults:
        shown = "; ".join(faults[:_MOST_FAULTS])
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError(f"split list {file}, {count}: {shown}{more}")
    if not rows:
        columns = "filename,class" if labelled else "filename"
        raise UserError(f"split list {file}: expected rows of {columns}, it has none")
    return _List(file, tuple(rows.values()))


def _is_header(row: list[str]) -> bool:
    """Whether the first row names the columns."""
    if looks_like_image(row[0]):
        return False
    return row[0].lower() in _NAME_HEADS or (len(row) > 1 and row[1].lower() in _CLASS_HEADS)


def _row(line: int, row: list[str], root: Path, labelled: bool) -> _Row | str:
    """A row, or what is wrong with it."""
    if len(row) > 2:
        return f"{len(row)} columns; a name with a comma needs quotes"
    if labelled and (len(row) < 2 or not row[1]):
        separated = any(mark in row[0] for mark in ";\t")
        return f"'{row[0]}' has no class" + separated * "; columns are separated by commas"
    if len(row) > 1 and looks_like_image(row[1]) and not looks_like_image(row[0]):
        return f"expected filename,class, got '{row[0]}' before '{row[1]}'"
    name = os.path.expanduser(row[0])
    if os.path.isabs(name):
        name = os.path.relpath(name, root)
    path = posixpath.normpath(PurePath(name).as_posix()) if row[0] else ""
    if not row[0] or path == "." or path.startswith("../") or path == "..":
        return f"'{row[0]}' is no file below {root}"
    return _Row(line, path, row[1] if labelled else "")


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
        raise UserError(
            f"split list {train.file}: expected two classes at least, got {names.pop()}"
        )
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _listing(root: Path, given: _List, classes: tuple[str, ...] = ()) -> Listing:
    number = {name: label for label, name in enumerate(classes)}
    labels = [number.get(row.class_name, UNLABELLED) for row in given.rows]
    return Listing(root, classes, given.paths, labels)


def _list_unlabelled(
    root: Path, places: Sequence[str | Path], lists: Mapping[str, _List]
) -> list[Listing]:
    """Images of folders and list files, each once, without those of the labelled lists."""
    part_of = {
        os.path.realpath(root / path): name for name, each in lists.items() for path in each.paths
    }
    taken: set[str] = set()
    listings = []
    for place in places:
        path = home_path(place)
        if path.is_file():
            listing = _listing(root, _read_list(path, root, labelled=False))
        else:
            listing = Listing(existing_folder(path))
            listing.add(listing.root, UNLABELLED)
        full = [os.path.realpath(listing.root / each) for each in listing.paths]
        named = [part_of[each] for each in full if each in part_of]
        if named:
            counts = ", ".join(f"{named.count(name)} {name}" for name in dict.fromkeys(named))
            logger.warning("data.unlabelled: %s: left out what is listed (%s)", place, counts)
        kept = [
            each
            for each, file in zip(listing.paths, full, strict=True)
            if file not in part_of and file not in taken
        ]
        taken.update(full)
        if not kept:
            raise UserError(f"data.unlabelled: {place}: no images beside those that are listed")
        listings.append(Listing(listing.root, (), kept, [UNLABELLED] * len(kept), listing.skipped))
    return listings


def _leave_out_missing(root: Path, listings: Sequence[Listing]) -> list[Skipped]:
    """Move files that are not there to what is skipped; of the first few, guess what was meant."""
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
    """Path -> a hint: an image of the same stem anywhere below the root, else one beside it."""
    same: dict[str, list[str]] = {PurePath(path).stem: [] for path in paths}
    beside: dict[str, list[str]] = {}
    for found, reason in islice(walk(root), _MOST_SEARCHED if paths else 0):
        if not reason:
            name = found.relative_to(root).as_posix()
            beside.setdefault(posixpath.dirname(name), []).append(name)
            if found.stem in same:
                same[found.stem].append(name)
    hints = {}
    for path in paths:
        alike = same[PurePath(path).stem]
        near = alike or beside.get(posixpath.dirname(path), [])[:_MOST_COMPARED]
        if close := difflib.get_close_matches(path, near, 1, 0.0 if alike else 0.6):
            hints[path] = f", did you mean {close[0]}?"
    return hints
