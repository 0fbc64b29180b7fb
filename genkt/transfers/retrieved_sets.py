"""``transfer_set=retrieved``: every draw's own set, found with its own labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from genkt.config.retrieval_settings import GLYPHS, RetrievalSettings, SearchSettings
from genkt.config.set_settings import RetrievedSet, places_text
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.execution.tasks import HERE
from genkt.io import derive_seed
from genkt.readers.scan import left_out_notes
from genkt.retrieval.choose_rows import Inputs
from genkt.retrieval.embed import Embedder
from genkt.retrieval.prepare_retrieval import (
    embedder_of,
    gallery_notes,
    kept_out,
    read_gallery,
    unique_images,
    unlabelled_ids,
    warn_of_characters,
)
from genkt.retrieval.retrieval_card import leaks_text
from genkt.retrieval.retrieve_set import run_retrieval
from genkt.retrieval.search.ordering import multiplied
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet, timed_set
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles
from genkt.transfers.set_maker import SHARD_SIZE, SetMaker, Workplace


@dataclass(frozen=True)
class RetrievedSets(SetMaker):
    """What all draws of a run share for retrieval: one gallery, the encoders, one store.

    Args:
        settings: of the transfer set.
        gallery: where images are found.
        embedder: its encoders, and the store of their embeddings.
    """

    settings: RetrievedSet
    gallery: ImageSet
    embedder: Embedder

    @classmethod
    def open(
        cls, settings: RetrievedSet, home: Path, device: str, most: int | None = None
    ) -> RetrievedSets:
        """Open the gallery and load the encoders.

        Args:
            home: folder of embeddings.
            device: auto, cpu or cuda.
            most: limit of gallery images, for a trial.

        Raises:
            UserError: no such gallery or encoder.
        """
        embedder = embedder_of(
            settings.encoder, home, HERE, SHARD_SIZE, device, settings.num_threads
        )
        glyphs = replace(settings.glyphs, num_images=min(most or 10**9, settings.glyphs.num_images))
        gallery = unique_images(read_gallery(settings.gallery, glyphs, home))
        few = np.arange(min(most or len(gallery), len(gallery)))
        return cls(settings, gallery.select(few), embedder)

    @property
    def stage(self) -> str:
        return "retrieve"

    @property
    def images_text(self) -> str:
        return "retrieved"

    @property
    def how(self) -> str:
        return "retrieved (genkt retrieve dry_run=true says how long the gallery takes)"

    @property
    def by_draw(self) -> bool:
        return False  # one process searches the gallery for all draws

    @property
    def is_linear(self) -> bool:
        return False  # most of the time goes into the gallery

    def notes(self, splits: Splits) -> Sequence[str]:
        unread = [f"gallery: {note}" for note in left_out_notes(self.gallery.skipped)]
        return [*unread, *gallery_notes(self.gallery, splits, self._is_drawn)]

    @property
    def _is_drawn(self) -> bool:
        return self.settings.gallery == GLYPHS

    def check(self, *, built_in: bool) -> None:
        if not built_in:
            warn_of_characters(self.settings)

    def num_images(self, draw: Draw, splits: Splits) -> int:
        queries = len(draw.labelled)
        return self.settings.num_images or multiplied(queries, self.settings.multiplier or 1)

    def make(self, draw: Draw, splits: Splits, place: Workplace) -> OwnSet:
        """Refuse test images."""
        values: dict[str, Any] = {
            f.name: getattr(self.settings, f.name) for f in fields(SearchSettings)
        }
        settings = RetrievalSettings(
            **values, seed=derive_seed(draw.seed, "retrieved"), files=ImageFiles(),
            shard_size=SHARD_SIZE,
        )  # fmt: skip
        queries = unique_images(draw.images.select(draw.labelled).without_labels())
        reference = kept_out(splits, self._is_drawn)
        directory = place.home(str(draw.index))

        def make() -> TransferSet:
            return run_retrieval(
                settings,
                Inputs(queries, self.gallery, reference, splits.classes, unlabelled_ids(splits)),
                directory,
                self.embedder,
                splits=splits,
                location=places_text(self.settings.gallery),
                processes=place.processes,
                command=place.command,
            )

        return timed_set(make, directory, place.processes)

    def shortened(self, num_images: int) -> Self:
        return replace(self, settings=self.settings.shortened(num_images))

    def note(self, sets: Sequence[OwnSet]) -> str:
        """Where and how images were found, and what was done with suspected leaks."""
        how = _QUERIES.get(self.settings.strategy, "with its own labelled images as queries")
        leaks = dict.fromkeys(leaks_text(own.transfer_set.header) for own in sets)
        return (
            f"Every draw retrieved its transfer images from {places_text(self.settings.gallery)} "
            f"{how}; images of the data: {'; '.join(leaks)}."
        )


_QUERIES = {"random": "at random", "text": "with the names of the classes as queries"}
