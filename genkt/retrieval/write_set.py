"""Writing what was retrieved: shard tasks that load images, cut crops anew and encode files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genkt.data.crops import CropSpec, make_crop
from genkt.data.images import ImageSet
from genkt.execution.tasks import Progress
from genkt.io import fingerprint
from genkt.transfer_set.set_files import ImageFiles, ShardWriter, shard_facts

_PARTS = ("shards", "manifest", "images")  # the marker first


@dataclass(frozen=True)
class Taken:
    """One retrieved image.

    Args:
        query: id of the query that found it, None where there is none.
        crop: its number, None for a whole image.
        detail: what else the record says.
    """

    query: str | None
    crop: int | None
    detail: dict[str, Any]


@dataclass(frozen=True)
class WriteTask:
    """Write one shard of a set.

    Args:
        out: the set's folder.  shard: its number.
        images: the images of the shard.  taken: one for each of them.
        crops: of the gallery.
        files: how images are stored.  max_side: of larger ones.
        num_threads: threads that load and encode.
    """

    out: str
    shard: int
    images: ImageSet
    taken: Sequence[Taken]
    crops: CropSpec
    files: ImageFiles
    max_side: int | None
    num_threads: int

    @property
    def name(self) -> str:
        """See ``ShardTask``."""
        return f"images {self.shard}"

    @property
    def size(self) -> int:
        """See ``ShardTask``."""
        return len(self.images)

    def is_done(self) -> bool:
        """See ``ShardTask``; suspects may have been decided otherwise since a shard was written."""
        facts = shard_facts(Path(self.out), self.shard)
        return facts is not None and facts.get("content") == self.content

    @cached_property
    def content(self) -> str:
        """Fingerprint of which images the shard holds."""
        taken = [[each.query, each.crop, each.detail] for each in self.taken]
        return fingerprint(list(self.images.ids), taken)

    def run(self, progress: Progress) -> None:
        """See ``ShardTask``."""
        if self.is_done():
            return
        with (
            ThreadPoolExecutor(self.num_threads) as pool,
            ShardWriter(Path(self.out), self.shard, self.files) as writer,
        ):
            made = pool.map(self._file, range(len(self.images)))
            for number, ((data, about), taken) in enumerate(zip(made, self.taken, strict=True)):
                detail = taken.detail | about
                writer.add(data, number, source="retrieved", parent=taken.query, detail=detail)
                progress(1)
            writer.finish({"made": len(self.images), "dropped": {}, "content": self.content})

    def _file(self, place: int) -> tuple[bytes, dict[str, Any]]:
        """The encoded image, and what is known of its crop."""
        picture, taken, about = self.images.load(place), self.taken[place], dict[str, Any]()
        if taken.crop is not None:
            crop = make_crop(picture, self.crops, self.images.ids[place], taken.crop)
            picture = crop.picture
            about = {"crop": {"index": taken.crop, "box": crop.box, "operations": crop.operations}}
        else:
            picture = at_most(picture, self.max_side)
        return self.files.encode(np.asarray(picture)), about


def remove_shards(out: Path, first: int) -> None:
    """Remove the shards from number ``first`` on, of an earlier attempt that kept more images."""
    for path in (path for part in _PARTS for path in (out / part).glob("[0-9]*")):
        if int(path.name.partition(".")[0]) < first:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def at_most(picture: Image.Image, side: int | None) -> Image.Image:
    """A picture whose longer side has at most so many pixels."""
    if side is None or max(picture.size) <= side:
        return picture
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture
