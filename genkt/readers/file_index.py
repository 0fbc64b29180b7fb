"""An index of image files from earlier starts, so that unchanged files are not read again.

There is one small file per folder (or tar) under the cache home, written in one step. Nothing
depends on it. A file is identified by its size, times and inode. A loaded picture is always
compared with its content hash. An index that is damaged, lost or cannot be written only costs time.
Unusable files are not in it, so they are tried again. After a change in decoding, all files are
read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from genkt.data.images import UnreadableImage, content_hash, decode
from genkt.data.looks import look_of
from genkt.data.pictures.decode import DECODING
from genkt.data.pictures.ends import is_whole
from genkt.disk import cache_home
from genkt.io import atomic_path, clear_dead_temporaries, fingerprint
from genkt.readers.scan import map_in_threads
from genkt.types import UserError

logger = logging.getLogger(__name__)

FORMAT = 1
WORTH = 64
"""With fewer new images than this, reading them again is quicker than saving an index."""

_SAVE_EVERY = 20_000
_NO_HASH = "0" * 16
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Examined(NamedTuple):
    """What is known of an image file.

    Args:
        digest: content hash; "" if it cannot be used.  reason: why not.
        look: see ``genkt.data.looks``; 0 if it was not asked for.
    """

    digest: str = ""
    reason: str = ""
    look: int = 0


def examine_files(
    root: Path,
    paths: Sequence[str],
    *,
    description: str,
    looks: bool = False,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> list[Examined]:
    """What is known of each image file, from the index or from the file itself.

    Args:
        root: the folder of the files; it has one index.
        paths: relative to it.
        looks: what the pictures look like is asked for too.
        description, num_threads, progress: of the reading, see ``map_in_threads``.
    """
    files = _below(root, paths)
    facts = file_facts(files)
    found = _known(root, paths, facts)
    unknown = [
        row for row, each in enumerate(found) if not each.digest or (looks and not each.look)
    ]
    if not unknown:
        return found
    results = map_in_threads(
        partial(examine_file, look=looks),
        [files[row] for row in unknown],
        description=description,
        num_threads=num_threads,
        progress=progress,
    )
    save_every = max(_SAVE_EVERY, len(paths) // 8)  # as a save writes the whole index
    fresh: dict[int, Examined] = {}
    try:
        for row, result in zip(unknown, results, strict=True):
            found[row] = result
            if result.digest:
                fresh[row] = result
            if len(fresh) >= save_every:
                _remember(root, paths, facts, fresh)
                fresh = {}
    finally:
        _remember(root, paths, facts, fresh)
    return found


def examine_file(path: str | Path, look: bool = False) -> Examined:
    """What an image file holds.

    Args:
        look: decode it to note its look; else it is decoded only where header and end do not show
            that it is whole.
    """
    try:
        data = _read(path)
    except OSError as error:
        return Examined(reason=error.strerror or "cannot be read")
    return Examined(reason="not a regular file") if data is None else _examined(data, look)


def _read(path: str | Path) -> bytes | None:
    """All bytes of a regular file, in few system calls; None for another thing.

    A named pipe would block for ever: hence the flag, which means nothing to a regular file.
    """
    handle = os.open(path, _READING)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            return None
        data = os.read(handle, facts.st_size)
        while len(data) < facts.st_size and (more := os.read(handle, facts.st_size - len(data))):
            data += more  # one read gives at most 2 GB
        return data
    finally:
        os.close(handle)


def _below(root: Path, paths: Iterable[str]) -> list[str]:
    """The files of a folder, joined in a quarter of the time of ``os.path.join``."""
    start = os.path.join(root, "")
    return [start + path for path in paths]


def examine_bytes(data: bytes) -> tuple[str, str]:
    """(content hash, "") of an encoded image that decodes, ("", reason) of another."""
    return _examined(data, look=False)[:2]


def _examined(data: bytes, look: bool) -> Examined:
    if not look and is_whole(data):
        return Examined(content_hash(data))
    try:
        picture = decode(data)
    except UnreadableImage as error:
        return Examined(reason=str(error))
    return Examined(content_hash(data), "", look_of(picture) if look else 0)


def file_facts(paths: Iterable[Path | str]) -> NDArray[np.int64]:
    """[N, 4] size, modified, changed, inode: they show whether a file has changed.

    Programs cannot set the time of change, so a rewritten file with its old size and time is
    noticed too. A missing file has -1.
    """
    facts: list[int] = []  # flat, which numpy reads in a third of the time
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            facts += (-1, -1, -1, -1)
        else:
            inode = found.st_ino & (2**63 - 1)
            facts += (found.st_size, found.st_mtime_ns, found.st_ctime_ns, inode)
    return np.array(facts, np.int64).reshape(-1, 4)


def forget(index: Path) -> None:
    """Drop an index that was wrong about an image."""
    index.unlink(missing_ok=True)


def index_path(kind: str, name: str) -> Path:
    """Where the index of something is kept."""
    return cache_home() / "files" / f"{kind}-{fingerprint(name)}.npz"


def index_of(kind: str, path: str | Path) -> Path:
    """Where the index of a folder or tar is kept."""
    return index_path(kind, os.path.realpath(path))


def _known(root: Path, paths: Sequence[str], facts: NDArray[np.int64]) -> list[Examined]:
    """What is known of every file that has not changed since it was read, else nothing."""
    columns = read_columns(index_of("folder", root))
    if columns is None:
        return [Examined()] * len(paths)
    places = {name: place for place, name in enumerate(unpack(columns["names"]))}
    rows = np.array([places.get(path, -1) for path in paths], np.int64)
    same = (rows >= 0) & (columns["facts"][rows] == facts).all(axis=1)
    hashes, looks = unpack_hashes(columns["hashes"]), _looks(columns)
    pairs = zip(rows.tolist(), same, strict=True)
    return [Examined(hashes[row], "", looks[row]) if ok else Examined() for row, ok in pairs]


def _looks(columns: Mapping[str, NDArray[Any]]) -> list[int]:
    """The looks of an index; 0 for all where an earlier version wrote it."""
    found: list[int] = columns.get("looks", np.zeros(len(columns["facts"]), np.uint64)).tolist()
    return found


def _remember(
    root: Path, paths: Sequence[str], facts: NDArray[np.int64], fresh: Mapping[int, Examined]
) -> None:
    """Add rows to the current index, where another process may have added its own."""
    rows = np.array(list(fresh), np.int64)
    now = file_facts(_below(root, [paths[row] for row in rows.tolist()]))
    rows = rows[(now == facts[rows]).all(axis=1)]  # else it was changed while it was read
    if len(rows) < WORTH:
        return
    names, added = [paths[row] for row in rows.tolist()], [fresh[row] for row in rows.tolist()]
    columns: dict[str, NDArray[Any]] = {
        "facts": facts[rows],
        "hashes": pack_hashes([each.digest for each in added]),
        "looks": np.array([each.look for each in added], np.uint64),
    }
    path = index_of("folder", root)
    with _lock(path):
        if (known := read_columns(path)) is not None:
            others = _others(root, known, names, paths)
            before = {**known, "looks": np.array(_looks(known), np.uint64)}
            kept = list(others.values())
            columns = {
                name: np.concatenate([before[name][kept], column])
                for name, column in columns.items()
            }
            names = [*others, *names]
        write_columns(path, {"names": pack(names), **columns})


def _others(
    root: Path, known: Mapping[str, NDArray[Any]], added: Sequence[str], listed: Sequence[str]
) -> dict[str, int]:
    """The files of an index, with their rows, that are not added anew and still exist.

    Args:
        listed: files that were there a moment ago: they are not looked for again.
    """
    anew, there = set(added), set(listed)
    return {
        name: row
        for row, name in enumerate(unpack(known["names"]))
        if name not in anew and (name in there or os.path.lexists(os.path.join(root, name)))
    }


def read_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """Columns that ``write_columns`` wrote; None if there are none that are still valid."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        digest = columns.pop("digest").tobytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        digest, columns = b"", {}
    if digest == _digest(columns):
        if columns.pop("decoding", np.ones(1)).tolist() == [DECODING]:
            return columns
        logger.info("%s: written before a change in decoding; the files are read again", path)
        return None
    logger.warning("%s: damaged index of image files; the files are read again", path)
    return None


def write_columns(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns and their digest in one step; a failure gives a warning."""
    try:
        clear_dead_temporaries(path.parent)
        with atomic_path(path) as temporary:
            known = {**columns, "decoding": np.array([DECODING])}
            digest = np.frombuffer(_digest(known), np.uint8)
            np.savez(temporary, allow_pickle=False, **known, digest=digest)
    except (OSError, UserError) as error:
        logger.warning(
            "%s cannot be written (%s): images will be read again next time", path, error
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of an index; without one where its folder cannot be written."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # then writing fails too, which is reported
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def _digest(columns: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.blake2b(str(FORMAT).encode(), digest_size=16)
    for name in sorted(columns):
        column = columns[name]
        digest.update(f"{name}|{column.dtype}|{column.shape}|".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.digest()


def pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts without NUL as one column."""
    return np.frombuffer("\0".join((*texts, "")).encode(), np.uint8)


def unpack(column: NDArray[Any]) -> list[str]:
    """The texts of ``pack``."""
    return column.tobytes().decode().split("\0")[:-1]


def pack_hashes(hashes: Sequence[str]) -> NDArray[np.uint8]:
    """Content hashes as bytes [N, 8]; "" (a picture that cannot be used) as zeros."""
    data = bytes.fromhex("".join(each or _NO_HASH for each in hashes))
    return np.frombuffer(data, np.uint8).reshape(-1, 8)


def unpack_hashes(column: NDArray[Any]) -> list[str]:
    """The hashes of ``pack_hashes``."""
    text = column.tobytes().hex()
    found = [text[at : at + 16] for at in range(0, len(text), 16)]
    return ["" if each == _NO_HASH else each for each in found]
