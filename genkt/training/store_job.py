"""One store of a teacher's outputs: found intact, or computed."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genkt.data.images import ImageSet, LostImage
from genkt.data.views import ViewDataset, ViewSpec
from genkt.execution.tasks import Progress
from genkt.files import discard
from genkt.models.backbone import Backbone
from genkt.progress import Reporter
from genkt.stores.chunk_files import tell_outdated
from genkt.stores.teacher_outputs import (
    NonFiniteError,
    OutputStore,
    StoreError,
    StoreLayout,
    StoreWriter,
    logger,
    store_identity,
    store_lock,
    store_path,
)
from genkt.training.lost_images import LostImages
from genkt.training.row_pictures import RowBatch, RowPictures, row_pictures
from genkt.types import ModelOutput, UserError

TEACHER_BATCH = 64
"""Rows of a teacher's forward pass."""

Precision = Literal["float32", "bfloat16", "float16"]
AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a forward pass computes in; None: no autocast."""


def _silent(count: int) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True)
class Caching:
    """What is kept of a teacher's outputs, and how they are computed.

    Args:
        outputs: in the store's order.  dtype: of the stored values.
        precision: what the forward pass computes in.  batch_size: rows per forward pass.
        num_workers: processes that render; 0: threads.
    """

    outputs: tuple[str, ...]
    dtype: Literal["float16", "float32"]
    precision: Precision
    batch_size: int
    num_workers: int


@dataclass(frozen=True)
class StoreJob:
    """One store to be computed: a teacher, checked images and views.

    Args:
        fingerprint: the teacher's.
    """

    teacher: Backbone
    fingerprint: str
    images: ImageSet
    views: ViewSpec
    caching: Caching

    @property
    def identity(self) -> dict[str, Any]:
        """What names the store."""
        return store_identity(
            teacher=self.fingerprint,
            transform=self.teacher.transform.as_dict(),
            views=self.views,
            dtype=self.caching.dtype,
            outputs=self.caching.outputs,
            precision=self.caching.precision,
            ids=self.images.ids,
            map_shape=self._map_shape,
            decoding=self.images.decoding,
        )

    @property
    def layout(self) -> StoreLayout:
        """Its sizes."""
        map_shape = self._map_shape
        widths = {
            "features": self.teacher.width,
            "logits": self.teacher.num_classes,
            "feature_map": math.prod(map_shape or ()),
        }
        return StoreLayout(
            num_rows=len(self.images) * self.views.num_views,
            widths={name: widths[name] for name in self.caching.outputs},
            dtype=self.caching.dtype,
            map_shape=map_shape,
        )

    @property
    def _map_shape(self) -> tuple[int, int, int] | None:
        return self.teacher.map_shape if "feature_map" in self.caching.outputs else None

    def stored(
        self, home: Path, device: torch.device, *, shown: bool = False,
        progress: Progress = _silent, lost: LostImages | None = None,
    ) -> OutputStore:  # fmt: skip
        """The store, found or computed under its lock.

        Args:
            shown: say how far it is.  progress: called with rows as well.
            lost: see ``cache_outputs``.
        """
        identity, layout = self.identity, self.layout  # refused before anything is written
        with store_lock(home, identity):
            if (store := self.found(home, lost)) is None:
                tell_outdated(home, identity)
                writer = StoreWriter(home, identity, layout)
                store = self._computed(writer, device, shown, progress, lost)
        self.count(store.lost, lost)
        return store

    def found(self, home: Path, lost: LostImages | None = None) -> OutputStore | None:
        """The finished store, if there is an intact one that lacks no image without need.

        An image that it lacks and that can be read again was mended. Then the store is removed,
        unless this run has counted the image before: it goes on without it.
        """
        store = found_store(home, self.identity)
        if store is None or not store.lost:
            return store
        for sample in self._samples(store.lost):
            if lost is None or self.images.ids[sample] not in lost:
                try:
                    self.images.load(sample)
                except LostImage:
                    continue
                logger.warning("%s: lacks images that can be read now. Recomputing it", store.path)
                discard(store.path)
                return None
        return store

    def count(self, rows: Mapping[int, LostImage], lost: LostImages | None) -> None:
        """Count the images of rows without outputs.

        Raises:
            UserError: too many; or there is one, and none may be.
        """
        for sample, error in self._samples(rows).items():
            if lost is None:
                raise error
            lost.add(self.images.ids[sample], error, len(self.images))

    def _samples(self, rows: Mapping[int, LostImage]) -> dict[int, LostImage]:
        return {row // self.views.num_views: error for row, error in rows.items()}

    def _computed(
        self, writer: StoreWriter, device: torch.device, shown: bool, progress: Progress,
        lost: LostImages | None,
    ) -> OutputStore:  # fmt: skip
        rows = RowPictures(
            self.dataset(), range(writer.layout.num_rows), self.caching.batch_size,
            survives=lost is not None,
        )  # fmt: skip
        try:
            with Reporter(
                writer.layout.num_rows, f"teacher {self.teacher.name}", done=writer.num_done,
                announced=True, shown=shown,
            ) as reporter:  # fmt: skip
                starts = rows.starts(writer.num_done)
                read = row_pictures(rows, starts, self.caching.num_workers, device)
                pictures = self.readable(_timed(read, reporter), writer.lost, lost)
                for outputs in self.outputs(pictures, device):
                    before = writer.num_done
                    writer.write(before, outputs)
                    reporter.advance(writer.num_done - before)
                    progress(writer.num_done - before)
            return writer.finish()
        except NonFiniteError as error:
            ids = dict.fromkeys(map(self.name_of, error.rows))
            raise UserError(error.describe(list(ids))) from error
        finally:
            writer.close()

    def readable(
        self, batches: Iterator[RowBatch], gone: dict[int, LostImage], lost: LostImages | None
    ) -> Iterator[Tensor]:
        """The pictures; rows that are blank are counted, and put into ``gone`` before."""
        for batch in batches:
            if batch.lost:
                self.count(batch.lost, lost)
                gone |= batch.lost
            yield batch.pictures

    def dataset(self) -> ViewDataset:
        """The pictures that the teacher sees."""
        return ViewDataset(self.images, self.views, [self.teacher.transform], 0)

    def name_of(self, row: int) -> str:
        """The id of the image in a row of the store."""
        return self.images.ids[row // self.views.num_views]

    @torch.inference_mode()
    def outputs(
        self, pictures: Iterator[Tensor], device: torch.device
    ) -> Iterator[dict[str, Tensor]]:
        """[B, columns] of every output, batch after batch; fetched while the next batch runs.

        A batch that is not full is filled up: then the outputs of a picture do not depend on how
        many others there are.
        """
        autocast_dtype, size = AUTOCAST[self.caching.precision], self.caching.batch_size
        teacher, waiting = self.teacher.to(device), None
        with _evaluating(teacher):
            for batch in pictures:
                batch, count = batch.to(device, non_blocking=True), len(batch)
                if count < size:
                    batch = torch.cat([batch, batch[-1:].expand(size - count, -1, -1, -1)])
                with autocast(device, autocast_dtype):
                    output = teacher(teacher.normalize(batch))
                if waiting is not None:
                    yield waiting.arrived()
                columns = {name: _columns(teacher, output, name) for name in self.caching.outputs}
                waiting = _OnItsWay({name: each[:count] for name, each in columns.items()})
            if waiting is not None:
                yield waiting.arrived()


def shards_of(store: Path) -> Path:
    """Where the parts of a store lie that several processes compute, until they are one."""
    return store.with_suffix(".shards")


def found_store(home: Path, identity: dict[str, Any]) -> OutputStore | None:
    """The finished store, if there is an intact one; a damaged one is removed."""
    path = store_path(home, identity)
    if not path.exists():
        return None
    try:
        store = OutputStore.open(path, identity)
        shutil.rmtree(shards_of(path), ignore_errors=True)  # of a process killed after its merge
        return store
    except StoreError as error:
        logger.warning("%s. Recomputing it now", error)
        discard(path)
        return None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Autocast to a dtype; None: compute as the weights are."""
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def _columns(teacher: Backbone, output: ModelOutput, name: str) -> Tensor:
    """An output of a batch as a store has it, [B, columns]."""
    if name == "feature_map":
        return teacher.spatial_map(output).flatten(1)
    columns: Tensor = getattr(output, name)
    return columns


class _OnItsWay:
    """Outputs on their way to the CPU while the device computes the next batch."""

    def __init__(self, outputs: dict[str, Tensor]) -> None:
        self._host = {name: value.float() for name, value in outputs.items()}
        self._arrival: torch.cuda.Event | None = None
        if next(iter(outputs.values())).is_cuda:
            for name, value in self._host.items():
                pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
                self._host[name] = pinned.copy_(value, non_blocking=True)
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record()

    def arrived(self) -> dict[str, Tensor]:
        """float32 on CPU, once the copy is complete."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._host


@contextmanager
def _evaluating(teacher: Backbone) -> Iterator[None]:
    """Evaluation mode for a while: batch-norm statistics and dropout must not move the outputs."""
    was_training = teacher.training
    teacher.eval()
    try:
        yield
    finally:
        teacher.train(was_training)


def _timed(pictures: Iterator[RowBatch], reporter: Reporter) -> Iterator[RowBatch]:
    """The same batches; the reporter gets the share of the time spent waiting for them."""
    started, waited = time.monotonic(), 0.0
    while True:
        asked = time.monotonic()
        batch = next(pictures, None)
        now = time.monotonic()
        waited += now - asked
        if batch is None:
            return
        reporter.show(**{"waiting for data": f"{waited / (now - started):.0%}"})
        yield batch
