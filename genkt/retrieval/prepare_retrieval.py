"""``genkt retrieve`` from its settings: images and encoders, then the retrieval or an estimate."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from genkt.config.data_settings import DataSettings, EmbeddedData
from genkt.config.retrieval_settings import (
    GLYPHS,
    EncoderSettings,
    GlyphSettings,
    RetrievalSettings,
    SearchSettings,
)
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.disk import cache_home
from genkt.execution.ranks import Processes, device_here
from genkt.execution.tasks import HERE, IN_PROCESS, ExecutorSettings, processes_of
from genkt.io import home_path
from genkt.models.load import is_shipped
from genkt.retrieval.choose_rows import Inputs
from genkt.retrieval.embed import Embedder
from genkt.retrieval.encoder import Encoder
from genkt.retrieval.encoders import encoder_specs, load_encoder
from genkt.retrieval.glyph_gallery import glyph_gallery
from genkt.retrieval.retrieve_set import reference_of, run_retrieval
from genkt.runs.estimate import disk_row, estimate_text, memory_row, time_row, timed
from genkt.runs.pool import chosen_images, load_splits
from genkt.runs.run_folder import RunFolder
from genkt.settings.bounds import CountOrNone
from genkt.settings.objects import places_in
from genkt.training.fabric import make_fabric, peak_memory
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.set_files import HEADER

logger = logging.getLogger("genkt")

_TRIED = 256


@dataclass(frozen=True)
class RetrieveConfig(RetrievalSettings):
    """Everything ``genkt retrieve`` needs; see ``configs/retrieve.yaml`` for each key."""

    data: DataSettings
    queries: Literal["labelled", "train", "all"]
    draw: CountOrNone
    out: str
    device: Literal["auto", "cpu", "cuda"]
    executor: ExecutorSettings
    overwrite: bool
    dry_run: bool

    @property
    def settings(self) -> RetrievalSettings:
        """What the retrieval itself needs to know."""
        return RetrievalSettings(
            **{f.name: getattr(self, f.name) for f in fields(RetrievalSettings)}
        )


@dataclass(frozen=True)
class GivenImages:
    """Objects given in Python instead of settings; None: the settings count."""

    data: ImageSet | Splits | None = None
    gallery: ImageSet | None = None
    encoders: Sequence[Encoder] | None = None


def retrieve(config: RetrieveConfig, command: str, given: GivenImages | None = None) -> TransferSet:
    """Read the images, load the encoders, and retrieve or continue the set.

    Raises:
        UserError: every mistake in settings, data or encoders, before anything is written.
    """
    given = given or GivenImages()
    RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    processes = _joined(config)
    inputs, splits = read_inputs(config, given)
    embedder = make_embedder(config, given)
    if processes.rank == 0:
        _warn(config, inputs, splits, given)
    return run_retrieval(
        config.settings,
        inputs,
        config.out,
        embedder,
        splits=splits,
        location=location_of(config, given),
        processes=processes,
        plain=asdict(config),
        command=command,
        overwrite=config.overwrite,
    )


def _joined(config: RetrieveConfig) -> Processes:
    """The processes that share the work; those of torchrun join, to wait for each other."""
    if "MASTER_ADDR" in os.environ and processes_of(config.executor).world_size > 1:
        make_fabric("fp32", config.device)
    return processes_of(config.executor)


def location_of(config: RetrieveConfig, given: GivenImages) -> str:
    """What the gallery is called in cards."""
    if given.gallery is not None:
        return "images given in Python"
    return ", ".join(config.gallery) if isinstance(config.gallery, list) else str(config.gallery)


def store_home(store: str | None) -> Path:
    """Folder of embeddings."""
    return home_path(store) if store else cache_home() / "embeddings"


def read_inputs(config: RetrieveConfig, given: GivenImages) -> tuple[Inputs, Splits | None]:
    """Queries, gallery and the images of the data.

    Raises:
        UserError: nothing there, or labels that cannot be drawn.
    """
    gallery = given.gallery
    if gallery is None:
        gallery = read_gallery(places_in(config.gallery), config.glyphs, store_home(config.store))
    gallery = unique_images(gallery)
    if isinstance(given.data, ImageSet):
        queries = unique_images(given.data)
        return Inputs(queries, gallery, queries.without_labels(), queries.classes), None
    splits = load_splits(config.data, config.seed, given.data)
    chosen = chosen_images(config.data, splits, config.queries, seed=config.seed, draw=config.draw)
    queries = unique_images(chosen)
    drawn = given.gallery is None and config.gallery == GLYPHS
    return Inputs(queries, gallery, kept_out(splits, drawn), splits.classes), splits


def kept_out(splits: Splits, drawn: bool) -> ImageSet:
    """The images of the data, which a set must not hold; a drawn gallery cannot hold any."""
    reference = unique_images(reference_of(splits))
    return reference.select([]) if drawn else reference


def read_gallery(places: Sequence[str], glyphs: GlyphSettings, home: Path) -> ImageSet:
    """The images to look through: of any places, or the built-in glyphs.

    Args:
        home: where glyphs are kept once they are drawn.
    """
    if [*places] == [GLYPHS]:
        return glyph_gallery(glyphs, home)
    return open_images([*places])


def unique_images(images: ImageSet) -> ImageSet:
    """The images without those whose id came before."""
    first = dict.fromkeys(images.ids)
    if len(first) == len(images):
        return images
    seen = dict(zip(reversed(images.ids), reversed(range(len(images))), strict=True))
    return images.select(np.array([seen[each] for each in first], dtype=np.int64))


def make_embedder(config: RetrieveConfig, given: GivenImages) -> Embedder:
    """The encoders, loaded, and what makes their embeddings."""
    return embedder_of(
        config.encoder, given.encoders, store_home(config.store), config.executor,
        config.shard_size, config.device, config.num_threads,
    )  # fmt: skip


def embedder_of(
    settings: EncoderSettings, given: Sequence[Encoder] | None, home: Path,
    executor: ExecutorSettings, shard_size: int, device: str, num_threads: int,
) -> Embedder:  # fmt: skip
    """An embedder of encoders by name, or of given ones.

    Args:
        given: encoders as objects; None: by the settings' names.
    """
    here = device_here(device)
    if given is not None:
        if executor.name not in IN_PROCESS:
            logger.warning(
                "executor=%s: other processes cannot load encoders that were given as objects; "
                "this one does the work", executor.name,
            )  # fmt: skip
            executor = HERE
        return Embedder(
            given, [None] * len(given), str(home), executor, shard_size, here, num_threads
        )
    specs = encoder_specs(settings)
    encoders = [load_encoder(spec, device=here) for spec in specs]
    return Embedder(encoders, specs, str(home), executor, shard_size, device, num_threads)


def _warn(
    config: RetrieveConfig, inputs: Inputs, splits: Splits | None, given: GivenImages
) -> None:
    """What a careful colleague would say before the work starts."""
    for note in splits.notes if splits is not None else ():
        logger.warning(note)
    for entry in inputs.gallery.skipped:
        logger.warning("left out: %s: %s", entry.path, entry.reason)
    if given.data is not None or not isinstance(config.data, EmbeddedData):
        warn_of_characters(config, given)


def warn_of_characters(settings: SearchSettings, given: GivenImages | None = None) -> None:
    """Say that what ships knows small drawn characters only; for data that are not built in."""
    given = given or GivenImages()
    shipped = [name for name in settings.encoder.names if is_shipped(name)]
    if shipped and given.encoders is None:
        logger.warning(
            "encoder: %s knows small drawn characters only, your images may be nothing like that; "
            "give any timm model, encoder=NAME", shipped[0],
        )  # fmt: skip
    if settings.gallery == GLYPHS and given.gallery is None:
        logger.warning(
            "gallery: glyphs are small drawn characters, your images may be nothing like that; "
            "give gallery=FOLDER"
        )


def estimate(config: RetrieveConfig, given: GivenImages | None = None) -> str:
    """What the retrieval would cost, from a small part of the gallery; nothing stays on disk.

    Raises:
        UserError: whatever would stop the real one at its start.
    """
    given = given or GivenImages()
    RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    with tempfile.TemporaryDirectory(prefix="genkt-") as temporary:
        small = replace(config, store=temporary) if config.gallery == GLYPHS else config
        inputs, _ = read_inputs(small, given)
        embedder = make_embedder(replace(config, executor=HERE), given)
        few = inputs.gallery.select(np.arange(min(_TRIED, len(inputs.gallery))))
        crops = config.crops if config.crops.per_image else None

        def embed(attempt: str) -> None:
            home = Path(temporary, attempt)
            replace(embedder, home=str(home)).embed(few, home / "gallery", "dry run", crops)

        _, seconds = timed(embed)
    rows = len(inputs.gallery) * max(1, config.crops.per_image)
    total = seconds / len(few) * len(inputs.gallery) / processes_of(config.executor).world_size
    size = 2 * rows * sum(encoder.width for encoder in embedder.encoders)
    device, names = device_here(config.device), " + ".join(config.encoder.names)
    pace = f"{len(few) / seconds:.1f} images/s by {names}"
    cut = f", {rows} crops" if crops is not None else ""
    return estimate_text([
        ("queries", f"{len(inputs.queries)}"),
        ("gallery", f"{len(inputs.gallery)} images{cut}"),
        time_row(total, f"on {device} to embed what is not stored yet, {pace}"),
        memory_row(peak_memory(torch.device(device))),
        disk_row(config.out, size, "the embeddings"),
    ])  # fmt: skip
