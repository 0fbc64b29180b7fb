"""Teacher outputs: one pass over the images, into a store that is never stale."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.disk import cache_home
from genkt.execution.tasks import Progress
from genkt.files import discard
from genkt.io import did_you_mean
from genkt.models.backbone import Backbone
from genkt.models.foreign import as_backbone
from genkt.progress import Reporter
from genkt.stores.chunk_files import OUTPUTS, tell_outdated
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
from genkt.training.row_pictures import RowPictures, row_pictures
from genkt.types import ModelOutput, UserError

OutputName = Literal["features", "logits", "feature_map"]
Precision = Literal["float32", "bfloat16", "float16"]
TEACHER_BATCH = 64
"""Rows of a teacher's forward pass."""

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _silent(count: int) -> None:
    """A progress that says nothing."""


@overload
def cache_outputs(teacher: nn.Module, *args: Any, **options: Any) -> OutputStore: ...


@overload
def cache_outputs(
    teacher: Sequence[nn.Module], *args: Any, **options: Any
) -> tuple[OutputStore, ...]: ...


def cache_outputs(
    teacher: nn.Module | Sequence[nn.Module],
    images: ImageSet,
    views: ViewSpec = FIXED_VIEW,
    home: str | Path | None = None,
    *,
    outputs: Sequence[OutputName] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int = TEACHER_BATCH,
    device: str | torch.device = "cpu",
    num_workers: int = 0,
    precision: Precision = "float32",
    progress: bool = True,
) -> OutputStore | tuple[OutputStore, ...]:
    """The teacher's outputs on every view of every image, computed once and then reused.

    A store under ``home`` that matches in weights, input transform, views, dtype, outputs,
    precision and ordered sample ids is opened; a damaged one is recomputed with a warning; an
    unfinished one is continued after its last commit. A second process that asks for the same
    store waits for the first. The teacher runs in evaluation mode and is left on ``device``.

    Args:
        teacher: the model, or several of them; its own transform makes its input. A ``Backbone``,
            a timm model, or what ``genkt.models.as_backbone`` makes of any other.
        images: N samples.
        views: K >= 1 stored views; by default the one that the model is evaluated on.
        home: folder of stores; None: that of all runs (``genkt.disk.cache_home``).
        outputs: what to keep; None: features, and logits of a model that has classes. A feature
            map [D, H', W'] is kept whole, so it takes H' W' times the disk of the features.
        dtype: of the stored values; they must stay finite in it.
        batch_size: rows per forward pass; does not name the store.
        device: where the teacher runs.
        num_workers: processes that decode and render; 0: threads of this process.
        precision: what the forward pass computes in (autocast unless "float32").
        progress: tell rate, time left and the share of time spent waiting for pictures.

    Returns:
        The finished store, one per teacher; row = sample index * K + view index.

    Raises:
        UserError: fresh views every epoch (``num_views=0``), an empty set, an unknown option, a
            full disk, outputs that are not finite, with the sample ids, or a teacher without
            feature maps where these are asked for.

    Example:
        >>> import tempfile
        >>> from genkt.data.builtin.digits import digits
        >>> from genkt.data.views import ViewSpec
        >>> from genkt.models.load import ModelSpec, load_model
        >>> images = digits().train.select(range(3))
        >>> views = ViewSpec(num_views=2, rotate_degrees=10.0)
        >>> teacher = load_model(ModelSpec("genkt:digits_teacher"))
        >>> store = cache_outputs(teacher, images, views, tempfile.mkdtemp(), progress=False)
        >>> output = store.rows([0, 5])  # sample 0 in view 0, sample 2 in view 1
        >>> len(store), tuple(output.features.shape), tuple(output.logits.shape)
        (6, (2, 256), (2, 47))
    """
    folder, place = cache_home() if home is None else Path(home), torch.device(device)

    def stored(module: nn.Module) -> OutputStore:
        backbone = as_backbone(module)
        usual: list[OutputName] = ["features", "logits"] if backbone.num_classes else ["features"]
        wanted = usual if outputs is None else outputs
        kept = checked_outputs(images, views, wanted, precision, batch_size)
        caching = Caching(kept, dtype, precision, batch_size, num_workers)
        job = StoreJob(backbone, backbone.fingerprint(), images, views, caching)
        return job.stored(folder, place, shown=progress)

    return stored(teacher) if isinstance(teacher, nn.Module) else tuple(map(stored, teacher))


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
        self, home: Path, device: torch.device, *, shown: bool = False, progress: Progress = _silent
    ) -> OutputStore:
        """The store, found or computed under its lock.

        Args:
            shown: say how far it is.  progress: called with rows as well.
        """
        identity, layout = self.identity, self.layout  # refused before anything is written
        with store_lock(home, identity):
            if (store := found_store(home, identity)) is not None:
                return store
            tell_outdated(home, identity)
            return self._computed(StoreWriter(home, identity, layout), device, shown, progress)

    def _computed(
        self, writer: StoreWriter, device: torch.device, shown: bool, progress: Progress
    ) -> OutputStore:
        rows = RowPictures(self.dataset(), range(writer.layout.num_rows), self.caching.batch_size)
        try:
            with Reporter(
                writer.layout.num_rows, f"teacher {self.teacher.name}", done=writer.num_done,
                announced=True, shown=shown,
            ) as reporter:  # fmt: skip
                starts = rows.starts(writer.num_done)
                read = row_pictures(rows, starts, self.caching.num_workers, device)
                for outputs in self.outputs(_timed(read, reporter), device):
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
        autocast_dtype, size = _PRECISIONS[self.caching.precision], self.caching.batch_size
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


def checked_outputs(
    images: ImageSet, views: ViewSpec, outputs: Sequence[str], precision: str, batch_size: int
) -> tuple[str, ...]:
    """The outputs in the store's order, after refusing what cannot be cached."""
    if not views.num_views:
        raise UserError.of(
            "teacher cache",
            "num_views >= 1",
            "0 (a fresh view every epoch)",
            ". Store some views, e.g. num_views=8, or run the teacher online",
        )
    if not len(images):
        raise UserError.of("teacher cache", "at least one image", "an empty set")
    if batch_size < 1:
        raise UserError.of("teacher cache", "batch_size >= 1", batch_size)
    for name, value, choices in (
        *(("outputs", output, OUTPUTS) for output in outputs),
        ("precision", precision, tuple(_PRECISIONS)),
    ):
        if value not in choices:
            known = ", ".join(choices)
            hint = did_you_mean(value, choices)
            raise UserError(f"teacher cache: {name}: expected {known}, got {value!r}.{hint}")
    if not outputs:
        raise UserError(f"teacher cache: outputs: expected some of {', '.join(OUTPUTS)}, got none")
    return tuple(name for name in OUTPUTS if name in outputs)


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


def _timed(pictures: Iterator[Tensor], reporter: Reporter) -> Iterator[Tensor]:
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
