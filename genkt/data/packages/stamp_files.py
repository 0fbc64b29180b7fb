"""The stamps of Tux Paint: cut-out pictures with captions, their classes and their parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.images import content_hash
from genkt.io import derive_seed
from genkt.types import UserError

PARTS = ("train", "validation", "test", "confirmation", "unlabelled", "gallery")

LEAST_PER_CLASS = {
    "train": 4, "validation": 4, "test": 4, "confirmation": 2, "unlabelled": 1, "gallery": 1,
}  # fmt: skip
"""Stamps of every class in every part; a class has at least so many in all."""

_MORE = ("unlabelled", "test", "gallery", "unlabelled", "train", "validation", "confirmation")
"""Where the further stamps of a class go, in turn."""

_OTHERS = ("unlabelled", "unlabelled", "gallery")
"""Where stamps without a class go, in turn."""

LEAST_SIDE = 32
"""Pixels of the longer side of a stamp that is used."""

_LARGEST_SIDE = 128
_SEED = 20261130
_OUTSIDE = 16  # alpha below it is the faint rim of a cut-out


@dataclass(frozen=True)
class Stamp:
    """One cut-out picture.

    Args:
        name: its path in the package, without ``.png``.
        caption: its English caption.
        digest: of its file.
        class_name: "" where it belongs to no class.
    """

    name: str
    caption: str
    digest: str
    class_name: str = ""


def read_stamps(folder: Path, names: Sequence[str]) -> list[Stamp]:
    """The stamps of the package that can be used, each with its class, in the order of names.

    A stamp is used if it has an alpha channel, a caption and a longer side of ``LEAST_SIDE``;
    of copies the first is. A class is a folder inside one of the package's top folders with as
    many used stamps as ``LEAST_PER_CLASS`` asks for; or a top folder that has as many, but none
    in a folder of its own.

    Raises:
        UserError: fewer than two classes.
    """
    stamps: dict[str, Stamp] = {}
    for path in (folder / name for name in names if name.endswith(".png")):
        if (caption := _caption(path)) and _usable(path):
            name = path.relative_to(folder).with_suffix("").as_posix()
            digest = content_hash(path.read_bytes())
            stamps.setdefault(digest, Stamp(name, caption, digest))
    homes = _class_folders(stamps.values())
    if len(homes) < 2:
        most = sum(LEAST_PER_CLASS.values())
        raise UserError.of(folder, f"two folders or more with {most} stamps each", len(homes))
    return [
        Stamp(each.name, each.caption, each.digest, _class_of(each.name, homes))
        for each in stamps.values()
    ]


def _caption(path: Path) -> str:
    """The first line of the text beside a stamp, which is English; "" without one."""
    text = path.with_suffix(".txt")
    if not text.is_file():
        return ""
    return text.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()


def _usable(path: Path) -> bool:
    with Image.open(path) as image:
        cut_out = image.mode in ("RGBA", "LA") or "transparency" in image.info
        return cut_out and max(image.size) >= LEAST_SIDE


def _folders_of(name: str) -> tuple[str, ...]:
    """The top folder of a stamp, and the one below it if there is one."""
    folders = name.split("/")[:-1][:2]
    return tuple("/".join(folders[: depth + 1]) for depth in range(len(folders)))


def _class_folders(stamps: Iterable[Stamp]) -> set[str]:
    counts = Counter(folder for each in stamps for folder in _folders_of(each.name))
    least = sum(LEAST_PER_CLASS.values())
    large = {folder for folder, count in counts.items() if count >= least}
    split = {folder.partition("/")[0] for folder in large if "/" in folder}
    return large - split


def _class_of(name: str, homes: set[str]) -> str:
    return next((each.split("/")[-1] for each in _folders_of(name) if each in homes), "")


def part_stamps(stamps: Sequence[Stamp]) -> dict[str, list[Stamp]]:
    """The stamps of each of ``PARTS``: no stamp is in two of them.

    Which stamp goes where depends on its name alone and on how many come before it in its class.
    """
    turns = [part for part, count in LEAST_PER_CLASS.items() for _ in range(count)]
    parts: dict[str, list[Stamp]] = {part: [] for part in PARTS}
    for class_name in sorted({each.class_name for each in stamps}):
        own = [each for each in stamps if each.class_name == class_name]
        first, then = (turns, _MORE) if class_name else ([], _OTHERS)
        for place, each in enumerate(sorted(own, key=_order)):
            further = place - len(first)
            parts[first[place] if further < 0 else then[further % len(then)]].append(each)
    return parts


def _order(stamp: Stamp) -> tuple[int, str]:
    return derive_seed(_SEED, stamp.name, "part"), stamp.name


@lru_cache(maxsize=512)
def cut_out(path: Path) -> Image.Image:
    """A stamp's pixels as RGBA, cut to what can be seen of it, at most 128 pixels long.

    Raises:
        UserError: the file is gone or cannot be read.
    """
    try:
        with Image.open(path) as image:
            stamp = image.convert("RGBA")
    except OSError as error:
        raise UserError.of(path, "a stamp that can be read", error) from error
    seen = np.asarray(stamp.getchannel("A")) >= _OUTSIDE
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if len(rows):
        stamp = stamp.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    stamp.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    return stamp
