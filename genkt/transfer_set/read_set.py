"""Transfer sets on disk: images with labels and provenance, written in shards, opened lazily.

transfer_set.json      header: format, source, counts, settings, classes, parts
shards/00000.json      one per finished shard: counts, digests and sizes of its files
manifest/00000.jsonl   one line per image (``Record``)
images/00000/000000.webp, or images/00000.tar (WebDataset)
tokens/00000.safetensors   the tokens of generated images
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.images import ImageSet, LostImage, content_hash, decode
from genkt.files import SEAL, write_signed
from genkt.io import fingerprint, home_path, read_json, reading
from genkt.transfer_set.parts import NO_PARTS, SOURCES, Part, Provenance
from genkt.transfer_set.set_files import (
    HEADER,
    ImageFiles,
    Record,
    manifest_lines,
    part_path,
    read_image_file,
    shard_facts,
)
from genkt.transfer_set.set_rows import SetRows, Stored
from genkt.types import UserError

FORMAT = 1
_NO_OFFSET = -1
_HEADER = {
    "source": str, "num_images": int, "num_shards": int, "files": dict, "classes": list,
}  # fmt: skip
"""The keys of every header."""


@dataclass(frozen=True)
class _Opener:
    """Opens an image of a set; an item is the offset in its tar, or ``_NO_OFFSET``."""

    root: str
    decoding: ClassVar[int] = 1  # genkt writes plain RGB, whose decoding has never changed

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        file, _, digest = sample_id.rpartition("#")
        data = read_image_file(Path(self.root), file, None if item == _NO_OFFSET else item)
        if content_hash(data) != digest:
            raise LostImage(str(Path(self.root, file)), "not the image that the manifest names")
        return decode(data)


@dataclass(frozen=True, eq=False)
class _SavedRecords:
    """Reads records of a set from its manifests, line by line.

    Args:
        root: the set's folder.
        starts: [shards + 1] the row that each shard starts at.
        lines: [N] where the line of each row starts in its manifest.
    """

    root: Path
    starts: NDArray[np.int64]
    lines: NDArray[np.int64]

    def __call__(self, rows: NDArray[np.int64]) -> list[Record]:
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        found: dict[int, Record] = {}
        for shard in np.unique(shards).tolist():
            path = part_path(self.root, "manifest", shard)
            try:
                with open(path, "rb") as stream:
                    for place in np.flatnonzero(shards == shard).tolist():
                        stream.seek(self.lines[rows[place]])
                        found[place] = Record.parse(stream.readline().decode())
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}; its set was open already") from error
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: damaged since its set was opened") from error
        return [found[place] for place in range(len(rows))]


def is_transfer_set(location: str | Path) -> bool:
    """Whether a folder holds a saved set, finished or not."""
    root = home_path(location)
    return (root / HEADER).is_file() or (root / "shards").is_dir()


def read_rows(directory: str | Path) -> SetRows:
    """Open a set; manifests and sizes are checked now, each image when it is loaded.

    Raises:
        UserError: there is no set, or it is not finished, of another genkt version, or damaged.
    """
    root = home_path(directory)
    path = root / HEADER
    if not path.is_file():
        if (root / "run.json").is_file():
            raise UserError(
                f"{root}: its transfer set is not finished; repeat its command to continue it"
            )
        raise UserError(
            f"{root}: expected a transfer set (with {HEADER}), found none; read other "
            "images with transfer_set=folder, or genkt.TransferSet.open"
        )
    header = read_header(path)
    found = open_shards(root, header)
    if len(found) != header["num_images"]:
        raise UserError(
            f"{root}: expected {header['num_images']} images, its shards hold {len(found)}"
        )
    return found


def read_header(path: Path) -> dict[str, Any]:
    """The header of a set, without its digest; an older one has none.

    Raises:
        UserError: it is damaged, or of another genkt version.
    """
    expected = "the header of a transfer set"
    header = read_json(path, expected)
    with reading(path, expected):
        if header["format"] != FORMAT:
            raise UserError(f"{path}: format {header['format']}, this genkt reads {FORMAT}")
        if header.pop(SEAL, None) not in (None, fingerprint(header)):
            raise ValueError("it was altered")
        for key, kind in _HEADER.items():
            if not isinstance(header[key], kind):
                raise TypeError(f"{key}: a {type(header[key]).__name__}")
    return dict(header)


def open_shards(root: Path, header: Mapping[str, Any]) -> SetRows:
    """The set of all finished shards, whether its header is written or not.

    Args:
        header: at least ``num_shards`` and ``classes``; of a mix also ``parts``.
    """
    parts = tuple(Part(**part) for part in header.get("parts", ()))
    number = {part.name: place for place, part in enumerate(parts)}
    ids: list[str] = []
    rows: list[tuple[int, int, int, int]] = []  # label, item, source, part
    lines = [np.empty(0, np.int64)]
    starts = [0]
    for shard in range(header["num_shards"]):
        written = manifest_lines(root, shard)
        _check_tar(root, shard)
        with reading(part_path(root, "manifest", shard), "the manifest of a shard"):
            for line in written:
                values = json.loads(line)
                ids.append(values["id"])
                item = _NO_OFFSET if values["offset"] is None else values["offset"]
                part = number[values["detail"]["part"]] if parts else 0
                rows.append((values["label"], item, SOURCES.index(values["source"]), part))
        lines.append(np.cumsum([0, *(len(line) + 1 for line in written)])[:-1])
        starts.append(len(ids))
    labels, items, sources, part_of = np.array(rows, np.int64).reshape(-1, 4).T
    images = ImageSet(ids, labels, header["classes"], items, _Opener(str(root)))
    stored = Stored(root, header, np.array(starts, dtype=np.int64))
    reader = _SavedRecords(root, stored.starts, np.concatenate(lines))
    provenance = Provenance.of(reader, sources)
    return SetRows(images, provenance, parts, part_of if parts else NO_PARTS, stored)


def write_header(directory: Path, header: Mapping[str, Any]) -> SetRows:
    """Mark a set as finished: count its shards and write ``transfer_set.json``.

    Args:
        header: at least ``source``, ``num_shards``, ``files`` (an ``ImageFiles``) and ``classes``.

    Raises:
        UserError: a shard is missing or damaged.
    """
    full = {"format": FORMAT, "num_images": 0, **header}
    found = open_shards(directory, full)
    full["num_images"] = len(found)
    write_signed(directory / HEADER, full)
    return read_rows(directory)


def _check_tar(root: Path, shard: int) -> None:
    expected = (shard_facts(root, shard) or {})["files"].get("tar_bytes")
    if expected is None:
        return
    path = root / "images" / f"{shard:05d}.tar"
    found = path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise UserError(f"{path}: expected {expected} bytes, found {found}")


def image_files(header: Mapping[str, Any]) -> ImageFiles:
    """How the images of a set are stored."""
    return ImageFiles(**header["files"])
