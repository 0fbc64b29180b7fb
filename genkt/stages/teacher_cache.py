"""Outputs of a run's teachers on images: computed once, kept on disk, read by all its students."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet
from genkt.data.views import ViewSpec
from genkt.models.backbone import Backbone
from genkt.runs.run_images import RunImages
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.store_job import Precision
from genkt.training.teacher import OutputName, cache_outputs

AUTOCAST: dict[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The teacher's precision for a given training precision."""


class TeacherCache:
    """Where outputs are kept.

    Args:
        home: folder of outputs that later runs on the same images read too.
        config: of the run, for how they are computed and kept.
        images: of the run, for the device and the loader processes.
        alone: locks ``home``; gives the seconds waited for other processes.
    """

    def __init__(
        self, home: Path, config: TransferConfig, images: RunImages,
        alone: Callable[[], AbstractContextManager[float]],
    ) -> None:  # fmt: skip
        self.home = home
        self.waited = 0.0
        self._alone = alone
        self._dtype = config.cache_dtype
        self._precision = AUTOCAST[config.train.precision]
        self._reads_maps = "feature_map" in config.needs
        self._device = images.fabric.device
        self._num_workers = images.num_workers
        self._lost = images.lost
        self._kept: dict[tuple[str, int], tuple[ImageSet, OutputStore]] = {}

    def shared(
        self, name: str, teacher: Backbone, images: ImageSet, views: ViewSpec,
        *, trained_on: bool = False,
    ) -> OutputStore:  # fmt: skip
        """Outputs that are the same for every draw, opened once per run.

        Args:
            name: of the teacher, for one kind of outputs.
        """
        key = name, id(images)  # of an object that is kept, so that no other one gets its id
        if key not in self._kept:
            self._kept[key] = images, self.outputs(teacher, images, views, trained_on=trained_on)
        return self._kept[key][1]

    def outputs(
        self, teacher: Backbone, images: ImageSet, views: ViewSpec, home: Path | None = None,
        *, trained_on: bool = False, survives: bool = False,
    ) -> OutputStore:  # fmt: skip
        """Outputs of a teacher.

        Args:
            home: folder of outputs for a single draw; None: the shared folder.
            trained_on: a student is trained on them: feature maps are added if an objective reads
                them, and images that can no longer be read are left out.
            survives: the latter alone.
        """
        outputs: list[OutputName] = ["features", "logits"]
        if trained_on and self._reads_maps:
            outputs.append("feature_map")
        with self._alone() if home is None else nullcontext(0.0) as waited:
            self.waited += waited
            return cache_outputs(
                teacher,
                images,
                views,
                home or self.home,
                outputs=outputs,
                dtype=self._dtype,
                device=self._device,
                num_workers=self._num_workers,
                precision=self._precision,
                lost=self._lost if trained_on or survives else None,
            )
