"""Files, fingerprints and seeds: atomic writes, content hashes, derived random seeds, resources."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    A reader never sees a half-written file, and a crash leaves the old one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success its files replace those of ``path``.

    Each file is replaced in one step; files of ``path`` that were not written anew stay.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
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
    Path(path).parent.mkdir(parents=True, exist_ok=True)
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


def home_path(path: str | Path) -> Path:
    """A path with "~" spelled out; a name like ~x that is no user's stays as it is."""
    return Path(os.path.expanduser(path))


def cache_home() -> Path:
    """Folder of caches: ``$GENKT_CACHE``, ``$XDG_CACHE_HOME/genkt`` or ``~/.cache/genkt``."""
    if value := os.environ.get("GENKT_CACHE"):
        return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genkt"


def printable(text: str) -> str:
    """Text that does to a terminal no more than show itself: control characters are spelled out.

    Line ends stay; so do letters of any script, but not what turns the direction of writing.

    >>> printable("a\x1b[2J")
    'a\\x1b[2J'
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
    """ " Did you mean a, b?" with the closest choices first, or "" when nothing is close."""
    import difflib

    close = difflib.get_close_matches(word, list(choices), n=most, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""
