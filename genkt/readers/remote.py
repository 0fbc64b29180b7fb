"""Folders of images elsewhere (``s3://``, ``gs://``, ``https://``, ...), as local copies.

fsspec lists and fetches them. Every opening lists the place anew: what has another size, time or
tag than its copy is fetched again, and what is gone there is removed here, so that a copy cannot go
stale. Readers then see an ordinary folder; ids are the same as those of the folder itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import posixpath
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from genkt.data.pictures.formats import looks_like_image
from genkt.disk import cache_home, make_folder, require_free
from genkt.io import atomic_path, did_you_mean, fingerprint, read_json, write_json
from genkt.readers.scan import map_in_threads
from genkt.types import DamagedError, UserError, counted

logger = logging.getLogger("genkt")

_VERSIONS = (
    "ETag", "etag", "generation", "version_id", "VersionId", "md5Hash", "content_md5",
    "Content-MD5", "Digest", "LastModified", "Last-Modified", "last_modified", "updated", "mtime",
    "created", "ino",
)  # fmt: skip
"""What file systems call that by which a changed file is known."""
_USUAL = ("s3", "gs", "https", "http", "file", "memory")
_THREADS = 8


def local_copy(place: str, *, progress: bool | None = None) -> Path:
    """The folder or tar that a URL names, fetched as far as it is new or has changed.

    Only images and tars are fetched. Copies are kept in the cache, under the place's name.

    Raises:
        UserError: fsspec or its package for such places is missing, the place cannot be listed or
            holds no image, a file cannot be fetched, or there is no room for it.
    """
    remote = _opened(place)
    place = place.rstrip("/")
    home = cache_home() / "places" / fingerprint(place)
    folder = home / (posixpath.basename(place) or "root")
    make_folder(home)
    with FileLock(home / "lock"):
        _synchronize(remote, folder, home / "copies.json", progress)
    return folder / remote.single if remote.single else folder


@dataclass(frozen=True)
class _Remote:
    """What a place lists.

    Args:
        place: the URL.  system: of fsspec.
        files: path below the place -> its name there.  facts: of fsspec, by the same paths.
        single: the path if the place is one file, else "".
    """

    place: str
    system: Any
    files: Mapping[str, str]
    facts: Mapping[str, Mapping[str, Any]]
    single: str

    def stamp(self, path: str) -> str:
        """What changes when the file does; "" if the place does not say."""
        facts = self.facts[path]
        if not any(name in facts for name in _VERSIONS):  # as web servers, which tell it by file
            facts = self.asked(path)
        known = {name: str(facts[name]) for name in _VERSIONS if name in facts}
        return fingerprint({**known, "size": facts.get("size")}) if known else ""

    def asked(self, path: str) -> Mapping[str, Any]:
        """The facts of one file."""
        try:
            found: Mapping[str, Any] = self.system.info(self.files[path])
        except Exception as error:  # file systems raise anything
            raise self.fault(path, error) from error
        return found

    def fetch(self, path: str, folder: Path) -> None:
        """Copy one file, whole or not at all."""
        try:
            with atomic_path(folder / path) as temporary:
                self.system.get_file(self.files[path], str(temporary))
        except UserError:
            raise
        except Exception as error:
            raise self.fault(path, error) from error

    def fault(self, path: str, error: Exception) -> UserError:
        """One line on a file that cannot be had."""
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self.place}: {path} is gone since it was listed; start again")
        return UserError(f"{self.place}: {path} cannot be fetched: {_reason(error)}")


def _opened(place: str) -> _Remote:
    system, root = _system(place)
    system.invalidate_cache()
    try:
        listed: dict[str, Any] = system.find(root, detail=True)
        if not listed:
            system.ls(root, detail=True)  # ``find`` takes a place that cannot be listed for empty
    except Exception as error:
        raise UserError(
            f"{place}: expected a folder whose files can be listed, got: {_reason(error)}"
        ) from error
    single = posixpath.basename(root) if list(listed) == [root] else ""
    files = {
        single or _below(name, root, is_web="http" in system.protocol): name for name in listed
    }
    files = {
        path: name
        for path, name in files.items()
        if looks_like_image(path) or path.lower().endswith(".tar")
    }
    if not files:
        raise UserError(f"{place}: no image or tar among its {counted(len(listed), 'file')}")
    for path in files:
        if posixpath.isabs(path) or ".." in path.split("/"):
            raise UserError(f"{place}: a file's name leads out of the place: {path}")
    facts = {path: listed[name] for path, name in files.items()}
    return _Remote(place, system, files, facts, single)


def _system(place: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the place's name there."""
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise UserError(f'{place}: needs fsspec: pip install "genkt[remote]"') from error
    try:
        system, root = fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise UserError(f"{place}: needs another package: {_reason(error)}") from error
    except ValueError as error:
        scheme = place.partition("://")[0]
        raise UserError(
            f"{place}: '{scheme}://' is no kind of place that fsspec opens."
            f"{did_you_mean(scheme, _USUAL)} Expected {', '.join(_USUAL)} or another of its kinds"
        ) from error
    return system, root.rstrip("/")


def _below(name: str, root: str, is_web: bool) -> str:
    """The path of a file below the place, as it would be in a folder."""
    path = name.removeprefix(root).lstrip("/")
    return unquote(path) if is_web else path


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such place"
    return " ".join(str(error).split()) or type(error).__name__


def _synchronize(remote: _Remote, folder: Path, index: Path, progress: bool | None) -> None:
    """Make the copies what the place holds now, and note by what each is known."""
    known = _known(index)
    _remove_others(folder, remote.files)
    paths = list(remote.files)
    asking = map_in_threads(
        remote.stamp, paths, description=f"listing {remote.place}", num_threads=_THREADS,
        progress=progress, unit="files",
    )  # fmt: skip
    stamps = dict(zip(paths, asking, strict=True))
    copies = {path: known[path] for path in paths if path in known}
    new = [path for path in paths if not _same(copies.get(path), stamps[path], folder / path)]
    sizes = (remote.facts[path].get("size") or 0 for path in new)
    require_free(index.parent, sum(sizes), f"copies of {remote.place}")
    fetching = map_in_threads(
        partial(remote.fetch, folder=folder), new, description=f"fetching {remote.place}",
        num_threads=_THREADS, progress=progress, unit="files",
    )  # fmt: skip
    try:
        for path, _ in zip(new, fetching, strict=True):
            copies[path] = [stamps[path], *_facts(folder / path)]
    finally:
        write_json(index, copies)


def _same(copy: list[Any] | None, stamp: str, file: Path) -> bool:
    """Whether a copy is of the present file, and nobody changed it."""
    return copy is not None and bool(stamp) and copy == [stamp, *_facts(file)]


def _facts(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _remove_others(folder: Path, wanted: Container[str]) -> None:
    """Remove what the place does not hold, also what an interrupted opening left.

    So are folders that hold nothing else: an empty class folder would be a fault.
    """
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(here, name)
            if path.relative_to(folder).as_posix() not in wanted:
                path.unlink()
        if Path(here) != folder and not os.listdir(here):
            os.rmdir(here)


def _known(index: Path) -> dict[str, list[Any]]:
    """By what each copy is known; nothing if that is damaged: all are fetched again."""
    try:
        found: dict[str, list[Any]] = read_json(index) if index.is_file() else {}
    except DamagedError as error:
        logger.warning("%s; all files of the place are fetched again", error)
        return {}
    return found
