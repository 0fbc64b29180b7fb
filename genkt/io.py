"""Files, fingerprints and seeds: atomic writes, content hashes, derived random seeds, resources."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genkt.disk import disk_is_full, full_disk, is_full_fault, room_text, writing_fault
from genkt.synonyms import means_same
from genkt.types import UserError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    A reader never sees a half-written file, and a crash leaves the old one. A link is followed:
    the file that it leads to is replaced. What is no regular file (a pipe, /dev/stdout) is
    written into, in one go at the end.

    Raises:
        UserError: the path is a folder, or a socket.
        OSError: it cannot be written, with the path as its ``filename``.
    """
    target = Path(os.path.realpath(path))
    make_folder(target.parent)
    special = _is_special(target)
    temporary = _temporary(target, Path(tempfile.gettempdir()) if special else target.parent)
    try:
        with naming_place(path, temporary):
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


def make_folder(path: str | Path) -> Path:
    """The folder, made with all above it where it is not there.

    Raises:
        UserError: it cannot be made, with the reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_full_fault(error):
            raise
        reason = writing_fault(path) or error.strerror
        raise UserError(f"{path}: cannot be made: {reason}{_cache_hint(path)}") from error
    return path


def output_file(path: str | Path) -> Path:
    """The path of a file that is to be written at the end: checked before the work begins.

    Raises:
        UserError: it is a folder, or no file can be written there.
    """
    path = Path(path).expanduser()
    if not _is_special(Path(os.path.realpath(path))) and (fault := writing_fault(path.parent)):
        raise UserError(f"output={path}: cannot be written: {fault}")
    return path


def explained(error: OSError) -> str:
    """One line on a refused read or write: the place, the reason, and how much room there is."""
    place = str(error.filename or os.getcwd())
    if is_full_fault(error):
        room = f": {room_text(place)}; make room, then repeat the command"
        return f"{place}: {error.strerror}{room}{_cache_hint(place)}"
    return f"{place}: {error.strerror}{_cache_hint(place)}"


def _cache_hint(path: str | Path) -> str:
    """What to type where the cache's place is no good."""
    if not Path(path).is_relative_to(cache_home()):
        return ""
    return "; cache=FOLDER or the environment variable GENKT_CACHE gives the cache another place"


def _temporary(target: Path, home: Path) -> Path:
    """A new empty file whose name tells which file it becomes."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=home)
    except OSError as error:
        error.filename = str(target)
        raise
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def naming_place(path: str | Path, temporary: str | Path = "") -> Iterator[None]:
    """Errors of writing name the user's path; a full disk is told as such by every library."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and is_full_fault(error)
        if unnamed or str(error.filename) == str(temporary):
            error.filename = str(path)
        raise
    except UserError:
        raise
    except Exception as error:  # safetensors and torch have errors of their own for a full disk
        if disk_is_full(path):
            raise full_disk(path) from error
        raise


def _is_special(target: Path) -> bool:
    """Whether a path is there and is neither a file nor a folder."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        what = "folder" if stat.S_ISDIR(mode) else "socket"
        raise UserError(f"{target}: expected a file to write, it is a {what}")
    return not stat.S_ISREG(mode)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success its files replace those of ``path``.

    Each file is replaced in one step; files of ``path`` that were not written anew stay.
    """
    path = make_folder(os.path.realpath(path))  # a link's target may be on another disk
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        with naming_place(path):
            yield Path(name)
        for file in sorted(Path(name).iterdir()):
            os.chmod(file, 0o666 & ~_umask())
            os.replace(file, path / file.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path`` atomically and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
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


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
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
    make_folder(Path(path).parent)
    try:
        lock.acquire(timeout=quiet_seconds)
    except Timeout:
        logging.getLogger("genkt").warning(told)
        lock.acquire()
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


def cache_home() -> Path:
    """Folder of caches: ``$GENKT_CACHE``, ``$XDG_CACHE_HOME/genkt`` or ``~/.cache/genkt``."""
    if value := os.environ.get("GENKT_CACHE"):
        return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genkt"


def did_you_mean(word: str, choices: Iterable[str], most: int = 3) -> str:
    """ " Did you mean a, b?" with the closest choices first, or "" when nothing is close.

    A choice that means the same (``learning_rate`` for ``lr``) comes in place of similar letters.
    """
    import difflib

    known = list(choices)
    close = [choice for choice in known if means_same(word, choice)][:most]
    close = close or difflib.get_close_matches(word, known, n=most, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""
