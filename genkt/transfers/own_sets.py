"""What a run makes before anything is trained: transfer sets of each draw, reconstructions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from genkt.config.data_settings import EmbeddedData
from genkt.config.recipe_settings import IrfRecipe
from genkt.config.set_settings import DiggSet, RetrievedSet
from genkt.config.synthesis_settings import (
    FilterSettings,
    IrfSettings,
    MethodSettings,
    SynthesisSettings,
)
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet, concat
from genkt.execution.ranks import Processes
from genkt.generative.generator import SHIPPED
from genkt.io import derive_seed
from genkt.readers.scan import left_out_notes
from genkt.retrieval.prepare_retrieval import store_home, warn_of_characters
from genkt.retrieval.search.ordering import multiplied
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet, Represented, beside, seconds_file, timed_set
from genkt.runs.session import Session
from genkt.runs.transfer_rows import kept_apart
from genkt.stages.irf import SETTINGS
from genkt.synthesis.synthesize_set import check_models, run_synthesis
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles
from genkt.transfers.retriever import Retriever

logger = logging.getLogger("genkt")

HOME = "transfer_sets"
"""The folder of a run that holds what it made."""

_SHARD, _THREADS, _BATCH = 1024, 4, 64
_TRIED = 256
"""Images of a gallery that a dry run looks at."""


def synthesizes(config: TransferConfig) -> bool:
    """Whether every draw makes a transfer set of its own: some arm must distil on it."""
    return isinstance(config.read_set, DiggSet) and config.reads_transfer_set


def retrieves(config: TransferConfig) -> bool:
    """Whether every draw retrieves a transfer set of its own."""
    return isinstance(config.read_set, RetrievedSet) and config.reads_transfer_set


def needed_generators(config: TransferConfig) -> list[str]:
    """The generators of a run, each once."""
    names = [config.irf.generator] if config.re_represents else []
    if synthesizes(config) and isinstance(config.transfer_set, DiggSet):
        names.append(config.transfer_set.generator)
    return list(dict.fromkeys(names))


def check_generators(session: Session) -> None:
    """Load the generators of a run, or its gallery and encoders.

    Raises:
        UserError: one is not there, or cannot complete pictures, or its grid does not take the
            masks.
    """
    for name in needed_generators(session.config):
        session.generator(name)
    transfer_set = session.config.transfer_set
    if retrieves(session.config) and isinstance(transfer_set, RetrievedSet):
        session.retriever = _retriever(session, transfer_set)
        left_out = left_out_notes(session.retriever.gallery.skipped)
        _tell(session, [f"gallery: {note}" for note in left_out])
        if not isinstance(session.config.data, EmbeddedData):
            warn_of_characters(transfer_set)
    if not synthesizes(session.config) or not isinstance(transfer_set, DiggSet):
        return
    built_in = isinstance(session.config.data, EmbeddedData)
    if transfer_set.generator.startswith(SHIPPED) and not built_in:
        logger.warning(
            "transfer_set.generator: %s draws small glyphs on photographs, your images may be "
            "nothing like that; genkt prime and genkt convert make others",
            transfer_set.generator,
        )
    settings = _settings(transfer_set.synthesis, 0, transfer_set.batch_size)
    check_models(settings, session.generator(transfer_set.generator), None)


def set_is_made(config: TransferConfig, draw: int) -> bool:
    """Whether a draw's own set is there as a whole."""
    return seconds_file(Path(config.out) / HOME / str(draw)).is_file()


def num_made(session: Session) -> int:
    """Transfer images that a draw synthesizes or retrieves."""
    settings = session.config.transfer_set
    if session.retriever is not None and isinstance(settings, RetrievedSet):
        queries = len(session.pool.draws[0].labelled)
        return settings.num_images or multiplied(queries, settings.multiplier or 1)
    if not synthesizes(session.config) or not isinstance(settings, DiggSet):
        return 0
    sources = len(session.pool.draws[0].labelled)
    if settings.sources == "all":
        splits = session.pool.splits
        sources = len(splits.train) + len(splits.unlabelled or ())
    return settings.num_images or sources * settings.num_masks * settings.samples_per_mask


def planned_draw(session: Session) -> Draw:
    """The first draw with as many transfer images as it will have, before they are made."""
    draw = session.pool.draws[0]
    if session.sets:
        return draw
    made = np.zeros(num_made(session), np.int64)
    return replace(draw, transfer=np.concatenate([draw.transfer, made]))


def _retriever(session: Session, settings: RetrievedSet) -> Retriever:
    """A dry run looks at a part of the gallery, and leaves nothing in the user's cache."""
    if session.config.dry_run:
        home = session.folder.path.parent / "embeddings"
        return Retriever(settings, home, session.config.device, _TRIED)
    home = store_home(settings.store or str(session.cache_home / "embeddings"))
    return Retriever(settings, home, session.config.device)


def make_images(session: Session) -> None:
    """Make, or find again, all images of the run's own."""
    represent(session)
    make_sets(session)


def represent(session: Session) -> None:
    """Reconstruct, once, the labelled images that some stage trains on."""
    if session.config.re_represents and session.represented is None:
        session.represented = _represent(session)


def make_sets(session: Session) -> None:
    """Every draw's own transfer set; the pool grows by them, once."""
    if (synthesizes(session.config) or session.retriever is not None) and not session.sets:
        session.sets = tuple(_kept_apart(session, draw) for draw in session.pool.draws)
        session.pool = session.pool.with_sets([own.found.images for own in session.sets])


def _kept_apart(session: Session, draw: Draw) -> OwnSet:
    """A draw's own set without copies of test and validation images, which are told."""
    own, place = own_set(session, draw), f"transfer set of draw {draw.index}"
    found, notes = kept_apart(own.found, session.pool.splits, place)
    _tell(session, notes)
    return replace(own, found=found)


def _tell(session: Session, notes: Sequence[str]) -> None:
    """Notes in the log, and in the report."""
    for note in notes:
        logger.warning(note)
    session.pool = replace(session.pool, notes=(*session.pool.notes, *notes))


def own_set(session: Session, draw: Draw) -> OwnSet:
    """A draw's transfer set, made from nothing but what this draw may know."""
    settings = session.config.transfer_set
    if session.retriever is not None:
        fabric, path = session.fabric, session.folder.path
        processes = Processes(fabric.global_rank, fabric.world_size, fabric.barrier)
        return session.retriever.retrieve(
            draw, session.pool.splits, path / HOME / str(draw.index), processes, f"part of {path}"
        )
    assert isinstance(settings, DiggSet)
    sources = draw.images.select(draw.labelled).without_labels()
    if settings.sources == "all":
        splits = session.pool.splits
        sources = splits.train.without_labels()
        if splits.unlabelled is not None:
            sources = concat(sources, splits.unlabelled.without_labels())
    seed = derive_seed(draw.seed, "digg")
    return _made(
        session, settings.synthesis, sources, str(draw.index), settings.generator, seed,
        settings.batch_size,
    )  # fmt: skip


def _represent(session: Session) -> Represented:
    """Reconstruct the labelled images of all draws, and the test images where an arm needs them."""
    config, pool = session.config, session.pool
    rows = np.unique(np.concatenate([draw.labelled for draw in pool.draws]))
    originals = pool.images.select(rows)
    made, seconds = _reconstructed(session, originals, "irf")
    test = None
    on_test = [SETTINGS[arm].test_on == "reconstructions" for arm in config.arms if arm in SETTINGS]
    if isinstance(config.recipe, IrfRecipe) and any(on_test):
        test, _ = _reconstructed(session, pool.splits.parts["test"], "irf_test")
    return Represented(beside(originals, made), rows, test, seconds)


def _reconstructed(session: Session, images: ImageSet, name: str) -> tuple[ImageSet, float]:
    """One reconstruction an image, in the order of the images; and the seconds they took."""
    own = _made(
        session, IrfSettings("irf"), images.without_labels(), name, session.config.irf.generator,
        derive_seed(session.config.seed, "irf"), _BATCH,
    )  # fmt: skip
    place = {record.parent: row for row, record in enumerate(own.found.records())}
    return own.found.images.select([place[each] for each in images.ids]), own.seconds


def _made(
    session: Session, method: MethodSettings, sources: ImageSet, name: str, generator: str,
    seed: int, batch_size: int,
) -> OwnSet:  # fmt: skip
    """Make a set in the run folder, continue an interrupted one, or read a finished one."""
    fabric = session.fabric
    processes = Processes(fabric.global_rank, fabric.world_size, fabric.barrier)
    directory = session.folder.path / HOME / name

    def make() -> TransferSet:
        return run_synthesis(
            _settings(method, seed, batch_size), sources, directory,
            generator=session.generator(generator), processes=processes,
            command=f"part of {session.folder.path}",
        )  # fmt: skip

    made = seconds_file(directory).is_file()
    with nullcontext() if made else session.alone(f"transfer set {name}"):
        return timed_set(make, directory, processes)


def _settings(method: MethodSettings, seed: int, batch_size: int) -> SynthesisSettings:
    """What ``genkt synthesize`` would be told: nothing is left out of a run's own sets."""
    return SynthesisSettings(
        synthesis=method, files=ImageFiles(), filters=FilterSettings(), shard_size=_SHARD,
        max_sources=None, seed=seed, batch_size=batch_size, num_threads=_THREADS,
    )  # fmt: skip
