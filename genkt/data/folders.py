"""Image folders: the layouts people have, checked file by file when they are read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from genkt.data.images import ImageSet, Skipped, concat
from genkt.data.listing import (
    Listing,
    check_usable,
    entries_of,
    existing_folder,
    holds_images,
    looks_like_image,
    scan,
)
from genkt.data.scan import check_skipped
from genkt.data.splits import Splits, carve_missing, check_classes
from genkt.types import UNLABELLED, UserError

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}


def read_folder(
    root: str | Path,
    *,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    seed: int = 0,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> Splits:
    """Read ``root/{train,val|validation|valid|test}/class/*`` or ``root/class/*``.

    Split folders may be capitalised, and called ``training`` and ``testing`` too. Class folders
    are searched to any depth, hidden files and files whose suffix is no image's are ignored,
    links are followed, and ``root/unlabelled`` becomes the unlabelled part. Every image is hashed
    and decoded once (again only when its file has changed); those that cannot be used are in
    ``Splits.skipped``.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for number in range(10):
    ...     folder = root / ("cat" if number % 2 else "dog")
    ...     folder.mkdir(exist_ok=True)
    ...     Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / f"{number}.png")
    >>> splits = read_folder(root, test_fraction=0.2)
    >>> splits.train, splits.classes
    (ImageSet(8 images, 2 classes, 8 labelled), ('cat', 'dog'))
    >>> splits.test.class_counts()
    {'cat': 1, 'dog': 1}

    Args:
        root: the folder.
        test_fraction, validation_fraction: carved from train, stratified, where the folder has no
            such part (test only where it has neither); 0 for none.
        seed: of that carving.
        max_skipped: images that may be unusable: a number, or a share (float, rounded up).
        num_threads: decoding threads, by default up to 8.
        progress: show a bar; None for only on a terminal.

    Raises:
        UserError: a folder that is not there or has another shape, classes that disagree between
            parts, a training class without images, more unusable images than allowed.
    """
    root = existing_folder(root)
    listings, notes = _list_parts(root)
    total = sum(len(listing.paths) + len(listing.skipped) for listing in listings.values())
    parts = {
        name: scan(listing, f"{root.name} {name}", num_threads, progress)
        for name, listing in listings.items()
    }
    skipped = [entry for part in parts.values() for entry in part.skipped]
    check_skipped(skipped, total, max_skipped, str(root))
    check_usable(parts, str(root))
    train = parts["train"]
    parts["train"] = ImageSet(
        train.ids, train.labels, train.classes, train.items, train.open_item,
        (*train.skipped, *notes),
    )  # fmt: skip
    return carve_missing(
        Splits(**parts),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def read_unlabelled(
    folders: str | Path | Sequence[str | Path],
    *,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """Read every image below one folder or several, without labels and without classes.

    Args:
        folders: one folder or a list; ids are relative to the folder that holds the image.
        max_skipped, num_threads, progress: as for ``read_folder``.

    Raises:
        UserError: no folder, one that is not there, holds no image or lies inside another one, or
            more unusable images than allowed.
    """
    given = [folders] if isinstance(folders, (str, Path)) else list(folders)
    if not given:
        raise UserError("expected at least one folder of unlabelled images, came an empty list")
    roots = [existing_folder(folder) for folder in given]
    for number, one in enumerate(roots):
        for other in roots[:number]:
            inner, outer = sorted((one.resolve(), other.resolve()), reverse=True)
            if inner.is_relative_to(outer):
                raise UserError(f"{inner} lies in {outer}, its images would count twice: give one")
    sets, total = [], 0
    for root in roots:
        listing = _list_unlabelled(root, root)
        total += len(listing.paths) + len(listing.skipped)
        sets.append(scan(listing, root.name, num_threads, progress))
    images = concat(*sets)
    place = str(roots[0]) if len(roots) == 1 else f"{roots[0]} and {len(roots) - 1} more"
    check_skipped(images.skipped, total, max_skipped, place)
    if not len(images):
        raise UserError(f"{place}: no usable image")
    return images


def _list_parts(root: Path) -> tuple[dict[str, Listing], list[Skipped]]:
    """Find the layout: listings by part name, and folders that are no part."""
    folders = [Path(entry.path) for entry in entries_of(root) if entry.is_dir()]
    known: dict[str, Path] = {}
    for folder in folders:
        part = _SPLIT_FOLDERS.get(folder.name.lower())
        if part in known:
            raise UserError(
                f"{root}: both {known[part].name}/ and {folder.name}/ are there, expected one"
            )
        if part:
            known[part] = folder
    others = [folder for folder in folders if folder not in known.values()]
    pool = known.pop("unlabelled", None)
    if known and "train" not in known:
        names = ", ".join(f"{folder.name}/" for folder in known.values())
        raise UserError(f"{root}: has {names} but no train/ beside it")
    notes: list[Skipped] = []
    if known:
        notes = _notes_on_others(root, others)
        listings = {name: _list_classes(root, known[name], name) for name in known}
        for name, listing in listings.items():
            check_classes(listing.classes, listings["train"].classes, str(known[name]))
    else:
        listings = {"train": _list_classes(root, root, "train", without=pool)}
    if pool:
        listings["unlabelled"] = _list_unlabelled(root, pool)
    return listings, notes


def _notes_on_others(root: Path, others: list[Path]) -> list[Skipped]:
    notes = []
    for folder in filter(holds_images, others):
        # Stricter than did_you_mean: "extra" is no slip for "train", "vall" is one for "val".
        close = difflib.get_close_matches(folder.name.lower(), _SPLIT_FOLDERS, cutoff=0.8)
        if close:
            raise UserError(f"{folder}/: not a known part. Did you mean {close[0]}?")
        notes.append(Skipped(f"{folder}/", "folder beside train/ that is no part"))
    return notes


def _list_classes(root: Path, folder: Path, part: str, without: Path | None = None) -> Listing:
    entries = entries_of(folder)
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    if without in folders:
        folders.remove(without)
    loose = [entry.path for entry in entries if entry.is_file() and looks_like_image(entry.name)]
    shape = f"{folder}: expected one folder of images for each class"
    if not folders and loose:
        raise UserError(
            f"{shape}, came {len(loose)} images directly in it; "
            "images without classes can only be an unlabelled pool"
        )
    if not folders:
        raise UserError(f"{shape}, it has neither class folders nor images")
    if len(folders) == 1 and part == "train":
        raise UserError(f"{shape}, at least two, came only {folders[0].name}/{_inside(folders[0])}")
    listing = Listing(root, tuple(folder.name for folder in folders))
    listing.skipped += [Skipped(path, "not inside a class folder") for path in loose]
    counts = []
    for label, class_folder in enumerate(folders):
        before = len(listing.paths)
        listing.add(class_folder, label)
        counts.append(len(listing.paths) - before)
    if not any(counts):
        raise UserError(f"{folder}: no images in its {len(folders)} class folders")
    if part == "train" and not all(counts):
        empty = [name for name, count in zip(listing.classes, counts, strict=True) if not count]
        raise UserError(f"{folder}: class folders without images: {', '.join(empty)}")
    return listing


def _inside(folder: Path) -> str:
    """A hint for an archive that was unpacked one level too deep."""
    inner = [Path(entry.path) for entry in entries_of(folder) if entry.is_dir()]
    return f" (did you mean {folder}?)" if len(inner) > 1 else ""


def _list_unlabelled(root: Path, folder: Path) -> Listing:
    listing = Listing(root)
    listing.add(folder, UNLABELLED)
    if not listing.paths:
        raise UserError(f"{folder}: no images in it or below it")
    return listing
