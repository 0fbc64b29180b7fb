"""Typed settings of a synthesis; ``configs/synthesize.yaml`` holds the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.generative.completer import CompletionOptions
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.deep_inversion import DeepInversionSettings
from genkt.generative.masks import MaskSettings
from genkt.settings.bounds import BatchSize, Count, NumProcesses, Seed, Share
from genkt.settings.faults import Fault, SettingsError
from genkt.transfer_set.set_files import ImageFiles
from genkt.types import Range


@dataclass(frozen=True)
class DiggSettings:
    """``synthesis=digg``: hide a part of each image and draw new content for it, many times.

    Args:
        num_images: images to make, in as many rounds of masks as that needs; None: one image for
            each source, round and sample.
        num_masks: rounds, each with a mask of its own for every source (where ``num_images``
            is None).
        samples_per_mask: completions of one masked source.
        masks: what is hidden.
        sampling: how tokens are drawn.
        encode, fill, dilation, keep_visible: see ``CompletionOptions``.
    """

    name: Literal["digg"]
    num_images: Count | None
    num_masks: Count
    samples_per_mask: Count
    masks: MaskSettings
    sampling: Sampling
    encode: Literal["masked", "full"]
    fill: Literal["edge", "grey"]
    dilation: Annotated[int, Range(0, 1000)]
    keep_visible: bool

    @property
    def options(self) -> CompletionOptions:
        """The options of a completer."""
        return CompletionOptions(
            self.sampling, self.encode, self.fill, self.dilation, self.keep_visible
        )


@dataclass(frozen=True)
class IrfSettings:
    """``synthesis=irf``: every source once, as the generator represents it, with its label."""

    name: Literal["irf"]


@dataclass(frozen=True)
class InversionSettings:
    """``synthesis=deep_inversion``: pictures that a classifier takes for its classes.

    Args:
        num_images: images to make, the classes in turn.
        inversion: how they are optimised.
    """

    name: Literal["deep_inversion"]
    num_images: Count
    inversion: DeepInversionSettings


MethodSettings = DiggSettings | IrfSettings | InversionSettings


@dataclass(frozen=True)
class FilterSettings:
    """Which synthesized images stay out of the set; everything is off at None and False.

    Args:
        min_confidence: least probability of the teacher's best class.
        agreement: the teacher's best class must be that of the source.
        max_similarity: cosine similarity of teacher features from which the later of two images
            is a near copy; all features are in memory then.
        diversity: measure how different the images are in teacher features, for the card.
    """

    min_confidence: Share | None = None
    agreement: bool = False
    max_similarity: Share | None = None
    diversity: bool = False

    @property
    def needs_features(self) -> bool:
        """Whether images are compared with each other."""
        return self.diversity or self.max_similarity is not None

    @property
    def needs_teacher(self) -> bool:
        """Whether any of them is on."""
        return self.agreement or self.min_confidence is not None or self.needs_features


@dataclass(frozen=True)
class SynthesisSettings:
    """Everything that decides the bytes of a set, and how fast they come.

    Args:
        synthesis: the method.
        files: how images are stored.
        filters: what is left out.
        shard_size: images of one shard, the unit of resume and of work for one process.
        max_sources: use at most so many sources, drawn with the seed.
        seed: of masks, samples and the order of sources.
        batch_size: completions drawn at once; changes the speed alone.
        num_threads: threads that load sources and encode images; changes the speed alone.
    """

    synthesis: MethodSettings
    files: ImageFiles
    filters: FilterSettings
    shard_size: Count
    max_sources: Count | None
    seed: Seed
    batch_size: BatchSize
    num_threads: NumProcesses

    def __post_init__(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            UserError: a filter that compares with sources, for images without any.
        """
        if self.filters.agreement and isinstance(self.synthesis, InversionSettings):
            text = "expected false with synthesis=deep_inversion, whose images have no source"
            raise SettingsError([Fault("filters.agreement", text, "together")])
