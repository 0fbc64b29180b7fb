"""Names that systems write in different ways: of classes, and of files on disk."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from pathlib import Path


def canonical(name: str) -> str:
    """A name as genkt compares and shows it: in Unicode's form NFC.

    Copies by macOS carry names in NFD, where an accent is a character of its own, so that one
    class has two spellings that look the same.

    >>> canonical("A\\u0308pfel") == "\\u00c4pfel"
    True
    """
    return unicodedata.normalize("NFC", name)


def on_disk(root: Path, path: str) -> str:
    """A relative path as the disk spells it, where only the Unicode form differs; else as it is."""
    if path.isascii() or os.path.lexists(root / path):
        return path
    found = ""
    for part in path.split("/"):
        folder = root / found
        if os.path.lexists(folder / part):
            name = part
        else:
            names = os.listdir(folder) if folder.is_dir() and os.access(folder, os.R_OK) else []
            name = next((each for each in names if canonical(each) == canonical(part)), "")
        if not name:
            return path
        found = posixpath.join(found, name)
    return found
