"""Who is at work in a folder: lock files below ``.locks``, each released when its holder dies."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from genkt.types import UserError

LOCKS = ".locks"
"""The folder of the lock files."""

_CLAIM = "claim.lock"
_ATTEMPTS = 1000
_RUNNING = re.compile(r"running-(.*)-(\d+)-(\d+)\.lock")


@contextlib.contextmanager
def claiming(folder: Path) -> Iterator[None]:
    """Hold others off while a folder, made where it is missing, is looked at and taken.

    Raises:
        UserError: the folder cannot be made.
    """
    path, lock, failed = folder / LOCKS / _CLAIM, None, 0
    while lock is None:
        try:
            lock = _locked(path)
        except OSError as error:
            failed += 1
            tidied = isinstance(error, (FileNotFoundError, FileExistsError))  # by another, just now
            if not tidied or failed == _ATTEMPTS:
                raise UserError(f"out={folder}: cannot be created: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
        _tidy(folder)


def _locked(path: Path) -> FileLock | None:
    """The lock of a file that its holder may remove; None where it was: nobody sees this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before, lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), FileLock(path)
    try:
        lock.acquire()
        if _is_at(path, before):
            return lock
        lock.release()
    finally:
        os.close(before)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that has this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def at_work(folder: Path, check: Callable[[], None], *, alone: bool = False) -> Iterator[None]:
    """Be at work in a folder, so that nobody removes it meanwhile.

    Args:
        check: raises UserError where the folder is not to be used; called while others are held
            off.
        alone: allow no other at the same time.

    Raises:
        UserError: as ``check``; another process is at work there.
    """
    with claiming(folder):
        check()
        if alone:
            refuse_at_work(folder)
        name = f"running-{platform.node()}-{os.getpid()}-{time.time_ns() // 1_000_000}.lock"
        lock = FileLock(folder / LOCKS / name)
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        _tidy(folder)


def refuse_at_work(folder: Path) -> None:
    """Raise UserError where a process is at work in a folder; who it is, and since when."""
    if who := who_is_at_work(folder):
        raise UserError(f"out={folder}: {who} is at work there; wait for it, or give another out=")


def who_is_at_work(folder: Path) -> str | None:
    """A process that is at work in a folder, and since when; None: nobody is."""
    for path in sorted((folder / LOCKS).glob("*.lock"), reverse=True):  # "running" says most
        running = _RUNNING.fullmatch(path.name)
        if path.name == _CLAIM or not _is_held(path):
            if running:
                path.unlink(missing_ok=True)  # of a process that was killed
            continue
        if running is None:
            return f"another process ({path.stem})"
        host, process, since = running.groups()
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(since) / 1000))
        place = "" if host == platform.node() else f" on {host}"
        return f"process {process}{place} (since {when})"
    return None


def end_of_locks(folder: Path) -> None:
    """Remove the lock files that nobody holds."""
    for path in (folder / LOCKS).glob("*.lock"):
        if not _is_held(path):
            path.unlink(missing_ok=True)
    _tidy(folder)


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _tidy(folder: Path) -> None:
    with contextlib.suppress(OSError):  # others hold locks there
        (folder / LOCKS).rmdir()
