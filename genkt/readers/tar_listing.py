"""Lists the members of a tar from their headers; no image is read, nothing is extracted.

Each image is a sample. A ``.cls`` or ``.json`` member names the class of all images whose name
starts with its own: ``a.cls`` is for ``a.jpg`` and ``a.left.jpg``, ``a.0.cls`` for ``a.0.jpg``,
``a.jpg.json`` for ``a.jpg``. The longest match wins. So a WebDataset sample (its key is the name up
to the first dot) stays together, and names with dots can have their own labels.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from genkt.data.class_names import class_in, class_name
from genkt.data.pictures.formats import looks_like_image
from genkt.data.tables import decode_text
from genkt.readers.file_index import (
    WORTH,
    file_facts,
    index_of,
    pack,
    pack_hashes,
    read_columns,
    unpack,
    unpack_hashes,
    write_columns,
)
from genkt.readers.system_files import is_system_path
from genkt.types import UserError

RULES = 3
"""Version of the rules for classes; a listing under other rules is made again."""

BESIDE = "a system file"
"""Reason of a note on a system file, which does not count as damage."""

_LABELS = (".cls", ".json")
_UNREAD_LABEL = re.compile(r"\.(class|classes|category|index|label|labels|target|cls\.\w+)$", re.I)
"""Members that hold classes in some tars but are not read."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}


@dataclass
class TarListing:
    """The images of one tar in their order there, and what is left out.

    Args:
        facts: [1, 4] of the tar when it was listed (``file_facts``).
        names: N member names.
        offsets, sizes: [N] where the bytes of each are.
        classes: N class names, "" where the tar has none.
        hashes: N content hashes, "" where it is not known (yet).
        notes: (member, reason) of members that cannot be an image or a class.
        remarks: (member, reason) of classes that are not used; the images are.
    """

    facts: NDArray[np.int64]
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def num_damaged(self) -> int:
        """Notes on members that are not only system files."""
        return sum(reason != BESIDE for _, reason in self.notes)


def list_tar(path: str) -> TarListing:
    """The listing of a tar: from its index if the tar is unchanged, else from its headers.

    Raises:
        UserError: a tar that is missing, compressed, damaged or cut off.
    """
    known = _read_listing(path)
    if known is not None:
        return without_system_files(known)
    try:
        facts = file_facts([path])
        with open(path, "rb") as stream:
            return without_system_files(_listed(path, stream, TarListing(facts)))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _listed(path: str, stream: BinaryIO, listing: TarListing) -> TarListing:
    labels = _Labels()
    unread: list[str] = []
    for member in _members(path, stream):
        name = posixpath.normpath(member.name)
        base = posixpath.basename(name)
        if _UNREAD_LABEL.search(base) and member.isreg():
            unread.append(name)
        kind = posixpath.splitext(name)[1]
        is_label = kind.lower() in _LABELS and not base.startswith(".")
        if not (is_label or looks_like_image(base)) or member.isdir():
            continue
        if reason := _refusal(member, name):
            if base.startswith("."):
                continue
            listing.notes.append((ascii(member.name)[1:-1], reason))
        elif is_label:
            data = os.pread(stream.fileno(), member.size, member.offset_data)
            try:
                labels.add(name, _class_of(data, kind.lower()))
            except UnicodeDecodeError:
                listing.notes.append((name, "names no class: not UTF-8 text"))
            except (json.JSONDecodeError, UnicodeError, RecursionError):
                listing.notes.append((name, "names no class: damaged"))
            except ValueError as error:
                labels.add(name, "", str(error))
        else:
            listing.names.append(name)
            listing.offsets.append(member.offset_data)
            listing.sizes.append(member.size)
    listing.classes = labels.of(listing.names)
    listing.remarks = labels.remarks
    if not any(listing.classes):
        why = "not read as a class: classes must be in .cls or .json members"
        listing.remarks += [(name, why) for name in unread]
    listing.hashes = [""] * len(listing.names)
    return listing


def without_system_files(listing: TarListing) -> TarListing:
    """The listing whose system files (``system_files``) are notes with ``BESIDE`` as reason."""
    inside = [is_system_path(name) for name in listing.names]
    if not any(inside):
        return listing
    moved = [(name, BESIDE) for name, out in zip(listing.names, inside, strict=True) if out]
    kept = [row for row, out in enumerate(inside) if not out]
    return TarListing(
        listing.facts,
        names=[listing.names[row] for row in kept],
        offsets=[listing.offsets[row] for row in kept],
        sizes=[listing.sizes[row] for row in kept],
        classes=[listing.classes[row] for row in kept],
        hashes=[listing.hashes[row] for row in kept],
        notes=[*listing.notes, *moved],
        remarks=listing.remarks,
    )


@dataclass(frozen=True)
class _Label:
    """The class that a member names, or "" and perhaps the reason why there is none."""

    member: str
    name: str
    reason: str = ""


class _Labels:
    """The labels of a tar, by the member's name without its extension."""

    def __init__(self) -> None:
        self.remarks: list[tuple[str, str]] = []
        self._named: dict[str, dict[str, _Label]] = {kind: {} for kind in _LABELS}

    def add(self, member: str, name: str, reason: str = "") -> None:
        """Store the class of a member; a later member of the same name replaces it."""
        stem, kind = posixpath.splitext(member)
        named = self._named[kind.lower()]
        if stem in named and named[stem].name != name:
            self.remarks.append(
                (member, "a second member of this name names another class, which is used")
            )
        named[stem] = _Label(member, name, reason)

    def of(self, images: Sequence[str]) -> list[str]:
        """The class of each image, "" for none."""
        used: set[_Label] = set()
        lost: dict[_Label, None] = {}
        found = [self._nearest(image, used, lost) for image in images]
        self.remarks += [(label.member, label.reason) for label in lost if label.reason]
        for kind, named in self._named.items():
            for label in named.values():
                if label not in used and (label.name or kind == ".cls"):
                    self.remarks.append((label.member, "names a class, but no image matches"))
        return found

    def _nearest(self, image: str, used: set[_Label], lost: dict[_Label, None]) -> str:
        folder, base = posixpath.split(image)
        met: list[_Label] = []
        while base:
            stem = posixpath.join(folder, base)  # .cls is the plainer one, and looked at first
            here = [named[stem] for named in self._named.values() if stem in named]
            used.update(here)
            if name := next((label.name for label in here if label.name), ""):
                return name
            met += here
            base = base.rpartition(".")[0]
        lost.update(dict.fromkeys(met))
        return ""


def _members(path: str, stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Every member of a whole tar, in order."""
    size = os.fstat(stream.fileno()).st_size
    start = os.pread(stream.fileno(), 2, 0)
    if start in _COMPRESSED:
        raise UserError(
            f"{path}: compressed ({_COMPRESSED[start]}), so its images cannot be read one by one: "
            "unpack it to a plain .tar"
        )
    at = 0
    try:
        tar = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape")
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            end = member.offset_data + (member.size if member.isreg() else 0)
            if end > size:
                raise UserError(
                    f"{path}: cut off at byte {size}, but {member.name!a} ends at byte {end}"
                )
            at = tar.offset
            yield member
        at = tar.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a tar, or damaged at byte {at}: {error}") from error
    _check_end(path, stream, at, size)


def _check_end(path: str, stream: BinaryIO, at: int, size: int) -> None:
    """Check that only zeros follow the last member; ``tarfile`` accepts anything there."""
    if at >= size:
        raise UserError(f"{path}: cut off at byte {size}, expected a block of zeros at the end")
    while data := os.pread(stream.fileno(), 1 << 20, at):
        if data.strip(b"\0"):
            at += len(data) - len(data.lstrip(b"\0"))
            raise UserError(
                f"{path}: damaged at byte {at}, expected a member or the end of the tar"
            )
        at += len(data)


def _refusal(member: tarfile.TarInfo, name: str) -> str:
    """Why a member cannot be an image, or ""."""
    if not member.isreg() or member.issparse():
        return "a link or special member, not a plain file"
    if name.encode(errors="replace").decode() != name:
        return "name is not UTF-8"
    if name.startswith("/") or name.split("/")[0] == ".." or "\0" in name:
        return "name leads out of the tar"
    return ""


def _class_of(data: bytes, extension: str) -> str:
    """The class that a ``.cls`` or ``.json`` member names, "" for none.

    Raises:
        ValueError: the member does not name exactly one class; a UnicodeError or JSONDecodeError if
        it is neither text nor JSON.
        RecursionError: JSON that is nested without end.
    """
    if extension == ".cls":
        return class_name(decode_text(data))
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("expected keys such as class or label, got no table of keys")
    return class_in(value)


def write_listing(path: str, listing: TarListing) -> None:
    """Save a listing for the next start, if the tar has not changed since."""
    if len(listing.names) < WORTH or (file_facts([path]) != listing.facts).any():
        return
    columns: dict[str, NDArray[Any]] = {
        "facts": listing.facts,
        "names": pack(listing.names),
        "offsets": np.array(listing.offsets, np.int64),
        "sizes": np.array(listing.sizes, np.int64),
        "classes": pack(listing.classes),
        "hashes": pack_hashes(listing.hashes),
        "noted": pack([name for name, _ in listing.notes]),
        "reasons": pack([reason for _, reason in listing.notes]),
        "remarked": pack([name for name, _ in listing.remarks]),
        "remarks": pack([reason for _, reason in listing.remarks]),
        "rules": np.array([RULES]),
    }
    write_columns(index_of("tar", path), columns)


def _read_listing(path: str) -> TarListing | None:
    columns = read_columns(index_of("tar", path))
    if columns is None or (columns["facts"] != file_facts([path])).any():
        return None
    if "rules" not in columns or columns["rules"].tolist() != [RULES]:
        return None
    return TarListing(
        facts=columns["facts"],
        names=unpack(columns["names"]),
        offsets=columns["offsets"].tolist(),
        sizes=columns["sizes"].tolist(),
        classes=unpack(columns["classes"]),
        hashes=unpack_hashes(columns["hashes"]),
        notes=list(zip(unpack(columns["noted"]), unpack(columns["reasons"]), strict=True)),
        remarks=list(zip(unpack(columns["remarked"]), unpack(columns["remarks"]), strict=True)),
    )
