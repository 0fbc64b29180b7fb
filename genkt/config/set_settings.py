"""Typed settings of transfer sets: ``configs/transfer_set``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from genkt.config.retrieval_settings import SearchSettings
from genkt.config.synthesis_settings import DiggSettings
from genkt.settings.bounds import BatchSize, Count, NotNegative
from genkt.settings.faults import Fault, refuse
from genkt.settings.objects import GivenObject

OWN_PARTS = ("labelled", "unlabelled")
"""Parts of a mix that are a draw's own images of the data."""


@dataclass(frozen=True)
class UnlabelledSet:
    """``transfer_set=unlabelled``: the data's own unlabelled images."""

    name: Literal["unlabelled"]
    max_images: Count | None


@dataclass(frozen=True)
class LabelledSet:
    """``transfer_set=labelled``: nothing beside the labelled images."""

    name: Literal["labelled"]


@dataclass(frozen=True)
class FolderSet:
    """``transfer_set=folder``: images of any places (see ``open_images``), labels not read."""

    name: Literal["folder"]
    root: str | list[str]
    max_images: Count | None


@dataclass(frozen=True)
class DiggSet(DiggSettings):
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


@dataclass(frozen=True)
class RetrievedSet(SearchSettings):
    """``transfer_set=retrieved``: images that each draw retrieves with its own labelled ones.

    Args:
        num_views: stored views of an image in the distillation; each is a teacher's pass. None:
            as ``data.views``.
    """

    name: Literal["retrieved"]
    num_views: Count | None


@dataclass(frozen=True)
class SavedSet:
    """``transfer_set=saved``: sets that genkt wrote, one or several; their labels are not read.

    Args:
        root: a folder, several, or a ``TransferSet``.
    """

    name: Literal["saved"]
    root: str | GivenObject | list[str]
    max_images: Count | None
    num_views: Count | None


@dataclass(frozen=True)
class MixSet:
    """``transfer_set=mix``: several kinds of images, each with a share of every batch or all alike.

    Args:
        parts: each a saved set or any other place of images (see ``open_images``), or
            ``labelled`` / ``unlabelled``: the draw's own images of the data.
        shares: weights above 0, one a part: what it has of the transfer rows of every batch.
            None: every image comes equally often.
        max_images: of each part, at most: one number for all, or one a part.
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
            UserError: one line a fault.
        """
        faults = []
        if not self.parts or len(set(self.parts)) < len(self.parts):
            text = f"expected different places, at least one, got {self.parts}"
            faults.append(Fault("parts", text))
        for key in ("shares", "max_images"):
            given = getattr(self, key)
            if isinstance(given, list) and len(given) != len(self.parts):
                text = f"expected {len(self.parts)} values, one a part, got {given}"
                faults.append(Fault(key, text, "together"))
        if any(not (share > 0 and share < float("inf")) for share in self.shares or ()):
            faults.append(Fault("shares", f"expected numbers above 0, got {self.shares}"))
        refuse(faults)

    @property
    def limits(self) -> list[int | None]:
        """``max_images`` of every part."""
        most = self.max_images
        return list(most) if isinstance(most, list) else [most] * len(self.parts)


TransferSettings = (
    UnlabelledSet | LabelledSet | FolderSet | SavedSet | MixSet | DiggSet | RetrievedSet
)
