"""The files under a transfer set: encoded images in folders or tars, manifests, shard markers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.images import LostImage, content_hash
from genkt.disk import make_folder, naming_place
from genkt.files import SEAL, write_shard
from genkt.io import fingerprint, read_json, reading, temporary_prefix
from genkt.types import UNLABELLED, Range, UserError

HEADER = "transfer_set.json"

Source = Literal["real", "retrieved", "synthesized"]
"""The source of an image: a given one, one found elsewhere, or a generated one."""

LOSSLESS = 64
"""WebP pictures up to this side are lossless, as a lossy file is hardly smaller there."""

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")
"""Names that ``tempfile`` gives; other hidden files (.git, .cache) are not genkt's."""

_SUFFIXES = {"webp": "webp", "png": "png", "jpeg": "jpg"}
_PARTS = ("images", "tokens", "manifest", "shards")


@dataclass(frozen=True)
class ImageFiles:
    """How the images of a set are stored.

    Args:
        format: webp (lossless up to ``LOSSLESS`` pixels a side), png or jpeg.
        quality: of jpeg and of larger webp pictures.
        container: one folder per shard, or one WebDataset tar per shard (``key.webp`` and
        ``key.json`` for each image).
    """

    format: Literal["webp", "png", "jpeg"] = "webp"
    quality: Annotated[int, Range(1, 100)] = 90
    container: Literal["folder", "tar"] = "folder"

    @property
    def suffix(self) -> str:
        """The end of every file's name, without its dot."""
        return _SUFFIXES[self.format]

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """The file of one picture, [H, W, 3] uint8; equal pixels give equal bytes."""
        stream = io.BytesIO()
        image = Image.fromarray(pixels)
        if self.format == "webp" and max(image.size) <= LOSSLESS:
            image.save(stream, "WEBP", lossless=True, quality=60, method=3)
        elif self.format == "webp":
            image.save(stream, "WEBP", quality=self.quality, method=3)
        elif self.format == "png":
            image.save(stream, "PNG", compress_level=6)
        else:
            image.save(stream, "JPEG", quality=self.quality, subsampling=0)
        return stream.getvalue()


@dataclass(frozen=True)
class Record:
    """Where one image of a set is and where it comes from.

    Args:
        id: ``relative/path#content-hash``; inside a tar the path goes on with the member's name.
        label: class number, or ``UNLABELLED``.
        source: real, retrieved (a real image found elsewhere) or synthesized.
        parent: id of the image it was made from, or of the query that found it; None: there is
        none.
        offset: of its header in the tar, or None for a file of its own.
        detail: what else is known: mask, seed and sample; or query, score and crop.
    """

    id: str
    label: int = UNLABELLED
    source: Source = "synthesized"
    parent: str | None = None
    offset: int | None = None
    detail: Mapping[str, Any] | None = None

    @property
    def file(self) -> str:
        """Path of the image in the set."""
        return self.id.rpartition("#")[0]

    def line(self) -> str:
        """The record as a line of a manifest."""
        values = {
            "id": self.id,
            "file": self.file,
            "label": self.label,
            "source": self.source,
            "parent": self.parent,
            "offset": self.offset,
            "detail": dict(self.detail or {}),
        }
        return json.dumps(values, ensure_ascii=False) + "\n"

    @staticmethod
    def parse(line: str) -> Record:
        """The record that a line of a manifest holds."""
        values = json.loads(line)
        values.pop("file")
        return Record(**values)


def shard_name(shard: int) -> str:
    """The name of a shard's files."""
    return f"{shard:05d}"


def part_path(root: Path, part: str, shard: int) -> Path:
    """A shard's file in ``tokens``, ``manifest`` or ``shards``."""
    suffix = {"tokens": "safetensors", "manifest": "jsonl", "shards": "json"}[part]
    return root / part / f"{shard_name(shard)}.{suffix}"


def shard_facts(root: Path, shard: int) -> dict[str, Any] | None:
    """The content of a finished shard's marker; None if the shard is not finished."""
    path = part_path(root, "shards", shard)
    if not path.exists():
        return None
    expected, remedy = "the marker of a shard", "remove it to make the shard again"
    facts = read_json(path, expected, remedy)
    with reading(path, expected, remedy):
        seal = facts.pop(SEAL, None)
        if seal not in (None, fingerprint(facts)):  # none: written by an older genkt
            raise ValueError("it was altered")
        if not isinstance(facts["files"]["manifest"], str):
            raise TypeError("no digest of its manifest")
    return dict(facts)


def read_records(root: Path, shard: int) -> list[Record]:
    """The manifest of one finished shard.

    Raises:
        UserError: the shard is missing or damaged.
    """
    return [Record.parse(line.decode()) for line in manifest_lines(root, shard)]


def manifest_lines(root: Path, shard: int) -> list[bytes]:
    """The lines of a finished shard's manifest, checked; see ``read_records``."""
    facts = shard_facts(root, shard)
    path = part_path(root, "manifest", shard)
    if facts is None:
        raise UserError(f"{root}: shard {shard} is missing (shards/{shard:05d}.json)")
    # Split as bytes: a str would also break at characters that file names may hold (U+2028).
    return _checked(path, facts["files"]["manifest"]).splitlines()


def read_tokens(root: Path, shard: int) -> dict[str, NDArray[Any]]:
    """A finished shard's arrays, one row per image: ``tokens`` [n, h, w], ``hidden``, ``seeds``.

    Raises:
        UserError: a set that was not made from tokens, or a damaged file.
    """
    from safetensors.numpy import load

    facts = shard_facts(root, shard)
    if facts is None or "tokens" not in facts["files"]:
        raise UserError(f"{root}: holds no tokens (shard {shard}), only images")
    data = _checked(part_path(root, "tokens", shard), facts["files"]["tokens"])
    arrays: dict[str, NDArray[Any]] = load(data)
    return arrays


def _checked(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, though its shard was finished") from error
    if digest_of(data) != digest:
        raise UserError(f"{path}: damaged, expected the tokens that were written")
    return data


def is_leftover(path: Path) -> bool:
    """Whether a file or folder was left unfinished by a killed writer."""
    return _LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(root: Path) -> None:
    """Remove what a killed writer left unfinished; no other process may write meanwhile."""
    for folder in (root, *(root / part for part in _PARTS)):
        for path in folder.glob(".*") if folder.is_dir() else ():
            if not is_leftover(path):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class ShardWriter:
    """Writes one shard of a set, which exists completely after ``finish``, or not at all.

    Everything is written to temporary files first. The shard's marker comes last, and only the
    marker shows that a shard is finished. Writing a shard twice gives the same bytes.

    Example:
        >>> root = Path(tempfile.mkdtemp())
        >>> files = ImageFiles("png", container="tar")
        >>> with ShardWriter(root, 0, files) as writer:
        ...     data = files.encode(np.zeros((4, 4, 3), np.uint8))
        ...     record = writer.add(data, 0, detail={"seed": 7})
        ...     facts = writer.finish({"made": 1})
        >>> record.file, facts["num_images"]
        ('images/00000.tar/000000.png', 1)

    Args:
        root: the set's folder.
        shard: its number.
        files: how images are stored.
        classes: names for the labels in the tars' ``key.json``.
    """

    def __init__(
        self, root: Path, shard: int, files: ImageFiles, classes: tuple[str, ...] = ()
    ) -> None:
        self.root, self.shard, self.files, self.classes = root, shard, files, classes
        self._lines: list[str] = []
        self._exits = ExitStack()
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> Self:
        home = self.root / "images"
        make_folder(home)
        prefix = temporary_prefix(shard_name(self.shard))
        temporary = tempfile.TemporaryDirectory(prefix=prefix, dir=home, ignore_cleanup_errors=True)
        self._new = Path(self._exits.enter_context(temporary)) / self._home.name
        if self.files.container == "tar":
            stream = self._exits.enter_context(open(self._new, "wb"))
            self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
        else:
            self._new.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @property
    def _home(self) -> Path:
        suffix = ".tar" if self.files.container == "tar" else ""
        return self.root / "images" / f"{shard_name(self.shard)}{suffix}"

    def add(
        self,
        data: bytes,
        number: int,
        *,
        label: int = UNLABELLED,
        source: Source = "synthesized",
        parent: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Record:
        """Add an image's file.

        Args:
            data: as ``ImageFiles.encode`` made it.
            number: its place in the shard; the file is named after it.
            label, source, parent, detail: see ``Record``.
        """
        key = f"{number:06d}"
        name = f"{key}.{self.files.suffix}"
        offset = None if self._tar is None else self._tar.offset
        record = Record(
            f"images/{self._home.name}/{name}#{content_hash(data)}",
            label, source, parent, offset, detail,
        )  # fmt: skip
        with naming_place(self._home, num_bytes=len(data)):
            self._write(key, name, data, record)
        self._lines.append(record.line())
        return record

    def _write(self, key: str, name: str, data: bytes, record: Record) -> None:
        if self._tar is None:
            (self._new / name).write_bytes(data)
        else:
            label = record.label
            about: dict[str, Any] = {"id": record.id, "label": label, "source": record.source}
            about |= {"class": self.classes[label]} if 0 <= label < len(self.classes) else {}
            about |= {"parent": record.parent, **(record.detail or {})}
            self._add_member(name, data)
            self._add_member(f"{key}.json", json.dumps(about, ensure_ascii=False).encode())

    def _add_member(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)  # mtime, uid and gid 0, no names: the same bytes each time
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def finish(
        self, facts: Mapping[str, Any], tokens: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, Any]:
        """Move all files to their final places.

        Args:
            facts: plain values for the marker, such as how many images were dropped.
            tokens: arrays with one row per image, in the order of ``add``.

        Returns:
            The marker's content: the facts, ``num_images``, digests and sizes of the files.
        """
        if self._tar is not None:
            assert self._tar.fileobj is not None
            with naming_place(self._home):
                self._tar.close()
                self._tar.fileobj.close()
        checks: dict[str, Any] = {}
        marker = part_path(self.root, "shards", self.shard)
        marker.unlink(missing_ok=True)
        self._publish_images()
        if self.files.container == "tar":
            checks["tar_bytes"] = self._home.stat().st_size
        files: dict[Path, bytes | NDArray[Any]] = {}
        if tokens:
            from safetensors.numpy import save

            files[part_path(self.root, "tokens", self.shard)] = data = save(dict(tokens))
            checks["tokens"] = digest_of(data)
        manifest = "".join(self._lines).encode()
        files[part_path(self.root, "manifest", self.shard)] = manifest
        checks["manifest"] = digest_of(manifest)
        told = {**facts, "num_images": len(self._lines), "files": checks}
        write_shard(marker, files, told)
        return told

    def _publish_images(self) -> None:
        if self.files.container == "tar":
            os.replace(self._new, self._home)
            return
        # An earlier attempt that ended before its marker, or another worker with the same bytes.
        shutil.rmtree(self._home, ignore_errors=True)
        try:
            self._new.rename(self._home)
        except OSError:
            if not self._home.is_dir():
                raise


def read_image_file(root: Path, record_file: str, offset: int | None) -> bytes:
    """The encoded bytes of one image of a set.

    Raises:
        LostImage: its file is missing, or the tar has other content there.
    """
    path = root / record_file
    try:
        if offset is None:
            return path.read_bytes()
        with open(path.parent, "rb") as stream:
            stream.seek(offset)
            member = tarfile.TarInfo.frombuf(
                stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape"
            )
            if member.name != path.name:
                reason = f"damaged, {path.name} is not where it was written"
                raise LostImage(str(path.parent), reason)
            return stream.read(member.size)
    except tarfile.HeaderError as error:
        raise LostImage(str(path.parent), f"damaged at {path.name}: {error}") from error
    except OSError as error:
        reason = f"{error.strerror}, though the set's manifest names it"
        raise LostImage(str(path), reason) from error


def digest_of(data: bytes) -> str:
    """32 hex digits of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
