"""Files, fingerprints and seeds: atomic writes, content hashes, derived random seeds, resources."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genkt.disk import PROBE, is_special, make_folder, naming_place
from genkt.synonyms import means_same
from genkt.types import DamagedError, UserError

if TYPE_CHECKING:
    from torch import Tensor

_TEMPORARY = re.compile(r"\..+?(?:\.([0-9a-f]{6})-(\d+))?\.[a-z0-9_]{8}(\.\w+)?")
"""Names of half-written files: machine and process that write them (older ones say neither)."""

_ABANDONED_SECONDS = 7 * 24 * 3600.0
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


@contextlib.contextmanager
def atomic_path(path: str | Path, num_bytes: float = 0) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    A reader never sees a half-written file, and a crash leaves the old one. A link is followed:
    the file that it leads to is replaced. What is no regular file (a pipe, /dev/stdout) is
    written into, in one go at the end. What killed writers of this file left beside it is removed.

    Args:
        num_bytes: how large it becomes, where that is known: a full disk tells what is missing.

    Raises:
        UserError: the path is a folder, or a socket.
        OSError: it cannot be written, with the path as its ``filename``.
    """
    target = Path(os.path.realpath(path))
    make_folder(target.parent)
    special = is_special(target)
    if not special:
        clear_dead_temporaries(target.parent, of=target.name)
    temporary = _temporary(target, Path(tempfile.gettempdir()) if special else target.parent)
    try:
        with naming_place(path, temporary, num_bytes):
            yield temporary
            if special:
                with open(temporary, "rb") as source, open(target, "wb") as stream:
                    shutil.copyfileobj(source, stream)
            else:
                with open(temporary, "rb") as stream:
                    os.fsync(stream.fileno())
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path, home: Path) -> Path:
    """A new empty file whose name tells which file it becomes."""
    try:
        handle, name = tempfile.mkstemp(
            prefix=temporary_prefix(target.name), suffix=target.suffix, dir=home
        )
    except OSError as error:
        error.filename = str(target)
        raise
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def atomic_folder(path: str | Path, num_bytes: float = 0) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success its files replace those of ``path``.

    Each file is replaced in one step; files of ``path`` that were not written anew stay.
    ``num_bytes``: as in ``atomic_path``.
    """
    path = make_folder(os.path.realpath(path))  # a link's target may be on another disk
    clear_dead_temporaries(path.parent, of=path.name)
    with tempfile.TemporaryDirectory(prefix=temporary_prefix(path.name), dir=path.parent) as name:
        with naming_place(path, num_bytes=num_bytes):
            yield Path(name)
        for file in sorted(Path(name).iterdir()):
            os.chmod(file, 0o666 & ~_umask())
            os.replace(file, path / file.name)


def temporary_prefix(name: str) -> str:
    """How the name of what will become ``name`` begins: it says which process writes it."""
    return f".{name}.{_machine()}-{os.getpid()}."


def _machine() -> str:
    """6 hex digits of this machine and, in a container, its own count of processes."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.blake2b(f"{platform.node()} {processes}".encode(), digest_size=3).hexdigest()


def clear_dead_temporaries(folder: str | Path, of: str = "") -> None:
    """Remove what killed writers left half written in ``folder`` (not below it).

    Only what nobody can be writing: its process was one of this machine and has ended, or nothing
    was written for a week.

    Args:
        of: only what was to become the file of this name, and says which process wrote it: the
            folder may be the user's, who has files with dots of his own.
    """
    with contextlib.suppress(OSError):  # no such folder, or one that is only read: nothing to do
        for entry in list(os.scandir(folder)):
            named = _TEMPORARY.fullmatch(entry.name)
            if of and not (named and named[1] and entry.name.startswith(f".{of}.{named[1]}-")):
                continue
            if named is None or not _is_dead(entry, *named.groups()[:2]):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def contents(folder: Path) -> set[str]:
    """The names in a folder, without what a killed genkt left half written; none: no folder."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if name != PROBE and not _names_writer(name)}


def _names_writer(name: str) -> bool:
    named = _TEMPORARY.fullmatch(name)
    return named is not None and named[1] is not None


def _is_dead(entry: os.DirEntry[str], machine: str | None, process: str | None) -> bool:
    if machine == _machine() and process is not None:
        return not is_alive(int(process))
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no number of a process
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path`` atomically and return the path."""
    # A file name may hold bytes that are no text: JSON reads them back from such escapes.
    return write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path`` atomically and return the path."""
    with atomic_path(path, len(data)) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON to ``path`` atomically and return the path."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Turn dataclasses, paths, numpy and torch scalars into what JSON knows."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"not serialisable: {type(value).__name__}")


@contextlib.contextmanager
def reading(path: str | Path, expected: str, remedy: str = "") -> Iterator[None]:
    """Tell in one line that a file is damaged, whatever its content does to those who read it.

    Args:
        expected: what should be there, e.g. "the header of a transfer set".
        remedy: what to do now.

    Raises:
        DamagedError: the block read what it could not use: no file, a folder, other content.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise damaged(path, expected, error.strerror or str(error), remedy) from error
    except Exception as error:  # JSON, zip files, safetensors and what is built of them: anything
        raise damaged(path, expected, _told(error), remedy) from error


def damaged(path: str | Path, expected: str, found: str, remedy: str = "") -> DamagedError:
    """The error of a file that is not what genkt wrote."""
    fact = f"{path}: damaged, expected {expected} ({found})"
    error = DamagedError(f"{fact}{remedy and f'; {remedy}'}")
    error.fact = fact
    return error


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def read_json(path: str | Path, expected: str = "JSON", remedy: str = "") -> Any:
    """Read a JSON file that genkt wrote; see ``reading``.

    Raises:
        DamagedError: it is not there, cannot be read, or holds something else.
    """
    with reading(path, expected, remedy):
        return json.loads(Path(path).read_text(encoding="utf-8"))


@contextlib.contextmanager
def held(path: str | Path, told: str, *, quiet_seconds: float = 0.0) -> Iterator[float]:
    """Hold a lock file, which is released when its holder dies; yields the seconds waited for it.

    Args:
        told: the warning for a process that waits for another.
        quiet_seconds: how long it waits before it says so.
    """
    from filelock import FileLock, Timeout

    started, lock = time.perf_counter(), FileLock(path)
    while not lock.is_locked:
        try:
            make_folder(Path(path).parent)
            lock.acquire(timeout=quiet_seconds)
        except Timeout:
            logging.getLogger("genkt").warning(told)
            lock.acquire()
        except FileNotFoundError:  # another has just removed the folder, which was empty
            continue
    try:
        yield time.perf_counter() - started
    finally:
        lock.release()


def fingerprint(*parts: bytes | str | Mapping[str, Any] | list[Any]) -> str:
    """A 32-hex-digit BLAKE2b hash of the parts; mappings are hashed as sorted JSON."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, (Mapping, list)):
            part = json.dumps(part, sort_keys=True, default=_plain)
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def fingerprint_ids(ids: Iterable[str]) -> str:
    """Hash of an ordered sequence of sample ids, in constant memory."""
    digest = hashlib.blake2b(digest_size=16)
    for sample_id in ids:
        digest.update(sample_id.encode() + b"\0")
    return digest.hexdigest()


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of a state dict: names, shapes, dtypes and bytes, whatever the device and order."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from its parts, e.g. ``derive_seed(seed, sample_id, "crop")``.

    The only way randomness enters genkt: the same parts give the same draws, whatever the
    batch size, the number of workers or an interruption.
    """
    data = "\0".join(f"{type(part).__name__}:{part}" for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def resource(name: str) -> Path:
    """The folder ``configs`` or ``checkpoints``: in an installed wheel, else beside ``genkt/``."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def home_path(path: str | Path) -> Path:
    """A path with "~" spelled out; a name like ~x that is no user's stays as it is."""
    return Path(os.path.expanduser(path))


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URL and no path.

    >>> is_remote("s3://bucket/pets"), is_remote("hf:pets"), is_remote("pets")
    (True, False, False)
    """
    scheme, mark, _ = place.partition("://") if isinstance(place, str) else ("", "", "")
    return bool(mark) and scheme[:1].isalpha() and scheme.replace("+", "").isalnum()


def printable(text: str) -> str:
    r"""Text that does to a terminal no more than show itself: control characters are spelled out.

    Line ends stay; so do letters of any script, but not what turns the direction of writing.

    >>> print(printable("a\x1b[2J"))
    a\x1b[2J
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(value: object, most: int = 300) -> str:
    """A value in one line of a message: without control characters, its middle left out if long."""
    text = printable(str(value)).replace("\n", "\\n").replace("\r", "\\r")
    if len(text) <= most:
        return text
    left = len(text) - most
    return f"{text[: most // 2]}... ({left} characters left out) ...{text[len(text) - most // 2 :]}"


def nearby(path: str | Path) -> str:
    """ ". Did you mean PATH?" with the closest name beside a path that is not there, or ""."""
    import difflib

    path = home_path(path)
    try:
        there = [other.name for other in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, there, 1, cutoff=0.7)
    return f". Did you mean {shown(path.parent / close[0])}?" if close else ""


def did_you_mean(word: str, choices: Iterable[str], most: int = 3) -> str:
    """ " Did you mean a, b?" with the closest choices first, or "" when nothing is close.

    A choice that means the same (``learning_rate`` for ``lr``) comes in place of similar letters.
    """
    import difflib

    known = list(choices)
    close = [choice for choice in known if means_same(word, choice)][:most]
    close = close or difflib.get_close_matches(word, known, n=most, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""
