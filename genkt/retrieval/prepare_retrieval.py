"""``genkt retrieve`` from its settings: images and encoders, then the retrieval or an estimate."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from genkt.config.data_settings import EmbeddedData
from genkt.config.retrieval_settings import (
    GLYPHS,
    EncoderSettings,
    GlyphSettings,
    SearchSettings,
)
from genkt.config.set_command_settings import RetrieveConfig
from genkt.data.images import ImageSet
from genkt.data.separation import without_data
from genkt.data.splits import Splits
from genkt.disk import cache_home
from genkt.execution.ranks import Processes, device_here
from genkt.execution.tasks import HERE, IN_PROCESS, ExecutorSettings, processes_of
from genkt.io import home_path
from genkt.models.load import is_shipped
from genkt.retrieval.choose_rows import Inputs
from genkt.retrieval.embed import Embedder
from genkt.retrieval.encoders import BackboneEncoder, encoder_specs, load_encoder
from genkt.retrieval.glyph_gallery import glyph_gallery
from genkt.retrieval.retrieve_set import reference_of, run_retrieval
from genkt.runs.estimate import disk_row, estimate_text, memory_row, time_row, timed
from genkt.runs.pool import chosen_images, load_splits
from genkt.runs.run_folder import RunFolder
from genkt.settings.objects import GivenObject, has_objects, object_in, places_in
from genkt.training.fabric import make_fabric, peak_memory
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.open_images import open_images
from genkt.transfer_set.set_files import HEADER
from genkt.types import counted

logger = logging.getLogger("genkt")

_TRIED = 256


def retrieve(config: RetrieveConfig, command: str) -> TransferSet:
    """Read the images, load the encoders, and retrieve or continue the set.

    Raises:
        UserError: every mistake in settings, data or encoders, before anything is written.
    """
    RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    processes = _joined(config)
    inputs, splits = read_inputs(config)
    embedder = make_embedder(config)
    if processes.rank == 0:
        _warn(config, inputs, splits)
    return run_retrieval(
        config.settings,
        inputs,
        config.out,
        embedder,
        splits=splits,
        location=location_of(config),
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


def location_of(config: RetrieveConfig) -> str:
    """What the gallery is called in cards."""
    if has_objects(config.gallery):
        return "images given in Python"
    return ", ".join(config.gallery) if isinstance(config.gallery, list) else str(config.gallery)


def store_home(store: str | None) -> Path:
    """Folder of embeddings."""
    return home_path(store) if store else cache_home() / "embeddings"


def read_inputs(config: RetrieveConfig) -> tuple[Inputs, Splits | None]:
    """Queries, gallery and the images of the data.

    Raises:
        UserError: nothing there, a gallery of images of the data alone, or labels that cannot be
        drawn.
    """
    found = read_gallery(config.gallery, config.glyphs, store_home(config.store))
    gallery, given = unique_images(found), config.data.given
    if isinstance(given, ImageSet):
        queries = unique_images(given)
        return Inputs(queries, gallery, queries.without_labels(), queries.classes), None
    splits = load_splits(config.data, config.seed)
    chosen = chosen_images(config.data, splits, config.queries, seed=config.seed, draw=config.draw)
    queries = unique_images(chosen)
    drawn = config.gallery == GLYPHS
    splits = replace(splits, notes=(*splits.notes, *gallery_notes(gallery, splits, drawn)))
    reference = kept_out(splits, drawn)
    return Inputs(queries, gallery, reference, splits.classes, unlabelled_ids(splits)), splits


def gallery_notes(gallery: ImageSet, splits: Splits, drawn: bool) -> tuple[str, ...]:
    """Which images of a gallery are copies of images of the data, and are never retrieved.

    Args:
        drawn: nothing of the data can be in it.

    Raises:
        UserError: no other image is in it.
    """
    return () if drawn else without_data(gallery, splits, "gallery")


def unlabelled_ids(splits: Splits) -> tuple[str, ...]:
    """Ids of the data's unlabelled images."""
    return () if splits.unlabelled is None else splits.unlabelled.ids


def kept_out(splits: Splits, drawn: bool) -> ImageSet:
    """The images of the data, which a set must not hold; a drawn gallery cannot hold any."""
    reference = unique_images(reference_of(splits))
    return reference.select([]) if drawn else reference


def read_gallery(
    gallery: str | GivenObject | list[str], glyphs: GlyphSettings, home: Path
) -> ImageSet:
    """The images to look through: given in Python, of any places, or the built-in glyphs.

    Args:
        home: where glyphs are kept once they are drawn.
    """
    given = object_in(gallery)
    if given is not None:
        images: ImageSet = given.images if isinstance(given, TransferSet) else given
        return images
    if (places := places_in(gallery)) == [GLYPHS]:
        return glyph_gallery(glyphs, home)
    return open_images(places)


def unique_images(images: ImageSet) -> ImageSet:
    """The images without those whose id came before."""
    first = dict.fromkeys(images.ids)
    if len(first) == len(images):
        return images
    seen = dict(zip(reversed(images.ids), reversed(range(len(images))), strict=True))
    return images.select(np.array([seen[each] for each in first], dtype=np.int64))


def make_embedder(config: RetrieveConfig) -> Embedder:
    """The encoders, loaded, and what makes their embeddings."""
    return embedder_of(
        config.encoder, store_home(config.store), config.executor,
        config.shard_size, config.device, config.num_threads,
    )  # fmt: skip


def embedder_of(
    settings: EncoderSettings, home: Path, executor: ExecutorSettings, shard_size: int,
    device: str, num_threads: int,
) -> Embedder:  # fmt: skip
    """An embedder of encoders by name, or of a module that stands in the settings."""
    here, given = device_here(device), object_in(settings.model)
    if given is not None:
        if executor.name not in IN_PROCESS:
            logger.warning(
                "executor=%s: other processes cannot load an encoder that was given as an object; "
                "this one does the work", executor.name,
            )  # fmt: skip
            executor = HERE
        encoder = BackboneEncoder(given, here)
        return Embedder([encoder], [None], str(home), executor, shard_size, here, num_threads)
    specs = encoder_specs(settings)
    encoders = [load_encoder(spec, device=here) for spec in specs]
    return Embedder(encoders, specs, str(home), executor, shard_size, device, num_threads)


def _warn(config: RetrieveConfig, inputs: Inputs, splits: Splits | None) -> None:
    """What a careful colleague would say before the work starts."""
    for note in splits.notes if splits is not None else ():
        logger.warning(note)
    for entry in inputs.gallery.skipped:
        logger.warning("left out: %s: %s", entry.path, entry.reason)
    if not isinstance(config.data, EmbeddedData):
        warn_of_characters(config)


def warn_of_characters(settings: SearchSettings) -> None:
    """Say that what ships knows small drawn characters only; for data that are not built in."""
    shipped = [name for name in settings.encoder.names if is_shipped(name)]
    if shipped and not has_objects(settings.encoder):
        logger.warning(
            "encoder: %s knows small drawn characters only, your images may be nothing like that; "
            "give any timm model, encoder=NAME", shipped[0],
        )  # fmt: skip
    if settings.gallery == GLYPHS:
        logger.warning(
            "gallery: glyphs are small drawn characters, your images may be nothing like that; "
            "give gallery=FOLDER"
        )


def estimate(config: RetrieveConfig) -> str:
    """What the retrieval would cost, from a small part of the gallery; nothing stays on disk.

    Raises:
        UserError: whatever would stop the real one at its start.
    """
    RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    with tempfile.TemporaryDirectory(prefix="genkt-") as temporary:
        small = replace(config, store=temporary) if config.gallery == GLYPHS else config
        inputs, _ = read_inputs(small)
        embedder = make_embedder(replace(config, executor=HERE))
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
        ("gallery", f"{counted(len(inputs.gallery), 'image')}{cut}"),
        time_row(total, f"on {device} to embed what is not stored yet, {pace}"),
        memory_row(peak_memory(torch.device(device))),
        disk_row(config.out, size, "the embeddings"),
    ])  # fmt: skip
