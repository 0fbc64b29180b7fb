"""``genkt cache``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.cli.app import run_command
from genkt.config.data_settings import DataSettings
from genkt.config.set_settings import FolderSet, LabelledSet, MixSet, SavedSet, UnlabelledSet
from genkt.config.transfer_settings import TeacherSettings
from genkt.execution.tasks import ExecutorSettings, processes_of
from genkt.io import home_path
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


def run(words: list[str]) -> None:
    """Fill the caches and print where they are."""
    run_command(CacheConfig, "cache", words, _task)


def _task(config: CacheConfig) -> None:

    from genkt.disk import cache_home
    from genkt.runs.model_factories import teacher_specs
    from genkt.runs.pool import build_pool, load_splits, stored_views
    from genkt.stages.teacher_cache import AUTOCAST
    from genkt.training.teacher_shards import TeacherSource, cache_by_tasks

    speaks = processes_of(config.executor).rank == 0
    splits = load_splits(config.data, config.seed)
    pool = build_pool(config, splits)
    home = home_path(config.cache) if config.cache else cache_home()
    for note in pool.notes if speaks else ():
        print(f"genkt cache: {note}", file=sys.stderr)
    for spec in teacher_specs(config.teacher):
        store = cache_by_tasks(
            TeacherSource(spec, 0, config.device),
            pool.images,
            stored_views(config),
            home,
            executor=config.executor,
            dtype=config.dtype,
            precision=AUTOCAST[config.precision],
            batch_size=config.batch_size,
            num_workers=config.num_workers,
        )
        if speaks:
            print(f"{store.path}: {len(store)} rows")
