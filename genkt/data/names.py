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


def on_disk(root: Path, path: str, known: dict[str, dict[str, str]]) -> str:
    """A relative path as the disk spells it, where only the Unicode form differs; else as it is.

    Args:
        known: folder -> canonical name -> name, of the folders that were listed for this.
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
    """The names in a folder; none where it cannot be listed, which whoever reads it tells."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
