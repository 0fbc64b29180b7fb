"""The order of images in a synthesized set: rounds, sources and samples, in shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genkt.config.synthesis_settings import DiggSettings, InversionSettings, SynthesisSettings
from genkt.data.images import ImageSet
from genkt.io import derive_seed
from genkt.types import UserError


@dataclass(frozen=True)
class Group:
    """Completions of one masked source: images ``start`` to ``start + num_samples`` of the set."""

    start: int
    round: int
    source: int
    num_samples: int


@dataclass(frozen=True)
class ImagePlan:
    """The canonical order: mask round, then source, then sample.

    Image j belongs to shard ``j // shard_size``; shards hold whole groups. A longer set with the
    same seed begins with the same images.

    >>> plan = ImagePlan(num_sources=3, samples=2, num_images=7, shard_size=4)
    >>> plan.num_shards, [(g.round, g.source, g.num_samples) for g in plan.groups(1)]
    (2, [(0, 2, 2), (1, 0, 1)])

    Args:
        num_sources: sources.  samples: completions of a source in one round.
        num_images: images of the whole set.
        shard_size: images of a shard, a multiple of ``samples``.
    """

    num_sources: int
    samples: int
    num_images: int
    shard_size: int

    @property
    def num_shards(self) -> int:
        """The number of shards; the last one may be shorter."""
        return math.ceil(self.num_images / self.shard_size)

    @property
    def num_used(self) -> int:
        """The number of sources that are used."""
        return min(self.num_sources, math.ceil(self.num_images / self.samples))

    def shard_images(self, shard: int) -> range:
        """The images of one shard."""
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, self.num_images))

    def groups(self, shard: int) -> Iterator[Group]:
        """The groups of one shard, in order."""
        images = self.shard_images(shard)
        for start in range(images.start, images.stop, self.samples):
            at_round, source = divmod(start // self.samples, self.num_sources)
            yield Group(start, at_round, source, min(self.samples, images.stop - start))


def plan_of(settings: SynthesisSettings, num_sources: int) -> ImagePlan:
    """The plan that the settings ask for.

    Raises:
        UserError: no sources.
    """
    method = settings.synthesis
    if num_sources < 1:
        raise UserError("sources: expected at least one image to start from, found none")
    if isinstance(method, DiggSettings):
        samples = method.samples_per_mask
        number = method.num_images or num_sources * method.num_masks * samples
        whole = max(1, settings.shard_size // samples) * samples
        return ImagePlan(num_sources, samples, number, whole)
    if isinstance(method, InversionSettings):  # its batches are made as a whole
        batch = method.inversion.batch_size
        whole = max(1, settings.shard_size // batch) * batch
        return ImagePlan(num_sources, 1, method.num_images, whole)
    return ImagePlan(num_sources, 1, num_sources, settings.shard_size)


def ordered_sources(sources: ImageSet, settings: SynthesisSettings) -> ImageSet:
    """At most ``max_sources`` sources, in an order set by the seed and their ids.

    They are mixed, so that the first images of a set represent all classes.
    """
    ids = sources.ids
    keys = [(derive_seed(settings.seed, each, "source"), each) for each in ids]
    order = sorted(range(len(ids)), key=keys.__getitem__)
    return sources.select(np.array(order[: settings.max_sources], dtype=np.int64))
