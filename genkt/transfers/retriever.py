"""``transfer_set=retrieved``: every draw's own set, found with its own labelled images."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from genkt.config.retrieval_settings import GLYPHS, RetrievalSettings, SearchSettings
from genkt.config.set_settings import RetrievedSet
from genkt.data.splits import Splits
from genkt.execution.ranks import Processes
from genkt.execution.tasks import HERE
from genkt.io import derive_seed
from genkt.retrieval.choose_rows import Inputs
from genkt.retrieval.prepare_retrieval import embedder_of, kept_out, read_gallery, unique_images
from genkt.retrieval.retrieve_set import run_retrieval
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet, timed_set
from genkt.settings.objects import places_in
from genkt.transfer_set.read_set import TransferSet
from genkt.transfer_set.set_files import ImageFiles

_SHARD = 1024


class Retriever:
    """What all draws of a run retrieve with: one gallery, the encoders, one store.

    Args:
        settings: of the transfer set.
        home: folder of embeddings.
        device: auto, cpu or cuda.
        most: only so many images of the gallery, for a trial.

    Raises:
        UserError: no such gallery or encoder.
    """

    def __init__(
        self, settings: RetrievedSet, home: Path, device: str, most: int | None = None
    ) -> None:
        self.settings = settings
        self.embedder = embedder_of(
            settings.encoder, None, home, HERE, _SHARD, device, settings.num_threads
        )
        glyphs = replace(settings.glyphs, num_images=min(most or 10**9, settings.glyphs.num_images))
        gallery = unique_images(read_gallery(places_in(settings.gallery), glyphs, home))
        self.gallery = gallery.select(np.arange(min(most or len(gallery), len(gallery))))

    def retrieve(
        self, draw: Draw, splits: Splits, directory: Path, processes: Processes, command: str
    ) -> OwnSet:
        """A draw's set, found with nothing but what this draw may know; test images keep out.

        Args:
            directory: the set's folder.
            processes: that share the work.
            command: of the run, for the card.
        """
        values: dict[str, Any] = {
            f.name: getattr(self.settings, f.name) for f in fields(SearchSettings)
        }
        settings = RetrievalSettings(
            **values, seed=derive_seed(draw.seed, "retrieved"), files=ImageFiles(),
            shard_size=_SHARD,
        )  # fmt: skip
        queries = unique_images(draw.images.select(draw.labelled).without_labels())
        reference = kept_out(splits, self.settings.gallery == GLYPHS)

        def make() -> TransferSet:
            return run_retrieval(
                settings,
                Inputs(queries, self.gallery, reference, splits.classes),
                directory,
                self.embedder,
                splits=splits,
                location=", ".join(places_in(self.settings.gallery)),
                processes=processes,
                command=command,
            )

        return timed_set(make, directory, processes)
