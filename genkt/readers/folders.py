"""Image folders in common layouts; every file is checked when it is read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from genkt.data.images import ImageSet, Skipped, concat
from genkt.data.names import canonical
from genkt.data.pictures.formats import looks_like_image
from genkt.data.separation import finished
from genkt.data.splits import Splits, check_classes
from genkt.readers.grouping import group_by_path
from genkt.readers.listing import (
    InFull,
    Listing,
    check_usable,
    decodes,
    entries_of,
    existing_folder,
    holds_images,
    scan,
)
from genkt.readers.scan import as_list, check_skipped
from genkt.readers.system_files import SystemFiles
from genkt.readers.unlabelled import UnlabelledPlaces
from genkt.types import UNLABELLED, UserError, counted

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
    """Read ``root/{train,val|validation|valid|test}/class/*`` or ``root/class/*``.

    Split folders may be capitalised, and called ``training`` and ``testing`` too. Class folders
    are searched to any depth, files whose suffix is no image's are ignored, links are followed,
    and ``root/unlabelled`` becomes the unlabelled part. Every image is hashed and checked once
    (again only when its file has changed): header and end show whether a JPEG, PNG or WebP is
    whole, others are decoded. Unusable ones are listed in ``Splits.skipped``. So are the images in
    hidden and system folders, counted by kind (``system_files``). No picture is in two parts: see
    ``separation.separated``.

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
        unlabelled: more folders of unlabelled images. Files of the parts of ``root``, and repeated
        files, are left out of them.
        group: a regular expression whose brackets hold an image's group, in its path relative to
        the root (or to its folder of unlabelled images); a group stays on one side of every split.
        test_fraction, validation_fraction: shares of train that become a missing part, stratified
        (test only if both are missing); 0 for none.
        seed: of that split.
        max_skipped: limit of unusable images: a number, or a share (float, rounded up).
        in_full: decode every image that no earlier reading decoded, so that one that is damaged
            inside is left out too; "labelled": all but the unlabelled ones, as runs do it. Else
            ``load`` refuses it by its name.
        num_threads: reading threads, by default up to 8.
        progress: False shows no progress.

    Raises:
        UserError: a folder that is missing or has another layout, parts with different classes, a
        training class without images, more unusable images than allowed.
    """
    root = existing_folder(root)
    listings, others = _list_parts(root)
    places = _more_unlabelled(unlabelled, listings)
    every = [*listings.values(), *places.listings]
    ungrouped = [] if group is None else group_by_path(every, group)
    total = sum(len(listing.paths) + len(listing.skipped) for listing in listings.values())
    parts = {
        name: scan(
            listing, f"{root.name} {name}", num_threads, progress, in_full=decodes(in_full, name)
        )
        for name, listing in listings.items()
    }
    skipped = [entry for part in parts.values() for entry in part.skipped]
    check_skipped(skipped, total, max_skipped, str(root))
    check_usable(parts, str(root))
    if places.listings:
        whole = decodes(in_full, "unlabelled")
        more = _scan_unlabelled(places.listings, max_skipped, num_threads, progress, whole)
        pool = parts.get("unlabelled")
        if pool is not None or len(more):
            parts["unlabelled"] = more if pool is None else concat(pool, more)
        others += more.skipped
    parts["train"] = parts["train"].with_skipped(others)
    notes = [note for listing in listings.values() for note in listing.notes]
    return finished(
        Splits(**parts, notes=(*notes, *places.notes, *ungrouped)),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def read_classes(root: str | Path) -> ImageSet:
    """The training images of such a folder, or all if it has no parts; nothing is split off.

    Every image is decoded once.

    Raises:
        UserError: as ``read_folder``.
    """
    splits = read_folder(root, test_fraction=0.0, validation_fraction=0.0, in_full=True)
    notes = [Skipped(str(root), note.rstrip("."), is_damage=False) for note in splits.notes]
    return splits.train.with_skipped(notes)


def read_unlabelled(
    folders: str | Path | Sequence[str | Path],
    *,
    max_skipped: int | float = 0.05,
    in_full: bool = False,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """Read every image below one folder or several, without labels and without classes.

    Args:
        folders: one folder or a list; ids are relative to the folder that holds the image.
        max_skipped, in_full, num_threads, progress: as for ``read_folder``.

    Raises:
        UserError: no folder, a folder that is missing, has no image or is inside another one, or
        more unusable images than allowed.
    """
    given = as_list(folders)
    if not given:
        raise UserError("expected at least one folder of unlabelled images, got an empty list")
    roots = [existing_folder(folder) for folder in given]
    for number, one in enumerate(roots):
        for other in roots[:number]:
            inner, outer = sorted((one.resolve(), other.resolve()), reverse=True)
            if inner.is_relative_to(outer):
                raise UserError(
                    f"{inner} is inside {outer}, so its images would count twice: give one"
                )
    listings = [_list_unlabelled(root, root) for root in roots]
    return _scan_unlabelled(listings, max_skipped, num_threads, progress, in_full)


def _scan_unlabelled(
    listings: Sequence[Listing],
    max_skipped: int | float,
    num_threads: int | None,
    progress: bool | None,
    in_full: bool,
) -> ImageSet:
    roots = [listing.root for listing in listings]
    total = sum(len(listing.paths) + len(listing.skipped) for listing in listings)
    images = concat(
        *[scan(each, each.root.name, num_threads, progress, in_full=in_full) for each in listings]
    )
    place = str(roots[0]) if len(roots) == 1 else f"{roots[0]} and {len(roots) - 1} more"
    check_skipped(images.skipped, total, max_skipped, place)
    if total and not len(images):
        raise UserError(f"{place}: no usable image")
    return images


def _more_unlabelled(
    folders: Sequence[str | Path], listings: Mapping[str, Listing]
) -> UnlabelledPlaces:
    """Folders given besides the root; files that are already in the root's pool count once."""
    if not folders:
        return UnlabelledPlaces({})
    labelled = {name: [each] for name, each in listings.items() if name != "unlabelled"}
    places = UnlabelledPlaces.beside(labelled)
    if pool := listings.get("unlabelled"):
        places.know(pool)
    for folder in folders:
        path = existing_folder(folder)
        places.add(_list_unlabelled(path, path), folder)
    return places


def _list_parts(root: Path) -> tuple[dict[str, Listing], list[Skipped]]:
    """Find the layout: listings by part name, and folders that are not a part."""
    beside = SystemFiles()
    folders = [Path(entry.path) for entry in entries_of(root, beside) if entry.is_dir()]
    known: dict[str, Path] = {}
    for folder in folders:
        part = _SPLIT_FOLDERS.get(folder.name.lower())
        if part in known:
            raise UserError(
                f"{root}: expected one of {known[part].name}/ and {folder.name}/, got both"
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
        notes = [*_notes_on_others(root, others), *beside.entries()]
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
        reason = "folder beside train/ that is not a known part"
        notes.append(Skipped(f"{folder}/", reason, is_damage=False))
    return notes


def _list_classes(root: Path, folder: Path, part: str, without: Path | None = None) -> Listing:
    listing = Listing(root)
    entries = entries_of(folder, listing.beside)
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    if without in folders:
        folders.remove(without)
    loose = [entry.path for entry in entries if entry.is_file() and looks_like_image(entry.name)]
    shape = f"{folder}: expected one folder of images for each class"
    if not folders and loose:
        raise UserError(
            f"{shape}, got {len(loose)} images directly in it; "
            "images without classes can only be an unlabelled pool"
        )
    if not folders:
        raise UserError(f"{shape}, got neither class folders nor images{_aside(listing)}")
    spellings: dict[str, list[Path]] = {}
    for class_folder in folders:
        spellings.setdefault(canonical(class_folder.name), []).append(class_folder)
    if len(spellings) == 1 and part == "train":
        only = f"{folders[0].name}/{_inside(folders[0])}"
        raise UserError(f"{shape}, at least two, got only {only}{_aside(listing)}")
    listing.classes = tuple(sorted(spellings))
    listing.skipped += [Skipped(path, "not inside a class folder") for path in loose]
    counts = []
    for label, name in enumerate(listing.classes):
        before = len(listing.paths)
        for class_folder in spellings[name]:
            listing.add(class_folder, label)
        counts.append(len(listing.paths) - before)
        if len(spellings[name]) > 1:
            listing.notes.append(
                f"{folder}: {len(spellings[name])} folders are read as the one class {name}: their "
                "names differ only in how Unicode writes them."
            )
    if not any(counts):
        raise UserError(
            f"{folder}: no images in its {counted(len(folders), 'class folder')}{_aside(listing)}"
        )
    if part == "train" and not all(counts):
        empty = [name for name, count in zip(listing.classes, counts, strict=True) if not count]
        raise UserError(
            f"{folder}: class folders without images: {', '.join(empty)}{_aside(listing)}"
        )
    return listing


def _aside(listing: Listing) -> str:
    """A note on files left out that the user may have meant as pictures of the data."""
    return "".join(f"; {entry.path}: {entry.reason}" for entry in listing.beside.entries())


def _inside(folder: Path) -> str:
    """A hint for an archive that was unpacked one level too deep."""
    inner = [Path(entry.path) for entry in entries_of(folder) if entry.is_dir()]
    return f" (did you mean {folder}?)" if len(inner) > 1 else ""


def _list_unlabelled(root: Path, folder: Path) -> Listing:
    listing = Listing(root)
    listing.add(folder, UNLABELLED)
    if not listing.paths:
        raise UserError(f"{folder}: no images in it or below it{_aside(listing)}")
    return listing
