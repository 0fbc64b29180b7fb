"""The images of a run as models read them: batches to train on, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from genkt.config.transfer_settings import NumFolds, TransferConfig
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.data.transform import ImageTransform
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.metrics.choice_values import Metric, choice_values
from genkt.models.backbone import Backbone
from genkt.runs.pool import Draw, Pool, stored_views
from genkt.training.batches import STEPS_AHEAD, Batches, BatchPlan, loader_workers
from genkt.training.lightning import Fabric
from genkt.training.lost_images import LostImages
from genkt.training.predictions import predict
from genkt.training.probe import OutputRows
from genkt.training.train_settings import TrainSettings
from genkt.types import Prediction


def batch_plan(draw: Draw, settings: TrainSettings, *, labelled_only: bool) -> BatchPlan:
    """The rows of every step on a draw: the labelled images alone, or with the transfer images."""
    return BatchPlan(
        labelled=draw.labelled,
        transfer=np.empty(0, dtype=np.int64) if labelled_only else draw.transfer,
        batch_size=settings.batch_size,
        labelled_per_batch=settings.labelled_per_batch,
        seed=draw.seed,
        first_epoch=draw.first_epoch,
        parts=() if labelled_only else draw.parts,
        blocks=draw.images.blocks,
    )


@dataclass(frozen=True)
class RunImages:
    """How a run's images are read.

    Args:
        splits: the data; without a validation part where the settings do not read it.
        views: the stored views of transfer images, which cached teachers saw too.
        label_views: those of stages without a teacher.
        fabric: device and processes of the run.
        num_workers: loader processes.
        folds: number of folds where the labelled images judge candidates.
        lost: counts transfer images that can no longer be read.
        metric: what candidates are judged by.
    """

    splits: Splits
    views: ViewSpec
    label_views: ViewSpec
    fabric: Fabric
    num_workers: int
    folds: NumFolds
    lost: LostImages
    metric: Metric = "accuracy"
    _datasets: dict[str, ViewDataset] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: TransferConfig, pool: Pool, fabric: Fabric, lost: LostImages | None = None
    ) -> RunImages:
        """Build from the settings.

        Stages without a teacher cache nothing. So the baseline and fine-tuning get fresh views
        every epoch, not the few stored ones. A single fixed view stays fixed. The number of views
        that a transfer set stores does not matter here.
        """
        views, own = stored_views(config), config.data.views.num_views
        splits = pool.splits
        return cls(
            splits if config.validation == "images" else replace(splits, validation=None),
            views,
            replace(views, num_views=0 if own > 1 else own),
            fabric,
            loader_workers(config.train.num_workers, pool.images, config.data.built_in),
            config.folds,
            lost or LostImages(config.data.most_skipped),
            config.task.metric,
        )

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return len(self.splits.classes)

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation part that may be read."""
        return "validation" in self.splits.parts

    def batches(
        self, draw: Draw, settings: TrainSettings, transforms: Sequence[ImageTransform],
        stores: Sequence[OutputRows] = (), *, labelled_only: bool, fresh_views: bool = False,
        shared: bool = True,
    ) -> Batches:  # fmt: skip
        """The rows of a stage: the labelled images alone, or with the transfer images.

        Args:
            fresh_views: no teacher has seen the transfer images, so they have ``label_views`` too.
            shared: the processes of the run share every batch; else each loads all of it.
        """
        views = self.label_views if labelled_only or fresh_views else self.views
        return Batches(
            self._dataset(draw.images, views, transforms),
            draw.labels,
            batch_plan(draw, settings, labelled_only=labelled_only),
            stores,
            rank=self.fabric.global_rank if shared else 0,
            world_size=self.fabric.world_size if shared else 1,
            num_workers=self.num_workers,
            lost=self.lost,
            steps_ahead=min(STEPS_AHEAD, settings.eval_every or STEPS_AHEAD),
        )

    def predictions(self, model: Backbone, part: str, images: ImageSet | None = None) -> Prediction:
        """The model on the "test" or "validation" images, under its own transform.

        Args:
            images: other pictures of the same samples in the same order, or None.
        """
        samples = self.splits.parts[part]
        dataset = self._dataset(images or samples, FIXED_VIEW, [model.transform])
        found = predict(model, dataset, device=self.fabric.device, num_workers=self.num_workers)
        return replace(found, ids=samples.ids, labels=torch.from_numpy(samples.labels))

    def judged(self, model: Backbone, part: str = "test") -> NDArray[np.float32]:
        """[N] values of the metric that choices go by (``genkt.metrics.choice_values``)."""
        return self.values(self.predictions(model, part))

    def values(self, found: Prediction) -> NDArray[np.float32]:
        """The same of known answers."""
        return choice_values(found.labels.numpy(), found.probabilities.numpy(), self.metric)

    def _dataset(
        self, images: ImageSet, spec: ViewSpec, transforms: Sequence[ImageTransform]
    ) -> ViewDataset:
        """Images under some views; one data set per list of transforms, with stored views kept."""
        key = f"{id(images)}|{spec}|{[transform.geometry for transform in transforms]}"
        if key not in self._datasets:
            self._datasets[key] = ViewDataset(images, spec, transforms)
        return self._datasets[key]
