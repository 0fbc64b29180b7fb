"""Typed settings of ``genkt cache``; ``configs/cache.yaml`` holds the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.config.data_settings import DataSettings
from genkt.config.model_settings import TeacherSettings
from genkt.config.set_settings import FolderSet, LabelledSet, MixSet, SavedSet, UnlabelledSet
from genkt.execution.tasks import ExecutorSettings
from genkt.settings.bounds import BatchSize, CountOrNone, Repeats, Seed
from genkt.training.train_settings import Precision
from genkt.types import Range


@dataclass(frozen=True)
class CacheConfig:
    """See ``configs/cache.yaml``."""

    data: DataSettings
    teacher: TeacherSettings
    transfer_set: UnlabelledSet | LabelledSet | FolderSet | SavedSet | MixSet
    seed: Seed
    draws: Repeats
    first_draw: CountOrNone
    cache: str | None
    dtype: Literal["float16", "float32"]
    precision: Precision
    batch_size: BatchSize
    num_workers: Annotated[int, Range(0, 128)]
    device: Literal["auto", "cpu", "cuda"]
    executor: ExecutorSettings

    @property
    def num_draws(self) -> int:
        """Label draws."""
        return self.draws
