"""A teacher's outputs computed as shard tasks, then merged into the store one process writes.

A shard is a store of its own, of some consecutive samples, below ``<fingerprint>.shards/`` beside
the whole store: so it is resumed, checked and computed once like any other.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from genkt.data.images import ImageSet
from genkt.data.views import ViewSpec
from genkt.execution.ranks import device_here
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import IN_PROCESS, ExecutorSettings, Progress, processes_of
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.stores.teacher_outputs import OutputStore, StoreWriter, store_lock, store_path
from genkt.training.lost_images import LostImages
from genkt.training.store_job import Caching, Precision, StoreJob, shards_of
from genkt.training.teacher import OutputName, checked_outputs
from genkt.types import UserError

logger = logging.getLogger("genkt")

_LEAST_ROWS = 1024
_MOST_SHARDS = 256
_MERGED_ROWS = 4096
_MERGED_BYTES = 64 << 20


@dataclass(frozen=True)
class TeacherSource:
    """Where any process finds a teacher.

    Args:
        spec: what to load.  seed: of weights that are not loaded.  device: auto, cpu or cuda.
    """

    spec: ModelSpec
    seed: int
    device: str


def load_once(source: TeacherSource) -> tuple[Backbone, str]:
    """The teacher, frozen, on this process's device, and its fingerprint; loaded once per process.

    Raises:
        UserError: see ``load_model``.
    """
    return _loaded(json.dumps(asdict(source)))


@lru_cache(maxsize=1)
def _loaded(described: str) -> tuple[Backbone, str]:
    values = json.loads(described)
    teacher = load_model(ModelSpec(**values["spec"]), seed=values["seed"]).freeze()
    fingerprint = teacher.fingerprint()
    return teacher.to(device_here(values["device"])), fingerprint


@dataclass(frozen=True)
class CacheTask:
    """The outputs on some consecutive samples.

    Args:
        source: the teacher.  fingerprint: what it must have.
        images, views, caching: see ``StoreJob``.
        home: folder of this store.  name: of the task.
        path: of this store when it is finished.  whole: of the store that it becomes a part of.
        survives: images that can no longer be read are left out.
    """

    source: TeacherSource
    fingerprint: str
    images: ImageSet
    views: ViewSpec
    caching: Caching
    home: str
    name: str
    path: str
    whole: str
    survives: bool = False

    @property
    def size(self) -> int:
        """See ``ShardTask``."""
        return len(self.images) * self.views.num_views

    def is_done(self) -> bool:
        """Whether the store is there, or has become a part of the whole already."""
        return Path(self.path).is_dir() or Path(self.whole).is_dir()

    def run(self, progress: Progress) -> None:
        """See ``ShardTask``."""
        self.store(progress)

    def store(self, progress: Progress = lambda _: None) -> OutputStore:
        """The outputs, found intact or computed.

        Raises:
            UserError: the teacher is not the one the run began with; outputs that are not finite.
        """
        teacher, fingerprint = load_once(self.source)
        if fingerprint != self.fingerprint:
            raise UserError(
                f"{self.name}: {self.source.spec.name} has other weights here than where the run "
                "began; give the same files everywhere"
            )
        job = StoreJob(teacher, fingerprint, self.images, self.views, self.caching)
        # What is lost is told, and too much of it refused, where the shards become one store.
        lost = LostImages(most=1.0, tell=logger.info) if self.survives else None
        device = next(teacher.parameters()).device
        return job.stored(Path(self.home), device, progress=progress, lost=lost)


def cache_by_tasks(
    source: TeacherSource,
    images: ImageSet,
    views: ViewSpec,
    home: str | Path,
    *,
    executor: ExecutorSettings,
    outputs: Sequence[OutputName] = ("features", "logits"),
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int = 64,
    num_workers: int = 0,
    precision: Precision = "float32",
    lost: LostImages | None = None,
) -> OutputStore:
    """As ``cache_outputs``, by any executor: the same store, byte for byte, from the same batches.

    Args:
        source: the teacher, which every process loads for itself.
        executor: who computes; a single process of its own needs no shards.
        images, views, home, outputs, dtype, batch_size, num_workers, precision, lost: see
            ``cache_outputs``.

    Raises:
        UserError: as ``cache_outputs`` and ``run_tasks``.
    """
    home = Path(home).resolve()
    kept = checked_outputs(images, views, outputs, precision, batch_size)
    teacher, fingerprint = load_once(source)
    caching = Caching(kept, dtype, precision, batch_size, num_workers)
    job = StoreJob(teacher, fingerprint, images, views, caching)
    processes = processes_of(executor)
    if executor.name in IN_PROCESS and processes.world_size == 1:
        return job.stored(home, next(teacher.parameters()).device, shown=True, lost=lost)
    with store_lock(home, job.identity):  # removes a damaged one before any task looks
        store = job.found(home, lost)
    if store is None:
        store = _by_tasks(source, job, home, executor, survives=lost is not None)
    job.count(store.lost, lost)
    return store


def _by_tasks(
    source: TeacherSource, job: StoreJob, home: Path, executor: ExecutorSettings, *, survives: bool
) -> OutputStore:
    processes = processes_of(executor)
    tasks = list(_tasks(source, job, home, survives))
    run_tasks(
        tasks, executor, description=f"teacher {job.teacher.name}", processes=processes,
        on_gpu=source.device != "cpu",
    )  # fmt: skip
    with store_lock(home, job.identity):
        store = job.found(home)
        return store if store is not None else _merged(job, tasks, home)


def _tasks(source: TeacherSource, job: StoreJob, home: Path, survives: bool) -> Iterator[CacheTask]:
    whole = store_path(home, job.identity)
    parts = shards_of(whole)
    step = samples_per_shard(len(job.images), job.views.num_views, job.caching.batch_size)
    for start in range(0, len(job.images), step):
        rows = range(start, min(start + step, len(job.images)))
        images = job.images.select(rows)
        own = StoreJob(job.teacher, job.fingerprint, images, job.views, job.caching)
        yield CacheTask(
            source, job.fingerprint, images, job.views, job.caching, str(parts),
            f"teacher {job.teacher.name}, samples {rows.start} to {rows.stop - 1}",
            str(store_path(parts, own.identity)), str(whole), survives,
        )  # fmt: skip


def samples_per_shard(num_samples: int, num_views: int, batch_size: int) -> int:
    """Samples of a shard: its rows are whole batches, so that all batches are those of one process.

    >>> samples_per_shard(num_samples=2000, num_views=3, batch_size=64)  # 384 * 3 = 18 * 64
    384
    """
    rows = max(_LEAST_ROWS, math.ceil(num_samples * num_views / _MOST_SHARDS))
    whole = batch_size // math.gcd(batch_size, num_views)
    return math.ceil(rows / (whole * num_views)) * whole


def _merged(job: StoreJob, tasks: Sequence[CacheTask], home: Path) -> OutputStore:
    """Copy the shards' rows, in order, from where an interrupted merge stopped."""
    writer = StoreWriter(home, job.identity, job.layout)
    try:
        start = 0
        for task in tasks:
            stop = start + task.size
            if writer.num_done < stop:
                _append(writer, task.store(), start)
            start = stop
        store = writer.finish()
    finally:
        writer.close()
    shutil.rmtree(tasks[0].home, ignore_errors=True)
    return store


def _append(writer: StoreWriter, part: OutputStore, start: int) -> None:
    """The rows of a part, which begins at row ``start``, that the whole does not have yet."""
    writer.lost |= {start + row: error for row, error in part.lost.items()}
    row_bytes = part.layout.num_bytes // len(part)
    step = max(1, min(_MERGED_ROWS, _MERGED_BYTES // row_bytes))
    while (done := writer.num_done - start) < len(part):
        output = part.stored_rows(np.arange(done, min(done + step, len(part))))
        rows = {name: getattr(output, name).flatten(1) for name in part.layout.widths}
        writer.write(writer.num_done, rows)
