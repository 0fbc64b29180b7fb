"""``transfer_set=digg``: every draw's own set, made from its labelled images; reconstructions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Self

from genkt.config.set_settings import DiggSet
from genkt.config.synthesis_settings import FilterSettings, MethodSettings, SynthesisSettings
from genkt.data.images import ImageSet, concat
from genkt.data.splits import Splits
from genkt.generative.generator import SHIPPED, Generator
from genkt.io import derive_seed
from genkt.readers.in_full import images_in_full
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet, seconds_file, timed_set
from genkt.synthesis.synthesize_set import check_models, run_synthesis
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles
from genkt.transfers.generators import Generators
from genkt.transfers.set_maker import SHARD_SIZE, SetMaker, Workplace

logger = logging.getLogger("genkt")

Alone = Callable[[str], AbstractContextManager[float]]
"""Locks the part of the run with this name against other processes."""

_THREADS = 4


@dataclass(frozen=True)
class SynthesizedSets(SetMaker):
    """Completions of a draw's images by a generator.

    Args:
        settings: of the transfer set.
        generators: of the run.
        alone: see ``Alone``.
    """

    settings: DiggSet
    generators: Generators
    alone: Alone

    @property
    def stage(self) -> str:
        return "synthesize"

    @property
    def images_text(self) -> str:
        return "synthesized (DIGG)"

    @property
    def how(self) -> str:
        return "synthesized"

    @property
    def by_draw(self) -> bool:
        return True

    @property
    def is_linear(self) -> bool:
        return True

    def check(self, *, built_in: bool) -> None:
        name = self.settings.generator
        if name.startswith(SHIPPED) and not built_in:
            logger.warning(
                "transfer_set.generator: %s draws small glyphs on photographs and may not "
                "suit your images; genkt prime and genkt convert make others",
                name,
            )
        settings = synthesis_settings(self.settings.synthesis, 0, self.settings.batch_size)
        check_models(settings, self.generators.load(name), None)

    def num_images(self, draw: Draw, splits: Splits) -> int:
        settings, sources = self.settings, len(draw.labelled)
        if settings.sources == "all":
            sources = len(splits.train) + len(splits.unlabelled or ())
        return settings.num_images or sources * settings.num_masks * settings.samples_per_mask

    def make(self, draw: Draw, splits: Splits, place: Workplace) -> OwnSet:
        settings = self.settings
        sources = draw.images.select(draw.labelled).without_labels()
        if settings.sources == "all":
            sources = splits.train.without_labels()
            if splits.unlabelled is not None:
                more = images_in_full(splits.unlabelled)
                sources = concat(sources, more.without_labels())
        made = synthesis_settings(
            settings.synthesis, derive_seed(draw.seed, "digg"), settings.batch_size
        )
        generator = settings.generator
        return synthesized(
            made, sources, str(draw.index), place, self.alone,
            lambda: self.generators.load(generator),
        )  # fmt: skip

    def shortened(self, num_images: int) -> Self:
        return replace(self, settings=self.settings.shortened(num_images))

    def note(self, sets: Sequence[OwnSet]) -> str:
        every = self.settings.sources == "all"
        sources = "all training images, no labels" if every else "its own labelled images alone"
        return (
            f"Every draw synthesized its transfer images (DIGG, {self.settings.generator}) from "
            f"{sources}."
        )


def synthesized(
    settings: SynthesisSettings, sources: ImageSet, name: str, place: Workplace, alone: Alone,
    generator: Callable[[], Generator],
) -> OwnSet:  # fmt: skip
    """Make a set in the run folder, continue an interrupted one, or read a finished one.

    Args:
        name: of its folder.
        generator: loads what makes it.
    """
    directory = place.home(name)

    def make() -> TransferSet:
        return run_synthesis(
            settings, sources, directory, generator=generator(), processes=place.processes,
            command=place.command,
        )  # fmt: skip

    made = seconds_file(directory).is_file()
    with nullcontext() if made else alone(f"transfer set {name}"):
        return timed_set(make, directory, place.processes)


def synthesis_settings(method: MethodSettings, seed: int, batch_size: int) -> SynthesisSettings:
    """The settings for ``genkt synthesize``: a run's own sets are not filtered."""
    return SynthesisSettings(
        synthesis=method, files=ImageFiles(), filters=FilterSettings(), shard_size=SHARD_SIZE,
        max_sources=None, seed=seed, batch_size=batch_size, num_threads=_THREADS,
    )  # fmt: skip
