"""Outputs of a run's teachers: each computed once, kept on disk, read by all its students."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet
from genkt.data.views import ViewSpec
from genkt.models.backbone import Backbone
from genkt.runs.run_images import RunImages
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.asked_outputs import outputs_on_demand
from genkt.training.probe import OutputRows
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
        self._kept: dict[tuple[str, int], tuple[ImageSet, OutputRows]] = {}

    def shared(
        self, name: str, teacher: Backbone, images: ImageSet, views: ViewSpec,
        *, trained_on: bool = False,
    ) -> OutputRows:  # fmt: skip
        """Outputs that are the same for every draw, opened once per run.

        Args:
            name: of the teacher, for one kind of outputs.
        """
        key = name, id(images)  # of an object that is kept, so that no other one gets its id
        if key not in self._kept:
            found = (self.asked if trained_on else self.outputs)(teacher, images, views)
            self._kept[key] = images, found
        return self._kept[key][1]

    def outputs(
        self, teacher: Backbone, images: ImageSet, views: ViewSpec, home: Path | None = None,
        *, survives: bool = False,
    ) -> OutputStore:  # fmt: skip
        """Features and logits of all images, computed now.

        Args:
            home: folder of outputs for a single draw; None: the shared folder.
            survives: images that can no longer be read are left out; else they are an error.
        """
        with self._in(home) as folder:
            return cache_outputs(
                teacher, images, views, folder,
                outputs=["features", "logits"], dtype=self._dtype, device=self._device,
                num_workers=self._num_workers, precision=self._precision,
                lost=self._lost if survives else None,
            )  # fmt: skip

    def asked(
        self, teacher: Backbone, images: ImageSet, views: ViewSpec, home: Path | None = None
    ) -> OutputRows:
        """Outputs of images that students train on, each computed when it is first asked for.

        Feature maps are among them if an objective reads them. Images that can no longer be read
        have none (``OutputRows.lost``).

        Args:
            home: as for ``outputs``.
        """
        wanted: list[OutputName] = ["features", "logits"]
        if self._reads_maps:
            wanted.append("feature_map")
        with self._in(home) as folder:
            return outputs_on_demand(
                teacher, images, views, folder,
                outputs=wanted, dtype=self._dtype, device=self._device,
                precision=self._precision, lost=self._lost,
            )  # fmt: skip

    @contextmanager
    def _in(self, home: Path | None) -> Iterator[Path]:
        """A folder, locked if it is the shared one."""
        with self._alone() if home is None else nullcontext(0.0) as waited:
            self.waited += waited
            yield home or self.home
