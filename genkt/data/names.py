"""Names of classes and of files on disk, which different systems write differently."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from pathlib import Path


def canonical(name: str) -> str:
    """A name as genkt compares and shows it: in Unicode's form NFC.

    macOS writes names in NFD, where an accent is a character of its own. So one class can have two
    spellings that look the same.

    >>> canonical("A\\u0308pfel") == "\\u00c4pfel"
    True
    """
    return unicodedata.normalize("NFC", name)


def on_disk(root: Path, path: str, known: dict[str, dict[str, str]]) -> str:
    """A relative path as spelled on disk, if only the Unicode form differs; else unchanged.

    Args:
        known: folder -> canonical name -> name, for the folders listed so far.
    """
    if path.isascii() or os.path.lexists(root / path):
        return path
    found = ""
    for part in path.split("/"):
        if not os.path.lexists(root / found / part):
            if found not in known:
                known[found] = {canonical(name): name for name in _names_in(root / found)}
            part = known[found].get(canonical(part), "")
        if not part:
            return path
        found = posixpath.join(found, part)
    return found


def _names_in(folder: Path) -> list[str]:
    """The names in a folder; none if it cannot be listed (the reader reports that)."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
