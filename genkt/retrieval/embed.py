"""Embedding: shard tasks that encode images, and the rows of a whole gallery afterwards."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.data.crops import CropSpec, make_crop
from genkt.data.images import ImageSet, UnreadableImage
from genkt.execution.ranks import device_here
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import HERE, IN_PROCESS, ExecutorSettings, Progress, ShardTask
from genkt.retrieval.encoder import TOGETHER, Encoder, EncoderSpec
from genkt.retrieval.encoders import identity_of, loaded
from genkt.retrieval.gallery import StoredGallery, open_gallery
from genkt.stores.chunk_files import tell_outdated
from genkt.stores.embeddings import EmbeddingStore

logger = logging.getLogger("genkt")

_AHEAD = 2

Prepared = NDArray[np.uint8] | str
"""[K, 3, H, W] pixels of an image's rows, or why it could not be read."""


@dataclass(frozen=True)
class EmbedTask:
    """Encode some images into one shard of a store.

    Args:
        home: folder of stores.  identity: of the store.
        shard: its name there.
        images: what to encode.
        crops: of each image; None: the whole image.
        encoder: loaded in the process that runs the task, or there already.
        device: auto, cpu or cuda.
        num_threads: threads that read images.
    """

    home: str
    identity: dict[str, Any]
    shard: str
    images: ImageSet
    crops: CropSpec | None
    encoder: EncoderSpec | Encoder
    device: str
    num_threads: int

    @property
    def name(self) -> str:
        """See ``ShardTask``."""
        return f"embeddings {self.encoder.name} {self.shard}"

    @property
    def size(self) -> int:
        """See ``ShardTask``."""
        return len(self.images)

    @property
    def store(self) -> EmbeddingStore:
        """Where the shard goes."""
        return EmbeddingStore(self.home, self.identity)

    def is_done(self) -> bool:
        """See ``ShardTask``."""
        return self.store.is_done(self.shard)

    def run(self, progress: Progress) -> None:
        """See ``ShardTask``."""
        if self.is_done():
            return
        encoder = self.encoder
        if isinstance(encoder, EncoderSpec):
            encoder = loaded(encoder, device_here(self.device), self.identity["encoder"])
        skipped: dict[str, str] = {}
        waiting = list[NDArray[np.uint8]]()
        rows: list[NDArray[np.floating[Any]]] = [np.empty((0, encoder.width))]
        for sample_id, prepared in self._prepared(encoder):
            progress(1)
            if isinstance(prepared, str):
                skipped[sample_id] = prepared
                continue
            waiting.extend(prepared)
            while len(waiting) >= TOGETHER:
                rows.append(encoder.encode(np.stack(waiting[:TOGETHER])))
                del waiting[:TOGETHER]
        if waiting:
            rows.append(encoder.encode(np.stack(waiting)))
        readable = [each for each in self.images.ids if each not in skipped]
        self.store.write(self.shard, readable, np.concatenate(rows), skipped)

    def _prepared(self, encoder: Encoder) -> Iterator[tuple[str, Prepared]]:
        """Every image's pixels in order, read ahead."""
        with ThreadPoolExecutor(self.num_threads) as pool:
            queue = deque[tuple[str, Future[Prepared]]]()
            for place, sample_id in enumerate(self.images.ids):
                queue.append((sample_id, pool.submit(self._prepare, encoder, place)))
                if len(queue) > _AHEAD * TOGETHER:
                    first, future = queue.popleft()
                    yield first, future.result()
            for sample_id, future in queue:
                yield sample_id, future.result()

    def _prepare(self, encoder: Encoder, place: int) -> Prepared:
        try:
            picture = self.images.load(place)
        except UnreadableImage as error:  # one among millions must not stop the others
            return str(error)
        if self.crops is None:
            return encoder.transform.to_uint8(picture).numpy()[None]
        sample_id, crops = self.images.ids[place], self.crops
        made = [
            make_crop(picture, crops, sample_id, index).picture for index in range(crops.per_image)
        ]
        return np.stack([encoder.transform.to_uint8(crop, cropped=True).numpy() for crop in made])


def worth_it(tasks: Sequence[ShardTask], executor: ExecutorSettings) -> ExecutorSettings:
    """The executor, or this process where a pool or a cluster would start for one task."""
    missing = sum(not task.is_done() for task in tasks)
    return HERE if missing < 2 and executor.name not in IN_PROCESS else executor


@dataclass(frozen=True)
class Embedder:
    """Encoders, and how and where their rows are made and kept.

    Args:
        encoders: loaded.
        specs: the same by name, for other processes; None for one given as an object.
        home: folder of stores.
        executor: who makes shards.
        shard_size: images of a shard.
        device, num_threads: see ``EmbedTask``.
    """

    encoders: Sequence[Encoder]
    specs: Sequence[EncoderSpec | None]
    home: str
    executor: ExecutorSettings
    shard_size: int
    device: str
    num_threads: int

    def tasks(self, images: ImageSet, crops: CropSpec | None = None) -> list[EmbedTask]:
        """What remains to be done until every image has its rows from all encoders."""
        found = []
        for encoder, spec in zip(self.encoders, self.specs, strict=True):
            identity = identity_of(encoder, crops, images.decoding)
            for shard in EmbeddingStore(self.home, identity).plan(images.ids, self.shard_size):
                chosen = images.select(shard.images)
                found.append(
                    EmbedTask(
                        self.home, identity, shard.name, chosen, crops, spec or encoder,
                        self.device, self.num_threads,
                    )
                )  # fmt: skip
        return found

    def embed(
        self, images: ImageSet, where: Path, description: str, crops: CropSpec | None = None
    ) -> StoredGallery:
        """Encode the images that are not stored yet, and open the rows of all images.

        Args:
            images: each id once.
            where: folder for what opens the rows again, in any process.
            description: of the bar.
            crops: of each image.
        """
        for encoder in self.encoders:
            tell_outdated(Path(self.home), identity_of(encoder, crops, images.decoding))
        tasks: Sequence[ShardTask] = self.tasks(images, crops)
        missing = sum(task.size for task in tasks if not task.is_done())
        if missing:
            total = len(images) * len(self.encoders)
            logger.info("%s: %d of %d embeddings are new", description, missing, total)
        run_tasks(
            tasks, worth_it(tasks, self.executor), description=description,
            on_gpu=self.device != "cpu",
        )  # fmt: skip
        identities = [identity_of(each, crops, images.decoding) for each in self.encoders]
        stores = [EmbeddingStore(self.home, identity) for identity in identities]
        return open_gallery(images.ids, stores, where)
