"""What all students of a run share: device, images, views, models and logs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from genkt.config.data_settings import EmbeddedData
from genkt.config.transfer_settings import StudentSettings, TeacherSettings, TransferConfig
from genkt.data.images import ImageSet
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.generative.generator import Generator, load_generator
from genkt.io import derive_seed
from genkt.methods.base import TeacherShape
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.runs.pool import Draw, Pool
from genkt.runs.represented import OwnSet, Represented
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog
from genkt.settings.objects import name_in, places_in
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.batches import Batches, BatchPlan, loader_workers
from genkt.training.lightning import Fabric
from genkt.training.predictions import predict
from genkt.training.probe import OutputRows
from genkt.training.train_settings import TrainSettings
from genkt.transfers.retriever import Retriever
from genkt.types import Prediction, UserError

_T = TypeVar("_T")

ModelFactory = Callable[[int | None, int], Backbone]
"""(number of classes or None for the model's own, seed of new weights) -> a fresh model."""


@dataclass(frozen=True)
class TeacherSet:
    """The teachers of one draw.

    Args:
        models: for online use and for messages.
        stores: their cached outputs; empty when online.
        online: run the models on every batch instead.
        shapes: what an objective must know of them.
        test_accuracy: of each, 0..1; None where it has no head for the task.
        adapted: how each was adapted to the labels.
    """

    models: tuple[Backbone, ...]
    stores: tuple[OutputRows, ...]
    online: bool
    shapes: tuple[TeacherShape, ...]
    test_accuracy: tuple[float | None, ...]
    adapted: tuple[str, ...]

    def select(self, indices: Sequence[int]) -> TeacherSet:
        """Some of them."""

        def some(values: tuple[_T, ...]) -> tuple[_T, ...]:
            return tuple(values[index] for index in indices) if values else ()

        return TeacherSet(
            some(self.models), some(self.stores), self.online, some(self.shapes),
            some(self.test_accuracy), some(self.adapted),
        )  # fmt: skip

    def each(self) -> Iterator[TeacherSet]:
        """Every teacher alone."""
        return (self.select([index]) for index in range(len(self.models)))

    def behind(self, model: Backbone, store: OutputRows | None, shape: TeacherShape) -> TeacherSet:
        """The same with one more in front."""
        return TeacherSet(
            (model, *self.models), self.stores if store is None else (store, *self.stores),
            self.online, (shape, *self.shapes), (None, *self.test_accuracy), ("", *self.adapted),
        )  # fmt: skip

    def facts(self) -> dict[str, float | int | str]:
        """For the report: test accuracy of every teacher that has a head for the task."""
        facts: dict[str, float | int | str] = {
            f"teacher_accuracy.{index}": accuracy
            for index, accuracy in enumerate(self.test_accuracy)
            if accuracy is not None
        }
        return facts | {f"teacher_adapted.{index}": how for index, how in enumerate(self.adapted)}


@dataclass
class Session:
    """One run in progress.

    Args:
        student: makes a fresh student.  teachers: make fresh teachers, one entry each.
        views: the stored views of the pool's images, which cached teachers saw as well.
        shared: caches of teachers that are the same for every draw.
        sets: the transfer set that every draw made or retrieved, where the run does that.
        retriever: retrieves them.
        represented: the labelled images and their reconstructions, where a stage needs them.
        waited: seconds for other processes that were filling a cache.
    """

    config: TransferConfig
    fabric: Fabric
    pool: Pool
    folder: RunFolder
    log: RunLog
    cache_home: Path
    views: ViewSpec
    student: ModelFactory
    teachers: Sequence[ModelFactory]
    shared: dict[str, OutputStore] = field(default_factory=dict)
    sets: tuple[OwnSet, ...] = ()
    retriever: Retriever | None = None
    represented: Represented | None = None
    waited: float = 0.0
    _datasets: dict[str, ViewDataset] = field(default_factory=dict)
    _bases: dict[int, Backbone] = field(default_factory=dict)
    _generators: dict[str, Generator] = field(default_factory=dict)

    def generator(self, name: str) -> Generator:
        """A generator by its folder or ``genkt:`` name, on the device; loaded once.

        Raises:
            UserError: no such generator.
        """
        if name not in self._generators:
            self._generators[name] = load_generator(name, device=self.fabric.device)
        return self._generators[name]

    def teacher(self, index: int) -> Backbone:
        """A teacher as it comes, frozen, on the device; built once for the whole run.

        A head that no weights belong to is drawn from the run's seed.
        """
        if index not in self._bases:
            base = self.teachers[index](None, self.config.seed)
            self._bases[index] = base.freeze().to(self.fabric.device)
        return self._bases[index]

    def alone(self, part: str) -> AbstractContextManager[float]:
        """Hold others off a part of the run; the processes of one launch make it together.

        Gives the seconds waited for another.
        """
        return self.folder.lock(part) if self.fabric.is_global_zero else nullcontext(0.0)

    def release_generators(self) -> None:
        """Free their memory: nothing is made once training has begun."""
        self._generators.clear()

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return len(self.pool.splits.classes)

    @property
    def workers(self) -> int:
        """Loader processes for this run's images."""
        in_memory = isinstance(self.config.data, EmbeddedData)
        return loader_workers(self.config.train.num_workers, self.pool.images, in_memory)

    @property
    def label_views(self) -> ViewSpec:
        """The views of stages without a teacher: fresh ones every epoch.

        Nothing is cached for these stages, so neither the baseline nor a fine-tuning is held to
        the few views that a cache can store. One fixed view stays one fixed view. How many views
        a transfer set stores of its images plays no part here.
        """
        own = self.config.data.views.num_views
        return replace(self.views, num_views=0 if own > 1 else own)

    def batches(
        self, draw: Draw, settings: TrainSettings, transforms: Sequence[ImageTransform],
        stores: Sequence[OutputRows] = (), *, labelled_only: bool, shared: bool = True,
    ) -> Batches:  # fmt: skip
        """The rows of a stage: the labelled images alone, or with the transfer images.

        Args:
            shared: the processes of the run share every batch; else each loads all of it.
        """
        transfer = np.empty(0, dtype=np.int64) if labelled_only else draw.transfer
        plan = BatchPlan(
            labelled=draw.labelled,
            transfer=transfer,
            batch_size=settings.batch_size,
            labelled_per_batch=settings.labelled_per_batch,
            seed=draw.seed,
            parts=() if labelled_only else draw.parts,
        )
        return Batches(
            self._dataset(
                draw.images, self.label_views if labelled_only else self.views, transforms
            ),
            draw.labels,
            plan,
            stores,
            rank=self.fabric.global_rank if shared else 0,
            world_size=self.fabric.world_size if shared else 1,
            num_workers=self.workers,
        )

    def predictions(self, model: Backbone, part: str, images: ImageSet | None = None) -> Prediction:
        """The model on the "test" or "validation" images, under its own transform.

        Args:
            images: other pictures of the same samples in the same order, or None.
        """
        samples = self.pool.splits.parts[part]
        dataset = self._dataset(images or samples, FIXED_VIEW, [model.transform])
        found = predict(model, dataset, device=self.fabric.device, num_workers=self.workers)
        return replace(found, ids=samples.ids, labels=torch.from_numpy(samples.labels))

    def _dataset(
        self, images: ImageSet, spec: ViewSpec, transforms: Sequence[ImageTransform]
    ) -> ViewDataset:
        """Images under some views; one data set a list of transforms, stored views kept."""
        key = f"{id(images)}|{spec}|{[transform.geometry for transform in transforms]}"
        if key not in self._datasets:
            self._datasets[key] = ViewDataset(images, spec, transforms)
        return self._datasets[key]


def shape_of(model: Backbone, num_classes: int | None = None) -> TeacherShape:
    """What an objective must know of a model.

    Args:
        num_classes: of a head that stands for its own; None: its own.
    """
    return TeacherShape(model.name, model.width, num_classes or model.num_classes, model.map_width)


def student_factory(settings: StudentSettings) -> ModelFactory:
    """Fresh students as the settings describe."""
    return _loader(student_spec(settings))


def student_spec(settings: StudentSettings) -> ModelSpec:
    """The student that the settings name."""
    return _spec(settings, name_in(settings.model), settings.weights, settings.args)


def teacher_factories(settings: TeacherSettings) -> list[ModelFactory]:
    """Fresh teachers as the settings describe, one entry a name."""
    return [_loader(spec) for spec in teacher_specs(settings)]


def teacher_specs(settings: TeacherSettings) -> list[ModelSpec]:
    """The teachers that the settings name, for any process to load."""
    names = places_in(settings.model)
    weights = settings.weights
    files = weights if isinstance(weights, list) else [weights] * len(names)
    if len(files) != len(names):
        raise UserError(
            f"teacher.weights: expected {len(names)} files, one a model, got {len(files)}"
        )
    every = zip(names, files, settings.args_of(names), strict=True)
    return [_spec(settings, name, file, args) for name, file, args in every]


def weights_files(config: TransferConfig) -> list[str | None]:
    """The files of weights that the settings name: the student's, then the teachers'."""
    teachers = config.teacher.weights
    return [config.student.weights, *(teachers if isinstance(teachers, list) else [teachers])]


def _spec(
    settings: StudentSettings | TeacherSettings,
    name: str,
    weights: str | None,
    args: dict[str, Any],
) -> ModelSpec:
    return ModelSpec(
        name,
        settings.pretrained,
        weights,
        args,
        settings.transform,
        settings.channels_last,
    )


def _loader(spec: ModelSpec) -> ModelFactory:
    return lambda num_classes, seed: load_model(spec, num_classes=num_classes, seed=seed)


def module_factory(model: Backbone) -> ModelFactory:
    """Fresh copies of a model given in Python; its head must already fit the task."""

    def make(num_classes: int | None, seed: int) -> Backbone:
        if num_classes is not None and model.num_classes != num_classes:
            raise UserError(
                f"model {model.name!r}: expected {num_classes} classes, its head has "
                f"{model.num_classes}; give it a head for the task"
            )
        return copy.deepcopy(model)

    return make


def draw_seed(draw: Draw, purpose: str) -> int:
    """A seed of this draw for one purpose; the same for every arm that shares the purpose."""
    return derive_seed(draw.seed, purpose)
