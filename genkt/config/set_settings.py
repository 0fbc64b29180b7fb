"""Typed settings of transfer sets: ``configs/transfer_set``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from genkt.config.retrieval_settings import SearchSettings
from genkt.config.synthesis_settings import DiggSettings
from genkt.settings.bounds import BatchSize, Count, NotNegative
from genkt.settings.faults import Fault, refuse
from genkt.settings.objects import GivenObject

OWN_PARTS = ("labelled", "unlabelled")
"""Parts of a set that are a draw's own images of the data."""

Opener = Literal["pictures", "saved", "any"]
"""How a place of images is read: a folder and the like, a set that genkt wrote, or either."""


@dataclass(frozen=True)
class SetPart:
    """One kind of transfer images of a run.

    Args:
        name: one of ``OWN_PARTS``, or what messages call it.
        places: where its images are; None: they are a draw's own.
        opened: how they are read.
        share: weight in every batch; None: all images come equally often.
        most: of them in a draw.
    """

    name: str
    places: str | GivenObject | list[str] | None = None
    opened: Opener = "any"
    share: float | None = None
    most: int | None = None


class SetKind:
    """The interface of every kind of transfer set."""

    name: str

    @property
    def set_parts(self) -> list[SetPart]:
        """What a draw transfers on; nothing where there are labels alone, or it makes its set."""
        return []

    @property
    def most_images(self) -> int | None:
        """Transfer images of a draw, at most."""
        return None

    @property
    def stored_views(self) -> int | None:
        """Views stored of an image, where the set has a number of its own."""
        return None

    @property
    def has_images(self) -> bool:
        """Whether there are transfer images other than the labelled ones."""
        return True

    @property
    def mixes_in_labelled(self) -> bool:
        """Whether labelled images are among its own."""
        return False

    @property
    def generators(self) -> list[str]:
        """What makes its images."""
        return []

    @property
    def most_made(self) -> int:
        """Images that a draw synthesizes, where the settings alone say how many."""
        return 0

    @property
    def real_images(self) -> str:
        """The name of its original pictures in a report."""
        return "real, elsewhere"

    def shortened(self, num_images: int) -> Self:
        """The same with so many images, where a draw makes or finds them."""
        return self

    def in_small(self, num_images: int, generator: str) -> tuple[TransferSettings, str]:
        """Its replacement in a smoke run, and a line that reports it, or "".

        Args:
            generator: one that is on every disk.
        """
        return UnlabelledSet("unlabelled", None), f"transfer_set=unlabelled in place of {self.name}"

    def note(self, shares: Sequence[tuple[float, int]]) -> str:
        """A line for the report on where the images are from; "" where there is nothing to say.

        Args:
            shares: (weight, number of images) of the parts that share every batch.
        """
        return ""


@dataclass(frozen=True)
class UnlabelledSet(SetKind):
    """``transfer_set=unlabelled``: the data's own unlabelled images."""

    name: Literal["unlabelled"]
    max_images: Count | None

    @property
    def set_parts(self) -> list[SetPart]:
        return [SetPart("unlabelled")]

    @property
    def most_images(self) -> int | None:
        return self.max_images

    @property
    def real_images(self) -> str:
        return "real, unlabelled"

    def in_small(self, num_images: int, generator: str) -> tuple[TransferSettings, str]:
        return UnlabelledSet("unlabelled", None), ""


@dataclass(frozen=True)
class LabelledSet(SetKind):
    """``transfer_set=labelled``: only the labelled images."""

    name: Literal["labelled"]

    @property
    def has_images(self) -> bool:
        return False

    def in_small(self, num_images: int, generator: str) -> tuple[TransferSettings, str]:
        return self, ""


@dataclass(frozen=True)
class FolderSet(SetKind):
    """``transfer_set=folder``: images of any places (see ``open_images``), labels not read."""

    name: Literal["folder"]
    root: str | list[str]
    max_images: Count | None

    @property
    def set_parts(self) -> list[SetPart]:
        return [SetPart(f"root={places_text(self.root)}", self.root, "pictures")]

    @property
    def most_images(self) -> int | None:
        return self.max_images


@dataclass(frozen=True)
class DiggSet(DiggSettings, SetKind):
    """``transfer_set=digg``: images that each draw synthesizes from its own labelled ones.

    Args:
        generator: a folder, or ``genkt:NAME`` for a shipped one.
        sources: what is completed: a draw's ``labelled`` images, or ``all`` training and
            unlabelled images (their labels are never used).
        num_views: stored views of an image in the distillation; each is a teacher's pass. None:
            as ``data.views``.
        batch_size: completions drawn at once; changes the speed alone.
    """

    generator: str
    sources: Literal["labelled", "all"]
    num_views: Count | None
    batch_size: BatchSize

    @property
    def synthesis(self) -> DiggSettings:
        """What ``genkt synthesize`` calls these settings, without those of a transfer."""
        return DiggSettings(**{f.name: getattr(self, f.name) for f in fields(DiggSettings)})

    @property
    def stored_views(self) -> int | None:
        return self.num_views

    @property
    def generators(self) -> list[str]:
        return [self.generator]

    @property
    def most_made(self) -> int:
        return self.num_images or 0

    def shortened(self, num_images: int) -> Self:
        return replace(self, num_images=num_images)

    def in_small(self, num_images: int, generator: str) -> tuple[TransferSettings, str]:
        told = f"transfer_set=digg: {num_images} images, drawn by {generator}"
        return replace(self, generator=generator, num_images=num_images), told


@dataclass(frozen=True)
class RetrievedSet(SearchSettings, SetKind):
    """``transfer_set=retrieved``: images that each draw retrieves with its own labelled ones.

    Args:
        num_views: stored views of an image in the distillation; each is a teacher's pass. None:
            as ``data.views``.
    """

    name: Literal["retrieved"]
    num_views: Count | None

    @property
    def stored_views(self) -> int | None:
        return self.num_views

    def shortened(self, num_images: int) -> Self:
        return replace(self, num_images=num_images, multiplier=None, on_shortage="all")


@dataclass(frozen=True)
class SavedSet(SetKind):
    """``transfer_set=saved``: sets that genkt wrote, one or several; their labels are not read.

    Args:
        root: a folder, several, or a ``TransferSet``.
    """

    name: Literal["saved"]
    root: str | GivenObject | list[str]
    max_images: Count | None
    num_views: Count | None

    @property
    def set_parts(self) -> list[SetPart]:
        return [SetPart(f"root={places_text(self.root)}", self.root, "saved")]

    @property
    def most_images(self) -> int | None:
        return self.max_images

    @property
    def stored_views(self) -> int | None:
        return self.num_views

    def note(self, shares: Sequence[tuple[float, int]]) -> str:
        given = isinstance(self.root, GivenObject)
        where = "given in Python" if given else f"read from {places_text(self.root)}"
        total = sum(share for share, _ in shares)
        shown = [f"{100 * share / total:.3g} % ({count} images)" for share, count in shares]
        shared = f" Their parts share the transfer rows of a step: {', '.join(shown)}."
        return f"Transfer images were {where}, without their labels.{shared if shown else ''}"


@dataclass(frozen=True)
class MixSet(SetKind):
    """``transfer_set=mix``: several kinds of images, each with a share of every batch or all alike.

    Args:
        parts: each a saved set or any other place of images (see ``open_images``), or
            ``labelled`` / ``unlabelled``: the draw's own images of the data.
        shares: weights above 0, one per part: what it has of the transfer rows of every batch.
            None: every image comes equally often.
        max_images: of each part, at most: one number for all, or one per part.
        num_views: stored views of an image. None: as ``data.views``.
    """

    name: Literal["mix"]
    parts: list[str]
    shares: list[NotNegative] | None
    max_images: list[Count | None] | Count | None
    num_views: Count | None

    def __post_init__(self) -> None:
        """Refuse lists that do not fit together.

        Raises:
            UserError: one line per fault.
        """
        faults = []
        if not self.parts or len(set(self.parts)) < len(self.parts):
            text = f"expected different places, at least one, got {self.parts}"
            faults.append(Fault("parts", text))
        for key in ("shares", "max_images"):
            given = getattr(self, key)
            if isinstance(given, list) and len(given) != len(self.parts):
                text = f"expected {len(self.parts)} values, one per part, got {given}"
                faults.append(Fault(key, text, "together"))
        if any(not (share > 0 and share < float("inf")) for share in self.shares or ()):
            faults.append(Fault("shares", f"expected numbers above 0, got {self.shares}"))
        refuse(faults)

    @property
    def set_parts(self) -> list[SetPart]:
        most = self.max_images
        limits = most if isinstance(most, list) else [most] * len(self.parts)
        shares: Sequence[float | None] = self.shares or [None] * len(self.parts)
        return [
            SetPart(name, None if name in OWN_PARTS else name, "any", share, limit)
            for name, share, limit in zip(self.parts, shares, limits, strict=True)
        ]

    @property
    def stored_views(self) -> int | None:
        return self.num_views

    @property
    def mixes_in_labelled(self) -> bool:
        return "labelled" in self.parts

    def note(self, shares: Sequence[tuple[float, int]]) -> str:
        if self.shares is None:
            return f"Transfer images, each as often as any other: {', '.join(self.parts)}."
        parts = zip(self.parts, self.shares, strict=True)
        of_each = (f"{100 * share / sum(self.shares):.3g} % {name}" for name, share in parts)
        return f"Of the transfer rows of a step: {', '.join(of_each)}."


def places_text(places: str | GivenObject | list[str]) -> str:
    """One place or several, as messages show them."""
    if isinstance(places, GivenObject):
        return "images given in Python"
    return places if isinstance(places, str) else ", ".join(places)


TransferSettings = (
    UnlabelledSet | LabelledSet | FolderSet | SavedSet | MixSet | DiggSet | RetrievedSet
)
