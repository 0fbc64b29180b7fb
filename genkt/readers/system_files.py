"""Files that systems and tools put beside pictures: thumbnails, recycle bins, hidden files.

Every search of folders and tars leaves them out, counts the images in them, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from genkt.data.images import Skipped
from genkt.types import counted

_FOLDERS = {
    "thumbnail": ("@eadir", ".@__thumb", ".thumbnails", ".xvpics", ".comments", "_vti_cnf"),
    "recycle bin": (
        "#recycle", "@recycle", "$recycle.bin", ".dtrash", ".recycle", ".trash", ".trashes",
    ),
    "snapshot": ("#snapshot", "@recently-snapshot", ".snapshot", ".snapshots", ".zfs"),
    "temporary": ("@tmp", ".temporaryitems", ".tmp.drivedownload", ".tmp.driveupload"),
    "system": (
        ".@__qini", ".documentrevisions-v100", ".fseventsd", ".spotlight-v100", "lost+found",
        "system volume information",
    ),
    "resource fork": ("__macosx", ".appledouble"),
    "tool": (".ipynb_checkpoints", ".picasaoriginals", "__pycache__"),
    "version control": (".bzr", ".git", ".hg", ".svn", "CVS"),
    "cloud sync": (".dropbox", ".dropbox.cache", ".stfolder", ".stversions", ".sync"),
}  # fmt: skip
"""Kind -> names of folders, in lower case unless they are always in upper case."""

_FILES = ("desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db")

_KIND_OF = {name: kind for kind, names in _FOLDERS.items() for name in names}

MOST_COUNTED = 100_000
"""Images that are counted in one folder; snapshots may hold any number."""

_MOST_NAMES = 3


def folder_kind(name: str) -> str:
    """What kind of system folder has such a name; "" for one that holds the user's files.

    >>> folder_kind("@eaDir"), folder_kind(".cats"), folder_kind("cats")
    ('thumbnail', 'hidden', '')
    """
    if kind := _KIND_OF.get(name) or _KIND_OF.get(name.lower()):
        return kind
    if name.lower().startswith(".trash-"):  # with the number of a user
        return "recycle bin"
    return "hidden" if name.startswith(".") and name.strip(".") else ""


def file_kind(name: str) -> str:
    """What kind of system file has such a name; "" for one of the user's.

    >>> file_kind("._7.jpg"), file_kind("SYNOPHOTO_THUMB_M.jpg"), file_kind("7.jpg")
    ('resource fork', 'thumbnail', '')
    """
    if name.startswith("._"):
        return "resource fork"
    if name.startswith("SYNOPHOTO_THUMB_"):
        return "thumbnail"
    if name.lower() in _FILES:
        return "system"
    return "hidden" if name.startswith(".") else ""


def is_system_path(path: str) -> bool:
    """Whether a relative path leads to a system file, or into such a folder.

    >>> is_system_path("a/@eaDir/7.jpg"), is_system_path("a/7.jpg")
    (True, False)
    """
    *folders, name = path.split("/")
    return bool(file_kind(name)) or any(map(folder_kind, folders))


@dataclass
class _Tally:
    first: str
    names: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    num_files: int = 0


class SystemFiles:
    """Counts what a search leaves out, by kind; a folder without any image does not count."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, bool], _Tally] = {}
        self._links: list[Skipped] = []

    def add_folder(self, path: str, name: str, num_files: int) -> None:
        """A system folder, and how many image files are in it or below it."""
        if num_files:
            tally = self._tallies.setdefault((folder_kind(name), True), _Tally(path))
            tally.names.append(name)
            tally.folders.add(path)
            tally.num_files += num_files

    def add_file(self, path: str, name: str) -> None:
        """An image file that is a system file."""
        self._add(file_kind(name), path, name)

    def add_link(self, path: str, reason: str) -> None:
        """A link that is not followed."""
        self._links.append(Skipped(path, reason, is_damage=False))

    def add_raw(self, path: str, name: str) -> None:
        """A camera raw file beside the picture that was made of it."""
        self._add("developed camera raw", path, name)

    def _add(self, kind: str, path: str, name: str) -> None:
        tally = self._tallies.setdefault((kind, False), _Tally(path))
        tally.names.append(name)
        tally.num_files += 1

    def add_member(self, place: str, path: str) -> None:
        """A member of a tar that is a system file, or lies in such a folder.

        Args:
            place: the tar.  path: inside it.
        """
        *folders, name = path.split("/")
        for depth, folder in enumerate(folders):
            if folder_kind(folder):
                return self.add_folder("/".join((place, *folders[: depth + 1])), folder, 1)
        return self.add_file(f"{place}/{path}", name)

    def entries(self) -> list[Skipped]:
        """One entry per kind, in the order in which they were found, and one per link."""
        return self._links + [
            Skipped(tally.first, _text(kind, is_folder, tally), is_damage=False)
            for (kind, is_folder), tally in self._tallies.items()
        ]


def _text(kind: str, is_folder: bool, tally: _Tally) -> str:
    names = list(dict.fromkeys(tally.names))
    more = ", ..." if len(names) > _MOST_NAMES else ""
    shown = ", ".join(names[:_MOST_NAMES]) + more
    least = "at least " * (tally.num_files >= MOST_COUNTED)
    if not is_folder:
        return f"{least}{counted(tally.num_files, f'{kind} image file')} ({shown})"
    files = f"{least}{counted(tally.num_files, 'image file')}"
    where = f"in {counted(len(tally.folders), f'{kind} folder')} ({shown})"
    advice = "rename it without the dot" if kind == "hidden" else "give it another name"
    return f"{files} {where}; if that is a folder of yours, {advice}"
