"""Pictures and tars for the tests of sources."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from genkt.data.images import ImageSet


def png(number: int, size: int = 6) -> bytes:
    """A small picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar of these members, in order, under exactly these names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def shard(path: Path, numbers: Sequence[int], classes: str = "") -> Path:
    """A tar of numbered pictures, with ``.cls`` members where there are classes."""
    members: list[tuple[str, bytes]] = []
    for number in numbers:
        members.append((f"{number:05d}.png", png(number)))
        if classes:
            members.append((f"{number:05d}.cls", classes[number % len(classes)].encode()))
    return write_tar(path, members)


def picture_folder(root: Path, numbers: Iterable[int]) -> Path:
    """``root/n.png`` for every number."""
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (root / f"{number}.png").write_bytes(png(number))
    return root


def overlap(a: ImageSet, b: ImageSet) -> list[tuple[str, str]]:
    """Pictures of ``b`` that ``a`` holds too, by content: (id in a, id in b), one pair each."""
    known: dict[str, str] = {}
    for sample_id in a.ids:
        known.setdefault(sample_id.rpartition("#")[2], sample_id)
    hashes = ((sample_id.rpartition("#")[2], sample_id) for sample_id in b.ids)
    return [(known[digest], sample_id) for digest, sample_id in hashes if digest in known]
