"""Embeddings on disk: unit rows in float16 shards, looked up by image id, never stale.

A store holds one encoder's embeddings of images, or of seeded crops of them. It is a folder named
by the fingerprint of its identity (the encoder's weights, its transform, the crops)::

    <home>/<fingerprint>/store.json            the identity
    <home>/<fingerprint>/shards/<name>.npy     [images x K, D] float16, K rows per image
    <home>/<fingerprint>/shards/<name>.json    its images' ids, a digest, what could not be read
    <home>/<fingerprint>/plans/<name>.json     the missing images of a gallery, which are to be made

A shard is named by its requested ids. It is written to a temporary file and renamed, and its JSON
comes last. So any process that makes it gives the same file or none. An id contains the hash of the
image's content, so a changed image is another image. New images of a gallery go to new shards;
removed images are no longer requested.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from genkt.data.crops import CropSpec
from genkt.disk import make_folder
from genkt.files import discard, read_or_forget, read_signed, write_shard
from genkt.io import (
    clear_dead_temporaries,
    fingerprint,
    fingerprint_ids,
    read_json,
    reading,
    write_json,
)
from genkt.stores.chunk_files import decoding_key
from genkt.types import UserError

logger = logging.getLogger("genkt")

FORMAT = 1
CHECKED_BYTES = 256 << 20
"""For a larger store, only this many bytes, spread evenly, are checked against digests."""


def embedding_identity(
    *,
    encoder: str,
    width: int,
    transform: Mapping[str, Any],
    crops: CropSpec | None,
    decoding: int = 1,
) -> dict[str, Any]:
    """Everything a stored row depends on except the image; a store has only one identity.

    Args:
        encoder: fingerprint of its weights.  width: D.  transform: how it sees a picture.
        crops: of a gallery of crops.  decoding: see ``ImageSet.decoding``.
    """
    return {
        "format": FORMAT,
        "encoder": encoder,
        "width": width,
        "transform": dict(transform),
        "crops": crops.as_dict() if crops is not None else None,
        **decoding_key(decoding),
    }


@dataclass(frozen=True)
class PlannedShard:
    """A shard to be made.

    Args:
        name: its name.
        images: [n] places of its images among the requested ones.
    """

    name: str
    images: NDArray[np.int64]


@dataclass(frozen=True)
class EmbeddingStore:
    """One encoder's embeddings of images.

    Args:
        home: folder of stores.  identity: see ``embedding_identity``.

    Example:
        >>> import tempfile
        >>> identity = embedding_identity(encoder="a", width=2, transform={}, crops=None)
        >>> store = EmbeddingStore(tempfile.mkdtemp(), identity)
        >>> ids = ["x.png#0", "y.png#1", "z.png#2"]
        >>> for shard in store.plan(ids, shard_size=2):
        ...     named = [ids[place] for place in shard.images]
        ...     store.write(shard.name, named, np.ones((len(named), 2)))
        >>> [len(shard.images) for shard in store.plan([*ids, "new.png#3"], shard_size=2)]
        [1]
    """

    home: str
    identity: Mapping[str, Any]

    @cached_property
    def path(self) -> Path:
        """The store's folder."""
        return Path(self.home) / fingerprint(self.identity)

    @property
    def rows_per_image(self) -> int:
        """K: one row per image, or one per crop."""
        crops = self.identity["crops"]
        return int(crops["per_image"]) if crops else 1

    def plan(self, ids: Sequence[str], shard_size: int) -> list[PlannedShard]:
        """The shards to add to the existing ones so that every id has its rows.

        The plan is saved. So processes that share the work, and a continued run, split the missing
        images in the same way.

        Args:
            ids: of the wanted images, each once.
            shard_size: images of a shard.
        """
        path = self.path / "plans" / f"{fingerprint_ids([*ids, str(shard_size)])}.json"
        make_folder(path.parent)
        with FileLock(self.path / ".lock"):
            for folder in (self.path, self.path / "shards", self.path / "plans"):
                clear_dead_temporaries(folder)
            if not (self.path / "store.json").is_file():
                write_json(self.path / "store.json", dict(self.identity))
            known = self.known(ids)
            planned = self._planned(path, ids, shard_size) if path.exists() else None
            if planned is not None and known.issuperset(_outside(ids, planned)):
                return planned
            missing = np.flatnonzero([each not in known for each in ids])
            write_json(path, _as_ranges(missing))
            return _cut(ids, _as_ranges(missing), shard_size)

    def _planned(
        self, path: Path, ids: Sequence[str], shard_size: int
    ) -> list[PlannedShard] | None:
        """The shards of an earlier plan; None if it is damaged."""
        expected = "which images are missing"

        def read() -> list[PlannedShard]:
            ranges = read_json(path, expected)
            with reading(path, expected):
                if any(not 0 <= start < stop <= len(ids) for start, stop in ranges):
                    raise ValueError("of other images")
                return _cut(ids, ranges, shard_size)

        return read_or_forget(path, read, "planned anew")

    def known(self, ids: Iterable[str]) -> set[str]:
        """The ids that are in a finished shard, including those that could not be read."""
        wanted, known = set(ids), set[str]()
        for shard in self._shards():
            known.update(wanted.intersection(shard["ids"]), wanted.intersection(shard["skipped"]))
        return known

    def is_done(self, name: str) -> bool:
        """Whether a shard is there."""
        return (self.path / "shards" / f"{name}.json").is_file()

    def write(
        self,
        name: str,
        ids: Sequence[str],
        rows: NDArray[np.floating[Any]],
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        """Write a shard.

        Args:
            name: from its plan.
            ids: n images, those that could be read.
            rows: [n K, D]; scaled to unit length here.
            skipped: the others, and why.

        Raises:
            UserError: a row that is not finite.
        """
        expected = (len(ids) * self.rows_per_image, self.identity["width"])
        assert rows.shape == expected, (rows.shape, expected)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            wrong = ids[int(finite.argmin()) // self.rows_per_image]
            raise UserError(f"embedding of {wrong}: NaN or infinite; check the encoder's weights")
        array = unit_rows(rows)
        path = self.path / "shards" / f"{name}.npy"
        facts = {"ids": list(ids), "skipped": dict(skipped or {}), "rows": _digest(array)}
        facts |= {"identity": fingerprint(self.identity)}
        write_shard(path.with_suffix(".json"), {path: array}, facts)

    def locate(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.int64], dict[str, str]]:
        """Where the rows of images are.

        Returns:
            Names of shards; [N, 2] the shard (of these) and first row of each id, -1 where it is
            not there; ids that could not be read, and why.
        """
        place = {each: index for index, each in enumerate(ids)}
        names, skipped = list[str](), dict[str, str]()
        found = np.full((len(ids), 2), -1, dtype=np.int64)
        for shard in self._shards():
            here = [(place[each], row) for row, each in enumerate(shard["ids"]) if each in place]
            new = [(index, row) for index, row in here if found[index, 0] < 0]
            skipped |= {k: v for k, v in shard["skipped"].items() if k in place}
            if not new:
                continue
            for index, row in new:
                found[index] = len(names), row * self.rows_per_image
            names.append(shard["name"])
        # Another process may have read what one could not.
        return names, found, {k: why for k, why in skipped.items() if found[place[k], 0] < 0}

    def _shards(self) -> list[dict[str, Any]]:
        """The JSON of every intact shard, by name."""
        paths = sorted((self.path / "shards").glob("[!.]*.json"))
        stride = max(1, -(-self._num_bytes() // CHECKED_BYTES))
        shards = [self._read(path, index % stride == 0) for index, path in enumerate(paths)]
        return [shard for shard in shards if shard is not None]

    def _num_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.path / "shards").glob("[!.]*.npy"))

    def _read(self, path: Path, check: bool) -> dict[str, Any] | None:
        """A shard's JSON; a damaged shard is removed, so that it is made again."""
        try:
            shard = read_signed(path, "a shard of embeddings")
            array = np.load(path.with_suffix(".npy"), mmap_mode="r")
            whole = array.shape == (len(shard["ids"]) * self.rows_per_image, self.identity["width"])
            whole &= array.dtype == np.float16 and shard["identity"] == self.path.name
            whole &= not check or _digest(array) == shard["rows"]
        except (OSError, ValueError, EOFError, KeyError, TypeError):
            whole = False
        if whole:
            return shard | {"name": path.stem}
        logger.warning("%s: damaged, its images are embedded again", path.with_suffix(".npy"))
        discard(path)
        if path.with_suffix(".npy").is_dir():
            discard(path.with_suffix(".npy"))
        return None


def unit_rows(rows: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """[n, D] rows scaled to length 1, in float16; a row of zeros becomes a row of equal values."""
    wide = rows.astype(np.float64)
    wide[~wide.any(axis=1)] = 1.0
    unit: NDArray[np.float16] = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(
        np.float16
    )
    return unit


def _digest(array: NDArray[np.float16]) -> str:
    return fingerprint(np.ascontiguousarray(array).tobytes())


def _as_ranges(places: NDArray[np.int64]) -> list[list[int]]:
    """Ascending places as [start, stop) ranges.

    >>> _as_ranges(np.array([0, 1, 2, 5, 7, 8]))
    [[0, 3], [5, 6], [7, 9]]
    """
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.r_[0, breaks + 1]]
    stops = places[np.r_[breaks, len(places) - 1]] + 1
    return [[int(a), int(b)] for a, b in zip(starts, stops, strict=True)]


def _cut(ids: Sequence[str], ranges: list[list[int]], shard_size: int) -> list[PlannedShard]:
    """The images of some ranges in shards, each named by its ids."""
    parts = [np.arange(start, stop, dtype=np.int64) for start, stop in ranges]
    places = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    shards = []
    for start in range(0, len(places), shard_size):
        images = places[start : start + shard_size]
        name = fingerprint_ids(ids[place] for place in images.tolist())
        shards.append(PlannedShard(name, images))
    return shards


def _outside(ids: Sequence[str], shards: Sequence[PlannedShard]) -> list[str]:
    """The ids that are in no shard of the plan."""
    planned = np.zeros(len(ids), dtype=bool)
    for shard in shards:
        planned[shard.images] = True
    return [ids[place] for place in np.flatnonzero(~planned).tolist()]
