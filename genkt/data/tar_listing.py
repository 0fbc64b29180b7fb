"""What lies in a tar and where: its headers are read, its images are not, nothing is extracted.

A sample of WebDataset is the members of one key (their name up to the first dot); each image among
them is a sample here, and a ``.cls`` or ``.json`` member of the key names its class.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from genkt.data.file_index import (
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
from genkt.data.listing import looks_like_image
from genkt.data.names import canonical
from genkt.data.system_files import is_system_path
from genkt.types import UserError

BESIDE = "a system file"
"""Reason of a note on an image that lies beside the pictures, and is no damage."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}


@dataclass
class TarListing:
    """The images of one tar in the order in which they lie there, and what is left out.

    Args:
        facts: [1, 4] of the tar when it was listed (``file_facts``).
        names: N member names.
        offsets, sizes: [N] where the bytes of each are.
        classes: N class names, "" where the tar has none.
        hashes: N content hashes, "" where it is not known (yet).
        notes: (member, reason) of what can be no image, or no class of one.
    """

    facts: NDArray[np.int64]
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def num_damaged(self) -> int:
        """Notes on members that are not only system files."""
        return sum(reason != BESIDE for _, reason in self.notes)


def list_tar(path: str) -> TarListing:
    """The listing of a tar, from its index where the tar is as it was, else from its headers.

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
    classes: dict[str, str] = {}
    keys: list[str] = []
    for member in _members(path, stream):
        name = posixpath.normpath(member.name)
        folder, base = posixpath.split(name)
        stem, _, extension = base.partition(".")
        is_class = extension.lower() in ("cls", "json")
        is_class = is_class and not base.startswith(".")
        if not (is_class or looks_like_image(base)) or member.isdir():
            continue
        key = posixpath.join(folder, stem)
        if reason := _refusal(member, name):
            if base.startswith("."):
                continue
            listing.notes.append((ascii(member.name)[1:-1], reason))
        elif is_class:
            data = os.pread(stream.fileno(), member.size, member.offset_data)
            try:
                found = _class_of(data, extension.lower())
            except (ValueError, RecursionError):
                listing.notes.append((name, "names no class: damaged"))
                continue
            # .cls is the plainer one, whichever comes first
            if found and (extension.lower() == "cls" or key not in classes):
                classes[key] = found
        else:
            keys.append(key)
            listing.names.append(name)
            listing.offsets.append(member.offset_data)
            listing.sizes.append(member.size)
    listing.classes = [classes.get(key, "") for key in keys]
    listing.hashes = [""] * len(keys)
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
    )


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
                    f"{path}: cut off at byte {size}, {member.name!a} goes on to byte {end}"
                )
            at = tar.offset
            yield member
        at = tar.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: no tar, or damaged at byte {at}: {error}") from error
    _check_end(path, stream, at, size)


def _check_end(path: str, stream: BinaryIO, at: int, size: int) -> None:
    """After the last member come zeros to the end; ``tarfile`` takes anything for the end."""
    if at >= size:
        raise UserError(f"{path}: cut off at byte {size}, a tar ends in a block of zeros")
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
        return "a link or special member, no plain file"
    if name.encode(errors="replace").decode() != name:
        return "name is not UTF-8"
    if name.startswith("/") or name.split("/")[0] == ".." or "\0" in name:
        return "name leads out of the tar"
    return ""


def _class_of(data: bytes, extension: str) -> str:
    """The class that a ``.cls`` or ``.json`` member names, "" for none.

    Raises:
        ValueError: it is neither text nor JSON.
        RecursionError: JSON that is nested without end.
    """
    if extension == "cls":
        return _class_name(data.decode().strip())
    value = json.loads(data)
    if not isinstance(value, dict):
        return ""
    return _class_name(value.get("class")) or _class_name(value.get("label"))


def _class_name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value in ("-1", -1):
        return ""
    name = str(value).replace("\0", "")
    name.encode()  # JSON may hold halves of characters, which no file can
    return canonical(name)


def write_listing(path: str, listing: TarListing) -> None:
    """Keep a listing for the next start, if the tar is still what was listed."""
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
    }
    write_columns(index_of("tar", path), columns)


def _read_listing(path: str) -> TarListing | None:
    columns = read_columns(index_of("tar", path))
    if columns is None or (columns["facts"] != file_facts([path])).any():
        return None
    return TarListing(
        facts=columns["facts"],
        names=unpack(columns["names"]),
        offsets=columns["offsets"].tolist(),
        sizes=columns["sizes"].tolist(),
        classes=unpack(columns["classes"]),
        hashes=unpack_hashes(columns["hashes"]),
        notes=list(zip(unpack(columns["noted"]), unpack(columns["reasons"]), strict=True)),
    )
