"""The rows of a gallery as a search reads them: several stores side by side, opened by a path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.data.crops import crop_id
from genkt.files import read_signed, write_array, write_signed
from genkt.io import fingerprint, fingerprint_ids
from genkt.stores.embeddings import EmbeddingStore
from genkt.types import UserError

_REMEDY = "repeat the command, it is written again"


@dataclass(frozen=True)
class StoredGallery:
    """Rows of images in the order they were asked for, K per image, read from memory maps.

    It pickles as its path: a task in another process opens it anew.

    Args:
        where: the folder that ``open_gallery`` wrote.
        only: places of the encoders that count; None: all.
    """

    where: str
    only: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.only)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return read_signed(Path(self.where) / "gallery.json", "a gallery", _REMEDY)

    @property
    def rows_per_image(self) -> int:
        """K."""
        return int(self._facts["rows_per_image"])

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.images) * self.rows_per_image

    @property
    def fingerprint(self) -> str:
        """Of the encoders, the crops and the ids: of all that a search depends on."""
        return str(self._facts["fingerprint"])

    @property
    def skipped(self) -> dict[str, str]:
        """Images that could not be read, and why; they have no rows."""
        return dict(self._facts["skipped"])

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """[N] the places of its images in the set that was embedded."""
        return self._array("images")

    def _array(self, name: str) -> NDArray[np.int64]:
        array: NDArray[np.int64] = np.load(Path(self.where) / f"{name}.npy", mmap_mode="r")
        return array

    @cached_property
    def _locations(self) -> NDArray[np.int64]:
        return self._array("locations")

    @cached_property
    def _text(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        blob: NDArray[np.uint8] = np.load(Path(self.where) / "ids.npy", mmap_mode="r")
        return self._array("ends"), blob

    def features(self, start: int, stop: int) -> tuple[NDArray[np.float16], ...]:
        """Rows start .. stop: one [stop - start, D_e] array per encoder."""
        return self.gather(np.arange(start, stop, dtype=np.int64))

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float16], ...]:
        """Any rows, in the order asked: one [n, D_e] array per encoder."""
        images, parts = np.divmod(np.asarray(rows, dtype=np.int64), self.rows_per_image)
        stores = self._facts["stores"]
        found = []
        for encoder in range(len(stores)) if self.only is None else self.only:
            shards, first = self._locations[encoder, images].T
            found.append(_read(stores[encoder], shards, first + parts))
        return tuple(found)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """What rows are called: an image's id, or that of one of its crops."""
        images, parts = np.divmod(np.asarray(rows, dtype=np.int64), self.rows_per_image)
        names = [self._name(image) for image in images.tolist()]
        if not self._facts["crops"]:
            return names
        return [crop_id(name, part) for name, part in zip(names, parts.tolist(), strict=True)]

    def _name(self, image: int) -> str:
        ends, blob = self._text
        start = int(ends[image - 1]) if image else 0
        return blob[start : int(ends[image])].tobytes().decode()


def _read(
    store: dict[str, Any], shards: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    """Rows of several shards; one copy, or none where they lie side by side."""
    found = np.empty((len(rows), store["width"]), dtype=np.float16)
    for shard in np.unique(shards):
        path = Path(store["path"]) / "shards" / f"{store['names'][shard]}.npy"
        array: NDArray[np.float16] = np.load(path, mmap_mode="r")
        here = shards == shard
        wanted = rows[here]
        side_by_side = len(wanted) == wanted[-1] - wanted[0] + 1 and (np.diff(wanted) == 1).all()
        chosen = array[wanted[0] : wanted[-1] + 1] if side_by_side else array[wanted]
        if here.all():
            return chosen
        found[here] = chosen
    return found


def open_gallery(
    ids: Sequence[str], stores: Sequence[EmbeddingStore], where: Path
) -> StoredGallery:
    """Find the rows of images in stores that hold them all, and write down where they are.

    Args:
        ids: N images, each once.
        stores: one per encoder, all of the same crops.
        where: a folder of the run. What is written there goes by a name of its content: another
            process may find the same rows in other shards, and neither reads half of each.

    Raises:
        UserError: an image without rows.
    """
    located = [store.locate(ids) for store in stores]
    skipped = {each: why for _, _, unread in located for each, why in unread.items()}
    there = np.array([each not in skipped for each in ids], dtype=bool)
    for _, places, _ in located:
        if len(lost := np.flatnonzero(there & (places[:, 0] < 0))):
            raise UserError(
                f"embedding of {ids[lost[0]]}: not in the store any more; repeat the command"
            )
    kept = [each.encode() for each, is_there in zip(ids, there.tolist(), strict=True) if is_there]
    arrays = {
        "images": np.flatnonzero(there),
        "locations": np.stack([places[there] for _, places, _ in located]),
        "ids": np.frombuffer(b"".join(kept), dtype=np.uint8),
        "ends": np.cumsum([len(name) for name in kept], dtype=np.int64),
    }
    names = [found for found, _, _ in located]
    kept_ids = fingerprint_ids(each for each, here in zip(ids, there.tolist(), strict=True) if here)
    where = where / fingerprint(kept_ids, names, arrays["locations"].tobytes())
    for name, array in arrays.items():
        write_array(where / f"{name}.npy", array)
    identities = [json.loads(json.dumps(dict(store.identity))) for store in stores]
    facts = {
        "rows_per_image": stores[0].rows_per_image,
        "crops": bool(identities[0]["crops"]),
        "fingerprint": fingerprint(identities, kept_ids),
        "skipped": skipped,
        "stores": [
            {"path": str(store.path), "width": store.identity["width"], "names": found}
            for store, found in zip(stores, names, strict=True)
        ],
    }
    write_signed(where / "gallery.json", facts)
    return StoredGallery(str(where))
