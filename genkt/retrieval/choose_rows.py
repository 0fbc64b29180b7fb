"""From embedded images to the ones that are taken: order, filters, suspects."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.config.retrieval_settings import RetrievalSettings
from genkt.data.images import ImageSet, content_of
from genkt.execution.tasks import ExecutorSettings
from genkt.retrieval.embed import Embedder
from genkt.retrieval.gallery import StoredGallery
from genkt.retrieval.gallery_search import Search
from genkt.retrieval.leaks import Suspect, find_suspects
from genkt.retrieval.leave_out import (
    NEAR,
    OF_THE_DATA,
    SAME,
    GalleryCandidates,
    Kept,
    among,
    near_copies,
    repeated,
)
from genkt.retrieval.search.ordering import Ordering, multiplied

logger = logging.getLogger("genkt")

_MARGIN = 1.3

Rows = tuple[NDArray[np.float16], ...]


@dataclass(frozen=True)
class Inputs:
    """The images of a retrieval.

    Args:
        queries: what is looked for; nothing with ``strategy=text``.
        gallery: what is looked through.
        reference: the images of the data that must not be retrieved, nor anything like them.
        classes: names of the data's classes, for words.
        unlabelled: ids of the data's unlabelled images, of which only copies are left out.
    """

    queries: ImageSet
    gallery: ImageSet
    reference: ImageSet
    classes: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """What a search found and the filters left.

    Args:
        ordering: candidates, in the order of retrieval.
        candidates: their features.
        kept: those that stay, suspects included.
    """

    ordering: Ordering
    candidates: GalleryCandidates
    kept: Kept


@dataclass(frozen=True)
class RetrievalChoice:
    """One retrieval up to the point where images are written.

    Args:
        settings: of the search.  inputs: its images.
        embedder: makes features.  executor: who works.
        work: a folder of the run.
    """

    settings: RetrievalSettings
    inputs: Inputs
    embedder: Embedder
    executor: ExecutorSettings
    work: Path

    @property
    def num_images(self) -> int:
        """N."""
        if self.settings.num_images is not None:
            return self.settings.num_images
        return multiplied(len(self.query_ids), self.settings.multiplier or 1)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The queries of ``strategy=text``."""
        if self.settings.strategy != "text":
            return ()
        templates = self.settings.text.templates
        return tuple(each.replace("{}", name) for name in self.inputs.classes for each in templates)

    @property
    def query_ids(self) -> tuple[str, ...]:
        """What the queries are called."""
        if self.settings.strategy == "text":
            return tuple(f"text:{text}" for text in self.texts)
        return self.inputs.queries.ids

    @cached_property
    def gallery(self) -> StoredGallery:
        """The rows of the gallery, embedded now where they are not known."""
        crops = self.settings.crops if self.settings.crops.per_image else None
        return self.embedder.embed(self.inputs.gallery, self.work / "gallery", "gallery", crops)

    @cached_property
    def queries(self) -> Rows:
        """Features of the queries."""
        if self.settings.strategy == "text":
            from genkt.retrieval.clip import encode_texts

            texts: Rows = encode_texts(self.embedder.encoders, self.texts)
            return texts
        return self._features(self.inputs.queries, "queries")

    @cached_property
    def reference(self) -> Rows:
        """Features of the images of the data."""
        return self._features(self.inputs.reference, "data")

    def _features(self, images: ImageSet, name: str) -> Rows:
        if not len(images):
            return tuple(
                np.empty((0, each.width), dtype=np.float16) for each in self.embedder.encoders
            )
        gallery = self.embedder.embed(images, self.work / name, name)
        return gallery.features(0, gallery.num_rows)

    def chosen(self) -> Chosen:
        """Search and filter; search deeper where ``n_counts`` counts after the filters.

        Raises:
            UserError: the gallery has too few images.
        """
        settings, wanted = self.settings, self.num_images
        queries = () if settings.strategy == "random" else self.queries
        search = Search(
            self.gallery, queries, self.query_ids, settings, self.work / "search", self.executor,
            self.embedder.shard_size,
        )  # fmt: skip
        asked = wanted
        while True:
            ordering = search.order(asked).take(asked, on_shortage="all")
            if settings.n_counts == "before_filters":
                ordering = ordering.take(wanted, on_shortage=settings.on_shortage)
            candidates = self._candidates(ordering)
            kept = self._filtered(candidates)
            left = len(kept.places) - len(kept.suspects)  # enough, whatever the decisions are
            enough = settings.n_counts == "before_filters" or left >= wanted
            if enough or len(ordering) < asked or asked >= self.gallery.num_rows:
                return Chosen(ordering, candidates, kept)
            more = math.ceil(_MARGIN * asked * wanted / max(1, left))
            asked = min(self.gallery.num_rows, more, 10 * asked)

    def image_places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in the gallery's set of the images that rows are of."""
        return np.asarray(self.gallery.images[rows // self.gallery.rows_per_image])

    def _candidates(self, ordering: Ordering) -> GalleryCandidates:
        places = self.image_places(ordering.rows)
        ids = [self.inputs.gallery.ids[place] for place in places.tolist()]
        rows = self.gallery.gather(ordering.rows)
        if not self.settings.crops.per_image:
            return GalleryCandidates(ids, rows, rows)
        unique, inverse = np.unique(places, return_inverse=True)
        images = self.inputs.gallery.select(unique)
        whole = self.embedder.embed(images, self.work / "whole", "whole images of crops")
        return GalleryCandidates(ids, rows, whole.gather(inverse))

    def _filtered(self, candidates: GalleryCandidates) -> Kept:
        """Leave out, in this order: repeated images, images of the data, near copies."""
        own = (*self.inputs.reference.ids, *self.inputs.unlabelled)
        steps: list[tuple[str, Callable[[GalleryCandidates], NDArray[np.bool_]]]] = [
            (SAME, lambda here: repeated(here.image_ids)),
            (OF_THE_DATA, lambda here: among(here.image_ids, own)),
            (NEAR, lambda here: near_copies(here.whole, self.settings.encoder)),
        ]
        places = np.arange(len(candidates.image_ids))
        dropped: dict[str, int] = {}
        for reason, find in steps:
            out = find(candidates.select(places))
            dropped[reason] = int(out.sum())
            places = places[~out]
        return Kept(places, dropped, self._suspects(candidates, places))

    def _suspects(self, candidates: GalleryCandidates, places: NDArray[np.int64]) -> list[Suspect]:
        looked_for = any(each is not None for each in self.settings.encoder.leak_thresholds)
        if not len(self.inputs.reference) or not looked_for:
            return []
        here = candidates.select(places)
        sides = [here.whole] if here.whole is here.rows else [here.whole, here.rows]
        found = find_suspects(
            sides, here.image_ids, self.reference, self.settings.encoder,
            self.settings.decontaminate.neighbours,
        )  # fmt: skip
        return [Suspect(int(places[each.place]), each.image_id, each.neighbours) for each in found]


def query_of(ordering: Ordering, place: int, query_ids: Sequence[str]) -> str | None:
    """The id of the query that found a candidate."""
    query = int(ordering.queries[place])
    return query_ids[query] if query >= 0 else None


def named_parts(splits: dict[str, ImageSet]) -> dict[str, str]:
    """Content hash of every image of the data -> the part it is in."""
    return {content_of(each): name for name, images in splits.items() for each in images.ids}
