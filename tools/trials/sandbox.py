"""Mounts that only this process sees: nothing outside a trial's folder can be written.

All of it needs rights that a container's root often has and a user has not; ``isolate`` says
whether it works, and without it trials run unconfined.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEW_MOUNTS, _BIND, _REMOUNT, _READ_ONLY, _RECURSIVE, _PRIVATE = (
    0x20000, 0x1000, 0x20, 0x1, 0x4000, 1 << 18,
)  # fmt: skip
_LIBC = ctypes.CDLL(None, use_errno=True)
SHARED_MEMORY = Path("/dev/shm")


def isolate() -> bool:
    """Give this process mounts and shared memory of its own; False where that is not allowed."""
    try:
        _own_mounts()
        mount_tmpfs(SHARED_MEMORY, "")
    except OSError:
        return False
    return True


def confine(work: Path) -> None:
    """From here on this process and its children can write below ``work`` alone."""
    _own_mounts()
    _mount(str(work), str(work), "", _BIND | _RECURSIVE)
    _mount("none", "/", "", _REMOUNT | _BIND | _READ_ONLY)


def mount_tmpfs(place: Path, options: str) -> None:
    """A new file system in memory at ``place``; options as ``size=65536``."""
    _mount("tmpfs", str(place), "tmpfs", 0, options)


def resize_tmpfs(place: Path, options: str) -> None:
    """Give a ``mount_tmpfs`` other options."""
    _mount("tmpfs", str(place), "tmpfs", _REMOUNT, options)


def unmount(place: Path) -> None:
    """Take it away, at the latest when nobody uses it any more."""
    _check(_LIBC.umount2(str(place).encode(), 2))


def _own_mounts() -> None:
    _check(_LIBC.unshare(_NEW_MOUNTS))
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)


def _mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    _check(
        _LIBC.mount(
            source.encode(), place.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
        )
    )


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
