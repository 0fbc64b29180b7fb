"""``genkt cache``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.cli.app import run_command
from genkt.recipes.config import (
    EmbeddedData,
    FolderData,
    FolderSet,
    LabelledSet,
    SavedSet,
    TeacherSettings,
    TorchvisionData,
    UnlabelledSet,
)
from genkt.training.settings import Precision
from genkt.types import Range


@dataclass(frozen=True)
class CacheConfig:
    """See ``configs/cache.yaml``."""

    data: EmbeddedData | FolderData | TorchvisionData
    teacher: TeacherSettings
    transfer_set: UnlabelledSet | LabelledSet | FolderSet | SavedSet
    seed: int
    draws: Annotated[int, Range(1)]
    cache: str | None
    dtype: Literal["float16", "float32"]
    precision: Precision
    batch_size: Annotated[int, Range(1)]
    num_workers: Annotated[int, Range(0)]
    device: Literal["auto", "cpu", "cuda"]


def run(words: list[str]) -> None:
    """Fill the caches and print where they are."""
    run_command(CacheConfig, "cache", words, _task)


def _task(config: CacheConfig) -> None:
    from pathlib import Path

    from genkt.io import cache_home
    from genkt.recipes.data import build_pool, load_splits, stored_views
    from genkt.recipes.inference import device_of
    from genkt.recipes.session import teacher_factories
    from genkt.recipes.teachers import AUTOCAST
    from genkt.training.teacher import cache_outputs

    splits = load_splits(config.data, config.seed)
    pool = build_pool(config, splits)
    home = Path(config.cache).expanduser() if config.cache else cache_home()
    for note in pool.notes:
        print(f"genkt cache: {note}", file=sys.stderr)
    for factory in teacher_factories(config.teacher):
        store = cache_outputs(
            factory(None, 0).freeze(),
            pool.images,
            stored_views(config),
            home,
            dtype=config.dtype,
            precision=AUTOCAST[config.precision],
            batch_size=config.batch_size,
            num_workers=config.num_workers,
            device=device_of(config.device),
        )
        print(f"{store.path}: {len(store)} rows")
