"""Outputs of the teachers on every image that a run needs, computed ahead of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from genkt.config.cache_settings import CacheConfig
from genkt.disk import cache_home
from genkt.io import home_path
from genkt.runs.model_factories import teacher_specs
from genkt.runs.pool import Pool, stored_views
from genkt.stages.teacher_cache import AUTOCAST
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.lost_images import LostImages
from genkt.training.teacher_shards import TeacherSource, cache_by_tasks

logger = logging.getLogger("genkt")


def fill_caches(config: CacheConfig, pool: Pool) -> Iterator[OutputStore]:
    """One cache per teacher, on the images of the pool.

    Raises:
        UserError: a teacher that cannot be loaded.
    """
    home = home_path(config.cache) if config.cache else cache_home()
    lost = LostImages(config.data.most_skipped, instead="it has no outputs")
    for spec in teacher_specs(config.teacher):
        yield cache_by_tasks(
            TeacherSource(spec, 0, config.device),
            pool.images,
            stored_views(config),
            home,
            executor=config.executor,
            dtype=config.dtype,
            precision=AUTOCAST[config.precision],
            batch_size=config.batch_size,
            num_workers=config.num_workers,
            lost=lost,
        )
    for note in lost.notes():
        logger.warning(note)
