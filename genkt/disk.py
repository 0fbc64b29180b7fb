"""Places to write: whether they can be, how much room there is, and what refused one is told as.

Sizes are in bytes, shown with decimal units.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from genkt.types import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_TRIES = 100
PROBE = ".genkt-probe"
"""The folder that is made for a moment to see whether a place can be written."""
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
        raise UserError.of(
            what,
            f"{size_text(num_bytes)} free in {existing_above(path)}",
            f"{size_text(free)}: {size_text(num_bytes - free)} are missing",
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
        probe = above / PROBE
        with contextlib.suppress(FileExistsError):  # of a killed process, or of one at this moment
            probe.mkdir()
        with contextlib.suppress(FileNotFoundError):
            probe.rmdir()
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


def full_disk(path: str | Path, num_bytes: float = 0) -> OSError:
    """The error that a disk without room raises for a path.

    Args:
        num_bytes: what was to be written, as far as that is known.
    """
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    error.num_bytes = num_bytes  # type: ignore[attr-defined]
    return error


def make_folder(path: str | Path) -> Path:
    """The folder, made with all above it where it is not there.

    Raises:
        UserError: it cannot be made, with the reason.
    """
    path = Path(path)
    for _ in range(_MOST_TRIES):
        try:
            path.mkdir(parents=True, exist_ok=True)
            return path
        except FileNotFoundError as error:  # another process has just removed what lies above
            fault, reason = writing_fault(path), error.strerror
            if fault is not None:
                break
        except OSError as error:
            if is_full_fault(error):
                raise
            fault, reason = writing_fault(path), error.strerror
            break
    raise UserError(f"{path}: cannot be made: {fault or reason}{_cache_hint(path)}")


def output_file(path: str | Path) -> Path:
    """The path of a file that is to be written at the end: checked before the work begins.

    Raises:
        UserError: it is a folder, or no file can be written there.
    """
    path = Path(os.path.expanduser(path))
    if not is_special(Path(os.path.realpath(path))) and (fault := writing_fault(path.parent)):
        raise UserError(f"output={path}: cannot be written: {fault}")
    return path


def explained(error: OSError) -> str:
    """One line on a refused read or write: the place, the reason, and how much room there is."""
    named = error.filename2 or error.filename  # of two: where something was to go
    if not isinstance(named, (str, bytes)):
        return str(error.strerror)
    place = os.fsdecode(named)
    if is_full_fault(error):
        told = f"{error.strerror}: {room_text(place)}{_missing_text(error, place)}"
        return f"{place}: {told}; make room, then repeat the command{_cache_hint(place)}"
    return f"{place}: {error.strerror}{_cache_hint(place)}"


def _missing_text(error: OSError, place: str) -> str:
    """How much the refused write needed, where it said so."""
    needed = getattr(error, "num_bytes", 0)
    if not needed:
        return ""
    missing = needed - free_bytes(place)
    told = f", {size_text(missing)} are missing" if missing > 0 else ""
    return f"; {size_text(needed)} were to be written{told}"


def _cache_hint(path: str | Path) -> str:
    """What to type where the cache's place is no good."""
    try:
        inside = Path(path).is_relative_to(cache_home())
    except UserError:  # there is no place for a cache
        return ""
    if not inside:
        return ""
    return "; cache=FOLDER or the environment variable GENKT_CACHE gives the cache another place"


@contextlib.contextmanager
def naming_place(
    path: str | Path, temporary: str | Path = "", num_bytes: float = 0
) -> Iterator[None]:
    """Errors of writing name the user's path; a full disk is told as such by every library.

    Args:
        temporary: what is written in the place of ``path``.
        num_bytes: how much is to be written, as far as that is known.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and disk_is_full(path):  # NumPy counts what it could not write
            raise full_disk(path, num_bytes) from error
        unnamed = error.filename is None and is_full_fault(error)
        if unnamed or str(error.filename) == str(temporary):
            error.filename = str(path)
        if is_full_fault(error) and not getattr(error, "num_bytes", 0):
            error.num_bytes = num_bytes  # type: ignore[attr-defined]
        raise
    except UserError:
        raise
    except Exception as error:  # safetensors and torch have errors of their own for a full disk
        if disk_is_full(path):
            raise full_disk(path, num_bytes) from error
        raise


def is_special(target: Path) -> bool:
    """Whether a path is there and is neither a file nor a folder."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        what = "folder" if stat.S_ISDIR(mode) else "socket"
        raise UserError(f"{target}: expected a file to write, it is a {what}")
    return not stat.S_ISREG(mode)


def cache_home() -> Path:
    """Folder of caches: ``$GENKT_CACHE``, ``$XDG_CACHE_HOME/genkt`` or ``~/.cache/genkt``."""
    if value := os.environ.get("GENKT_CACHE"):
        return Path(value)
    if value := os.environ.get("XDG_CACHE_HOME"):
        return Path(value) / "genkt"
    try:
        return Path.home() / ".cache" / "genkt"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users
        raise UserError(
            "cache: expected a home folder to keep it in, found none; set GENKT_CACHE or HOME"
        ) from error
