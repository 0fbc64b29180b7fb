"""Transfer sets on disk: images with labels and provenance, written in shards, opened lazily.

transfer_set.json      header: format, source, counts, settings, classes
shards/00000.json      one a finished shard: counts, digests and sizes of its files
manifest/00000.jsonl   one line an image (``Record``)
images/00000/000000.webp, or images/00000.tar (WebDataset)
tokens/00000.safetensors   what images are decoded from, where a generator made them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.images import ImageSet, content_hash, decode
from genkt.data.transfer_set_files import (
    HEADER,
    ImageFiles,
    Record,
    digest_of,
    part_path,
    read_image_file,
    shard_facts,
)
from genkt.io import read_json, write_json
from genkt.types import UserError

FORMAT = 1
_NO_OFFSET = -1


@dataclass(frozen=True)
class _Opener:
    """Opens an image of a set; an item is the offset in its tar, or ``_NO_OFFSET``."""

    root: str

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        file, _, digest = sample_id.rpartition("#")
        data = read_image_file(Path(self.root), file, None if item == _NO_OFFSET else item)
        if content_hash(data) != digest:
            raise UserError(f"{Path(self.root, file)}: not the image that the manifest names")
        return decode(data)


@dataclass(frozen=True)
class TransferSet:
    """A set on disk.

    Args:
        directory: its folder.
        header: what ``transfer_set.json`` holds.
        images: its images, opened lazily from files or tars.
        starts: [shards + 1] the row of ``images`` that each shard starts at.
    """

    directory: Path
    header: Mapping[str, Any]
    images: ImageSet
    starts: NDArray[np.int64]
    _last: dict[int, list[Record]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"TransferSet({len(self)} {self.header['source']} images in {self.directory})"

    @property
    def num_shards(self) -> int:
        """How many shards it is stored in."""
        return len(self.starts) - 1

    def record(self, index: int) -> Record:
        """Provenance of the image at ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index from 0 to {len(self) - 1}, came {index}")
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        if shard not in self._last:
            self._last.clear()
            self._last[shard] = read_records(self.directory, shard)
        return self._last[shard][index - int(self.starts[shard])]

    def records(self) -> Iterator[Record]:
        """Provenance of every image, in order; one shard is in memory at a time."""
        for shard in range(self.num_shards):
            yield from read_records(self.directory, shard)

    def tokens(self, shard: int) -> dict[str, NDArray[Any]]:
        """A shard's arrays, one row an image: ``tokens`` [n, h, w], ``hidden``, ``seeds`` [n].

        Raises:
            UserError: a set that was not made from tokens, or a damaged file.
        """
        return read_tokens(self.directory, shard)


def read_records(directory: Path, shard: int) -> list[Record]:
    """The manifest of one finished shard.

    Raises:
        UserError: a shard that is not there, or not as it was written.
    """
    facts = shard_facts(directory, shard)
    path = part_path(directory, "manifest", shard)
    if facts is None:
        raise UserError(f"{directory}: shard {shard} is missing (shards/{shard:05d}.json)")
    data = _checked(path, facts["files"]["manifest"])
    # Split as bytes: a str would also break at characters that file names may hold (U+2028).
    return [Record.parse(line.decode()) for line in data.splitlines()]


def read_tokens(directory: Path, shard: int) -> dict[str, NDArray[Any]]:
    """The tokens of one finished shard; see ``TransferSet.tokens``."""
    from safetensors.numpy import load

    facts = shard_facts(directory, shard)
    if facts is None or "tokens" not in facts["files"]:
        raise UserError(f"{directory}: holds no tokens (shard {shard}), only images")
    data = _checked(part_path(directory, "tokens", shard), facts["files"]["tokens"])
    arrays: dict[str, NDArray[Any]] = load(data)
    return arrays


def _checked(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, though its shard was finished") from error
    if digest_of(data) != digest:
        raise UserError(f"{path}: damaged, it is not what was written")
    return data


def write_header(directory: Path, header: Mapping[str, Any]) -> TransferSet:
    """Declare a set finished: count its shards and write ``transfer_set.json``.

    Args:
        header: at least ``source``, ``num_shards``, ``files`` (an ``ImageFiles``) and ``classes``.

    Raises:
        UserError: a shard is missing or damaged.
    """
    full = {"format": FORMAT, "num_images": 0, **header}
    found = open_shards(directory, full)
    full["num_images"] = len(found)
    write_json(directory / HEADER, full)
    return read_transfer_set(directory)


def read_transfer_set(directory: str | Path) -> TransferSet:
    """Open a set; manifests and sizes are checked now, each image when it is loaded.

    Raises:
        UserError: no set there, one that is not finished, of another genkt, or damaged.
    """
    root = Path(directory).expanduser()
    path = root / HEADER
    if not path.is_file():
        if (root / "run.json").is_file():
            raise UserError(
                f"{root}: its transfer set is not finished; repeat its command to continue it"
            )
        raise UserError(f"{root}: expected a transfer set (with {HEADER}), found none")
    try:
        header = read_json(path)
        known = header["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged, not the header of a transfer set") from error
    if not known:
        raise UserError(f"{path}: format {header['format']}, this genkt reads {FORMAT}")
    found = open_shards(root, header)
    if len(found) != header["num_images"]:
        raise UserError(
            f"{root}: expected {header['num_images']} images, its shards hold {len(found)}"
        )
    return found


def open_shards(root: Path, header: Mapping[str, Any]) -> TransferSet:
    """The set that finished shards make up, whether its header is written or not."""
    ids: list[str] = []
    labels: list[int] = []
    items: list[int] = []
    starts = [0]
    for shard in range(header["num_shards"]):
        records = read_records(root, shard)
        _check_tar(root, shard)
        ids += [record.id for record in records]
        labels += [record.label for record in records]
        items += [_NO_OFFSET if r.offset is None else r.offset for r in records]
        starts.append(len(ids))
    images = ImageSet(ids, labels, header["classes"], items, _Opener(str(root)))
    return TransferSet(root, header, images, np.array(starts, dtype=np.int64))


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
