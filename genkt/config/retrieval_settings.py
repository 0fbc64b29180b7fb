"""Typed settings of a retrieval; ``configs/retrieve.yaml`` holds the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from genkt.config.model_settings import SizedInput
from genkt.data.crops import CropSpec
from genkt.settings.bounds import Count, InputSize, NotNegative, NumProcesses, Pixels, Seed
from genkt.settings.faults import Fault, SettingsError, refuse
from genkt.settings.objects import GivenObject
from genkt.transfer_set.set_files import ImageFiles
from genkt.types import Range

Cosine = Annotated[float, Range(-1, 1)]

PIXELS, OPEN_CLIP = "pixels", "open_clip:"
"""The encoder without a network, and how the names of open_clip's models begin."""

GLYPHS = "glyphs"
"""The built-in gallery: drawn characters, none of them a real digit."""


@dataclass(frozen=True)
class EncoderSettings(SizedInput):
    """``encoder``: what images are compared by.

    Args:
        model: ``pixels``, a timm name, ``genkt:NAME``, ``open_clip:NAME``, or a list of these; or
            a module.
        shares: of each in the mean of their cosine similarities; None: all the same.
        pretrained, weights, args, transform, size, channels_last: as for a teacher.
        duplicates: mean similarity from which two images count as one.
        leaks: similarity, one for each encoder, from which an image may be one of the data.
    """

    model: str | GivenObject | list[str]
    shares: list[NotNegative] | None
    pretrained: bool
    weights: str | list[str | None] | None
    args: dict[str, Any]
    transform: dict[str, Any]
    channels_last: bool
    duplicates: Cosine | None
    leaks: Cosine | list[Cosine | None] | None
    size: InputSize | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse lists that do not fit.

        Raises:
            UserError: one line per fault.
        """
        self._keep_size()
        names, faults = self.names, []
        if self.transform and all(n == PIXELS or n.startswith(OPEN_CLIP) for n in names):
            text = f"expected none: {', '.join(names)} sees pictures in a way of its own"
            faults.append(Fault("transform", text, "together", ("size",)))
        if not names or len(set(names)) < len(names):
            faults.append(Fault("model", f"expected names that differ, got {names}"))
        for key in ("shares", "weights", "leaks"):
            given = getattr(self, key)
            if isinstance(given, list) and len(given) != len(names):
                text = f"expected {len(names)}, one per model, got {given}"
                faults.append(Fault(key, text, "together"))
        if self.shares is not None and not sum(self.shares):
            faults.append(Fault("shares", "expected some share above 0"))
        if self.duplicates is not None and self.duplicates <= 0:
            got = f"{self.duplicates:g}"
            text = f"expected a similarity above 0 and at most 1, or null, got {got}"
            faults.append(Fault("duplicates", text))
        refuse(faults)

    @property
    def names(self) -> list[str]:
        """Every encoder's name."""
        return self.model if isinstance(self.model, list) else [str(self.model)]

    @property
    def files(self) -> list[str | None]:
        """Every encoder's file of weights."""
        several = isinstance(self.weights, list)
        return list(self.weights) if several else [self.weights] * len(self.names)  # type: ignore[arg-type, list-item]

    @property
    def mean_of(self) -> tuple[float, ...]:
        """Every encoder's part of the mean; the parts add up to 1."""
        shares = self.shares or [1.0] * len(self.names)
        return tuple(share / sum(shares) for share in shares)

    @property
    def leak_thresholds(self) -> tuple[float | None, ...]:
        """Every encoder's similarity threshold for suspected leaks; None: no check."""
        several = isinstance(self.leaks, list)
        return tuple(self.leaks) if several else (self.leaks,) * len(self.names)  # type: ignore[arg-type, return-value]


@dataclass(frozen=True)
class GlyphSettings:
    """``glyphs``: the built-in gallery.

    Args:
        num_images: how many characters.  seed: of what they look like.
    """

    num_images: Count
    seed: Annotated[int, Range(0, 2**63 - 1)]


@dataclass(frozen=True)
class TextSettings:
    """``text``: queries of ``strategy=text``.

    Args:
        templates: a query for each of them and each class, whose name takes the place of ``{}``.
    """

    templates: list[str]

    def __post_init__(self) -> None:
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates:
            text = f"expected texts with one {{}} each, got {wrong}"
            raise SettingsError([Fault("templates", text)])


@dataclass(frozen=True)
class LeakSettings:
    """``decontaminate``: images that may be among those of the data, test images above all.

    Args:
        decisions: the file that the review page saved.
        assume: every suspect is a ``leak`` (left out) or none is (``keep``), without a review.
        neighbours: images of the data shown next to each suspect.
    """

    decisions: str | None
    assume: Literal["leak", "keep"] | None
    neighbours: Count

    def __post_init__(self) -> None:
        if self.decisions is not None and self.assume is not None:
            text = "expected null where decisions are given"
            raise SettingsError([Fault("assume", text, "together")])


@dataclass(frozen=True)
class SearchSettings:
    """What decides which images of a gallery are taken, and how fast.

    Args:
        encoder: what images are compared by.
        gallery: ``GLYPHS``, a location of images (``genkt.transfer_set.open_images``), several, or
            an ``ImageSet``.
        glyphs: what ``GLYPHS`` are.
        strategy: ``query_balanced`` (all queries alike), ``best_matches`` (the highest scores),
            ``random``, or ``text`` (query balanced, the queries are words).
        num_images: N; None: by ``multiplier``.
        multiplier: N as so many times the number of queries.
        n_counts: whether N counts images before near copies and leaks are left out, or after.
        on_shortage: a gallery with too few images is an error, or gives ``all`` it has.
        crops: of every gallery image; none with ``per_image`` 0.
        text: queries of ``strategy=text``.
        decontaminate: what is done with suspects.
        max_side: larger images are made smaller, to so many pixels of the longer side; None: not.
        store: folder of embeddings; None: in the cache of genkt.
        num_threads: threads that read and encode images; changes the speed alone.
    """

    encoder: EncoderSettings
    gallery: str | GivenObject | list[str]
    glyphs: GlyphSettings
    strategy: Literal["query_balanced", "best_matches", "random", "text"]
    num_images: Count | None
    multiplier: Annotated[int, Range(1, 10**6)] | None
    n_counts: Literal["before_filters", "after_filters"]
    on_shortage: Literal["error", "all"]
    crops: CropSpec
    text: TextSettings
    decontaminate: LeakSettings
    max_side: Pixels | None
    store: str | None
    num_threads: NumProcesses

    def __post_init__(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            UserError: one line per fault.
        """
        if (self.num_images is None) == (self.multiplier is None):
            text = "expected a number here or in multiplier, one of the two"
            raise SettingsError([Fault("num_images", text, "together")])
        if self.strategy == "text":
            others = [name for name in self.encoder.names if not name.startswith("open_clip:")]
            if others:
                text = (
                    "text: expected encoders that read words (open_clip:NAME), got "
                    f"{', '.join(others)}"
                )
                raise SettingsError([Fault("strategy", text, "together")])


@dataclass(frozen=True)
class RetrievalSettings(SearchSettings):
    """The same, and how images are stored.

    Args:
        seed: of ties between queries, and of ``random``.
        files: how images are stored.
        shard_size: images of one shard, of embeddings and of the set: the unit of resume.
    """

    seed: Seed
    files: ImageFiles
    shard_size: Count
