"""``genkt cache``."""

from __future__ import annotations

import sys

from genkt.cli.app import run_command
from genkt.config.cache_settings import CacheConfig
from genkt.execution.tasks import processes_of
from genkt.types import counted


def run(words: list[str]) -> None:
    """Fill the caches and print where they are."""
    run_command(CacheConfig, "cache", words, _task)


def _task(config: CacheConfig) -> None:
    from genkt.runs.pool import build_pool, load_splits
    from genkt.stages.fill_caches import fill_caches

    speaks = processes_of(config.executor).rank == 0
    pool = build_pool(config, load_splits(config.data, config.seed))
    for note in pool.notes if speaks else ():
        print(f"genkt cache: {note}", file=sys.stderr)
    for store in fill_caches(config, pool):
        if speaks:
            print(f"{store.path}: {counted(len(store), 'row')}")
