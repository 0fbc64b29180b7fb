"""Room on a disk and whether a place can be written: asked before work begins, told when it ends.

Sizes are in bytes, shown with decimal units.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from genkt.types import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = 1 << 16
"""A disk with less than this is full: no writer leaves so little by chance."""


def size_text(num_bytes: float) -> str:
    """Bytes with a decimal unit.

    >>> size_text(1_310_000), size_text(12)
    ('1.31 MB', '12 B')
    """
    for unit, size in (
        ("EB", 1e18),
        ("PB", 1e15),
        ("TB", 1e12),
        ("GB", 1e9),
        ("MB", 1e6),
        ("kB", 1e3),
    ):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def existing_above(path: str | Path) -> Path:
    """The path itself, or the closest place above it that is there."""
    place = Path(os.path.realpath(Path(os.path.expanduser(path))))
    return next(each for each in (place, *place.parents) if os.path.lexists(each))


def free_bytes(path: str | Path) -> int:
    """What is free on the disk that a path lies on, or would lie on."""
    return shutil.disk_usage(existing_above(path)).free


def require_free(path: str | Path, num_bytes: float, what: str) -> int:
    """The free bytes of the disk that a path would lie on.

    Args:
        num_bytes: what is to be written there.  what: it is called so in the message.

    Raises:
        UserError: that is more than is free, with how much is missing.
    """
    free = free_bytes(path)
    if free < num_bytes:
        raise UserError(
            f"{what}: expected {size_text(num_bytes)} free in {existing_above(path)}, got "
            f"{size_text(free)}: {size_text(num_bytes - free)} are missing"
        )
    return free


def require_writable(path: str | Path, num_bytes: float, what: str) -> int:
    """The free bytes of the disk that a folder would lie on.

    Raises:
        UserError: as ``require_free``, or no file can be written there.
    """
    if fault := writing_fault(path):
        raise UserError(f"{path}: cannot be written: {fault}")
    return require_free(path, num_bytes, what)


def writing_fault(folder: str | Path) -> str | None:
    """Why no file can be written into a folder that is there or is to be made; None: it can."""
    above = existing_above(folder)
    if not above.is_dir():
        return f"{above} is a file"
    try:
        # Only trying tells: permissions say nothing of /proc, of a network's disk or of root.
        os.rmdir(tempfile.mkdtemp(prefix=".genkt-", dir=above))
    except OSError as error:
        return f"{above}: {error.strerror}"
    return None


def room_text(path: str | Path) -> str:
    """How much of the disk that a path lies on is free, in words."""
    usage = shutil.disk_usage(existing_above(path))
    return f"{size_text(usage.free)} of {size_text(usage.total)} are free there"


def is_full_fault(error: OSError) -> bool:
    """Whether a write was refused for want of room."""
    return error.errno in _FULL


def disk_is_full(path: str | Path) -> bool:
    """Whether the disk that a path lies on has no room left."""
    return free_bytes(path) < _NO_ROOM


def full_disk(path: str | Path) -> OSError:
    """The error that a disk without room raises for a path."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
