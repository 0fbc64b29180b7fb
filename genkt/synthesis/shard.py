"""One shard of a synthesis: reading sources, running networks and encoding files in parallel.

``SynthesisTask`` is what any executor runs: it has folder names and plain values. Running it again,
anywhere, gives the same bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.config.synthesis_settings import InversionSettings, IrfSettings, SynthesisSettings
from genkt.data.images import ImageSet
from genkt.execution.ranks import device_here
from genkt.execution.tasks import Progress
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import fit_picture, load_generator
from genkt.models.backbone import Backbone
from genkt.synthesis.filter_images import Screened, screen
from genkt.synthesis.make_images import Made, make, make_inverted, mask_kind
from genkt.synthesis.plan_images import Group, ImagePlan
from genkt.training.teacher_shards import TeacherSource, load_once
from genkt.transfer_set.set_files import ShardWriter, shard_facts, shard_name
from genkt.types import UNLABELLED

INPAINTING = "inpainting:"
"""Prefix of the name of a diffusers pipeline."""

_WAITING = 16
"""Limit of images per thread that wait to be encoded."""


@dataclass(frozen=True)
class Models:
    """The networks of a synthesis, on their device; None if the method needs none."""

    generator: ImageCompleter | None
    teacher: Backbone | None


@dataclass(frozen=True)
class ModelNames:
    """The same networks by name, for processes that do not have them yet.

    Args:
        generator: what ``load_completer`` takes.  teacher: where to find it.
        device: auto, cpu or cuda.
    """

    generator: str | None
    teacher: TeacherSource | None
    device: str


@dataclass(frozen=True)
class SynthesisTask:
    """What to do for one shard.

    Args:
        out: the set's folder.
        shard: which one.
        plan: what all shards hold.
        settings: of the synthesis.
        sources: the sources of this shard.
        rows: their places among all sources.
        models: loaded ones, which never leave their process, or names.
    """

    out: str
    shard: int
    plan: ImagePlan
    settings: SynthesisSettings
    sources: ImageSet
    rows: tuple[int, ...]
    models: Models | ModelNames

    @property
    def name(self) -> str:
        """See ``ShardTask``."""
        return f"{self.settings.synthesis.name}, shard {shard_name(self.shard)} of {self.out}"

    @property
    def size(self) -> int:
        """See ``ShardTask``."""
        return len(self.plan.shard_images(self.shard))

    def is_done(self) -> bool:
        """See ``ShardTask``."""
        return shard_facts(Path(self.out), self.shard) is not None

    def run(self, progress: Progress) -> None:
        """See ``ShardTask``.

        Raises:
            UserError: a source that can no longer be read, or a model that does not fit.
        """
        if self.is_done():
            return
        try:
            self._make(progress)
        except FileNotFoundError:
            if not self.is_done():  # otherwise another process has made it, and cleaned up
                raise

    def _make(self, progress: Progress) -> None:
        settings, out = self.settings, Path(self.out)
        models = self.models if isinstance(self.models, Models) else _loaded(self.models)
        with (
            ThreadPoolExecutor(settings.num_threads) as pool,
            ShardWriter(out, self.shard, settings.files, self.sources.classes) as writer,
        ):
            shard = _Shard(self, models, pool, writer)
            for count in shard.run():
                progress(count)
            if not self.is_done():  # by a process that was thought dead
                shard.finish()


def load_completer(name: str, device: torch.device | str = "cpu") -> ImageCompleter:
    """A generator by its folder or ``genkt:NAME``, or a diffusers pipeline.

    Args:
        name: ``inpainting:`` and the folder or hub name of a pipeline; a folder that holds
            ``model_index.json`` is one too.

    Raises:
        UserError: nothing of this name.
    """
    pipeline = name.removeprefix(INPAINTING)
    if pipeline == name and not (Path(name) / "model_index.json").is_file():
        return load_generator(name, device=device)
    from genkt.generative.inpainting import Inpainter

    completer = Inpainter.load(pipeline, device=device)
    completer.name = name
    return completer


def _loaded(names: ModelNames) -> Models:
    teacher = load_once(names.teacher)[0] if names.teacher is not None else None
    if names.generator is None:
        return Models(None, teacher)
    return Models(_generator(names.generator, device_here(names.device)), teacher)


@lru_cache(maxsize=1)
def _generator(name: str, device: str) -> ImageCompleter:
    """A process that runs many tasks loads their generator once."""
    return load_completer(name, device)


@dataclass
class _Batch:
    """Groups whose sources are being loaded (an inversion has none)."""

    groups: list[Group]
    pictures: list[Future[NDArray[np.uint8]]]
    parents: list[str | None]
    labels: list[int]


@dataclass
class _Shard:
    """A shard in progress."""

    task: SynthesisTask
    models: Models
    pool: ThreadPoolExecutor
    writer: ShardWriter
    waiting: deque[tuple[Future[bytes], int, dict[str, Any]]] = field(default_factory=deque)
    arrays: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._place = {row: place for place, row in enumerate(self.task.rows)}
        self._start = self.task.plan.shard_images(self.task.shard).start

    def run(self) -> Iterator[int]:
        """Make every batch; yields the number of images of each."""
        loading: deque[_Batch] = deque()
        for groups in self._groups():
            loading.append(self._load(groups))
            if len(loading) > 1:  # the next batch's sources are read while this one is made
                yield self._make(loading.popleft())
        while loading:
            yield self._make(loading.popleft())
        self._write(0)

    def finish(self) -> None:
        """Move the shard to its final place."""
        arrays = {name: np.concatenate(parts) for name, parts in self.arrays.items()}
        facts = {
            "made": self.counts["made"],
            "drawn_tokens": self.counts["drawn_tokens"],
            "dropped": dict(sorted(self.dropped.items())),
        }
        self.writer.finish(facts, arrays)

    def _groups(self) -> Iterator[list[Group]]:
        """Groups with equal numbers of samples, together about ``batch_size`` completions."""
        settings = self.task.settings
        size = settings.batch_size // self.task.plan.samples
        if isinstance(settings.synthesis, InversionSettings):
            size = settings.synthesis.inversion.batch_size  # made as a whole
        batch: list[Group] = []
        for group in self.task.plan.groups(self.task.shard):
            if batch and (len(batch) >= size or group.num_samples != batch[0].num_samples):
                yield batch
                batch = []
            batch.append(group)
        yield batch

    def _load(self, groups: list[Group]) -> _Batch:
        images, generator = self.task.sources, self.models.generator
        if generator is None:
            known = _knows(self.models.teacher, images.classes)
            labels = [group.source if known else UNLABELLED for group in groups]
            return _Batch(groups, [], [None] * len(groups), labels)
        size, places = generator.size, [self._place[group.source] for group in groups]
        is_copy = isinstance(self.task.settings.synthesis, IrfSettings)
        return _Batch(
            groups,
            [self.pool.submit(_fitted, images, place, size) for place in places],
            [images.ids[place] for place in places],
            [int(images.labels[place]) if is_copy else UNLABELLED for place in places],
        )

    def _make(self, batch: _Batch) -> int:
        settings, groups, pictures = self.task.settings, batch.groups, None
        if self.models.generator is None:
            assert self.models.teacher is not None
            made = make_inverted(settings, self.models.teacher, groups)
        else:
            arrays = np.stack([future.result() for future in batch.pictures])
            pictures = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
            parents = [parent or "" for parent in batch.parents]
            made = make(settings, self.models.generator, pictures, parents, groups)
        screened = screen(settings, self.models.teacher, made.images, pictures)
        self._keep(batch, made, screened)
        self._write(_WAITING * settings.num_threads)
        return len(made.images)

    def _keep(self, batch: _Batch, made: Made, screened: Screened) -> None:
        """Queue the accepted images for encoding, and keep their tokens."""
        members = [(b, s) for b, group in enumerate(batch.groups) for s in range(group.num_samples)]
        kept = []
        for row, (b, sample) in enumerate(members):
            if reason := screened.reasons[row]:
                self.dropped[reason] += 1
                continue
            kept.append(row)
            group, pixels = batch.groups[b], made.images[row].permute(1, 2, 0).numpy()
            about = {
                "label": batch.labels[b],
                "parent": batch.parents[b],
                "detail": _detail(self.task, group, made, row, sample) | screened.facts[row],
            }
            future = self.pool.submit(self.task.settings.files.encode, pixels)
            self.waiting.append((future, group.start + sample - self._start, about))
        self.counts["made"] += len(members)
        if made.hidden is not None:
            self.counts["drawn_tokens"] += int(made.hidden.sum())
        self._remember(made, screened, kept)

    def _remember(self, made: Made, screened: Screened, kept: list[int]) -> None:
        columns: dict[str, NDArray[Any]] = {"seeds": np.array(made.seeds, dtype=np.int64)}
        if made.tokens is not None and made.hidden is not None:
            columns["tokens"] = _narrow(made.tokens)
            columns["hidden"] = made.hidden.numpy().astype(np.uint8)
        if screened.features is not None:
            columns["features"] = screened.features.numpy().astype(np.float16)
        for name, column in columns.items():
            self.arrays.setdefault(name, []).append(column[kept])

    def _write(self, most: int) -> None:
        """Write encoded images, in order, until at most ``most`` wait."""
        while len(self.waiting) > most:
            future, number, about = self.waiting.popleft()
            self.writer.add(future.result(), number, **about)


def _knows(teacher: Backbone | None, classes: tuple[str, ...]) -> bool:
    """Whether a teacher's classes are those of the data: by name, if its files have names."""
    assert teacher is not None
    names = teacher.class_names
    return names == classes if names else teacher.num_classes == len(classes)


def _fitted(images: ImageSet, place: int, size: int) -> NDArray[np.uint8]:
    return fit_picture(images.load(place), size)


def _detail(task: SynthesisTask, group: Group, made: Made, row: int, sample: int) -> dict[str, Any]:
    """The details of a record: how its image was made."""
    method = task.settings.synthesis.name
    detail: dict[str, Any] = {"method": method, "seed": made.seeds[row]}
    if method == "deep_inversion":
        return detail | {"target": group.source}
    if made.masks is not None:
        mask = made.masks[row]
        share = round(float(mask.float().mean()), 4)
        detail |= {"round": group.round, "sample": sample}
        detail |= {"mask": mask_kind(mask), "hidden": share}
    return detail


def _narrow(tokens: Tensor) -> NDArray[Any]:
    """Tokens in two bytes; a codebook of more than 65536 codes needs four."""
    array = tokens.numpy()
    return array.astype(np.uint16 if array.max(initial=0) < 1 << 16 else np.int32)
