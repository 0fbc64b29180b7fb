"""What a run makes before training: each draw's transfer set, and reconstructions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.set_settings import DiggSet, RetrievedSet
from genkt.config.synthesis_settings import IrfSettings
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet
from genkt.io import derive_seed
from genkt.retrieval.prepare_retrieval import store_home
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet, Represented, beside, seconds_file
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_images import RunImages
from genkt.runs.transfer_rows import kept_apart
from genkt.stages.prepare_teachers import AdaptationSettings, Teachers
from genkt.stages.teacher_cache import TeacherCache
from genkt.transfers.generators import Generators
from genkt.transfers.phases import OpenedRun, RunWithSets
from genkt.transfers.retrieved_sets import RetrievedSets
from genkt.transfers.set_maker import HOME, SetMaker
from genkt.transfers.synthesized_sets import (
    Alone,
    SynthesizedSets,
    synthesis_settings,
    synthesized,
)

logger = logging.getLogger("genkt")

RE_REPRESENT = "re-represent"
"""The name of IRF's reconstructions among the costs of a student."""

_BATCH = 64
_TRIED = 256
"""Images of a gallery that a dry run looks at."""


def maker_of(
    config: TransferConfig, folder: RunFolder, cache_home: Path, generators: Generators,
    alone: Alone,
) -> SetMaker | None:  # fmt: skip
    """The maker of each draw's set; None: the settings name a set, or no stage needs one.

    A dry run looks at a part of a gallery, and leaves nothing in the user's cache.

    Raises:
        UserError: no such generator, gallery or encoder.
    """

    def synthesis(settings: DiggSet) -> SetMaker:
        return SynthesizedSets(settings, generators, alone)

    def retrieval(settings: RetrievedSet) -> SetMaker:
        if config.dry_run:
            home = folder.path.parent / "embeddings"
            return RetrievedSets.open(settings, home, config.device, _TRIED)
        home = store_home(settings.store or str(cache_home / "embeddings"))
        return RetrievedSets.open(settings, home, config.device)

    makers: Mapping[type, Callable[[Any], SetMaker]] = {
        DiggSet: synthesis,
        RetrievedSet: retrieval,
    }
    make = makers.get(type(config.transfer_set)) if config.reads_transfer_set else None
    return make(config.transfer_set) if make is not None else None


def set_is_made(config: TransferConfig, draw: int) -> bool:
    """Whether a draw's own set is complete."""
    return seconds_file(Path(config.out) / HOME / str(draw)).is_file()


def with_sets(opened: OpenedRun, represented: Represented | None = None) -> RunWithSets:
    """The run with all its images: each draw's own set is made, or found again.

    Args:
        represented: the result of ``represent``; None: it is called here.
    """
    represented = represented or represent(opened)
    pool = opened.pool
    sets: tuple[OwnSet, ...] = ()
    if opened.maker is not None:
        found = [_kept_apart(opened, draw) for draw in pool.draws]
        sets = tuple(own for own, _ in found)
        notes = [note for _, told in found for note in told]
        pool = replace(pool, notes=(*pool.notes, *notes))
        pool = pool.with_sets([own.transfer_set for own in sets])
    images = RunImages.of(opened.config, pool, opened.fabric, opened.lost)
    cache = TeacherCache(
        opened.cache_home, opened.config, images, lambda: opened.alone("teacher outputs")
    )
    teachers = Teachers(
        factories=opened.teachers,
        settings=AdaptationSettings.of(opened.config),
        images=images,
        pool=pool,
        represented=represented,
        cache=cache,
        folder=opened.folder,
    )
    return RunWithSets(opened, pool, sets, represented, images, teachers)


def own_set(opened: OpenedRun, draw: Draw) -> OwnSet:
    """A draw's transfer set, made only from the images and labels of this draw."""
    assert opened.maker is not None
    return opened.maker.make(draw, opened.pool.splits, opened.workplace)


def _kept_apart(opened: OpenedRun, draw: Draw) -> tuple[OwnSet, tuple[str, ...]]:
    """A draw's own set without copies of test and validation images, which are reported."""
    own = own_set(opened, draw)
    found, notes = kept_apart(
        own.transfer_set, opened.pool.splits, f"transfer set of draw {draw.index}"
    )
    for note in notes:
        logger.warning(note)
    return replace(own, transfer_set=found), notes


def represent(opened: OpenedRun) -> Represented | None:
    """Reconstruct the labelled images of all draws, and the test images where an arm needs them.

    None if no stage trains on them.
    """
    config, pool = opened.config, opened.pool
    if not config.re_represents:
        return None
    rows = np.unique(np.concatenate([draw.labelled for draw in pool.draws]))
    originals = pool.images.select(rows)
    made, seconds = _reconstructed(opened, originals, "irf")
    test = None
    if config.recipe.tests_on_reconstructions(config.arms):
        test, _ = _reconstructed(opened, pool.splits.parts["test"], "irf_test")
    return Represented(beside(originals, made), rows, test, seconds)


def _reconstructed(opened: OpenedRun, images: ImageSet, name: str) -> tuple[ImageSet, float]:
    """One reconstruction per image, in the order of the images, and the seconds it took."""
    config = opened.config
    settings = synthesis_settings(IrfSettings("irf"), derive_seed(config.seed, "irf"), _BATCH)
    own = synthesized(
        settings, images.without_labels(), name, opened.workplace, opened.alone,
        lambda: opened.generators.load(config.irf.generator),
    )  # fmt: skip
    place = {record.parent: row for row, record in enumerate(own.transfer_set.records())}
    return own.transfer_set.images.select([place[each] for each in images.ids]), own.seconds
