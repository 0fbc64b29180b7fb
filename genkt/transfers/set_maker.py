"""How each draw of a run gets a transfer set of its own; each way has a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from genkt.data.splits import Splits
from genkt.execution.ranks import Processes
from genkt.runs.pool import Draw
from genkt.runs.represented import OwnSet

HOME = "transfer_sets"
"""The folder of a run that holds what it made."""

SHARD_SIZE = 1024
"""Images of a file."""


@dataclass(frozen=True)
class Workplace:
    """Where a part of a run is made.

    Args:
        folder: of the run.
        processes: that share the work.
    """

    folder: Path
    processes: Processes

    @property
    def command(self) -> str:
        """Text on the card of the part."""
        return f"part of {self.folder}"

    def home(self, name: str) -> Path:
        """The part's own folder."""
        return self.folder / HOME / name


class SetMaker(ABC):
    """Makes or finds a draw's transfer images, using only the draw's own images and labels."""

    @property
    @abstractmethod
    def stage(self) -> str:
        """Its name among the costs of a student."""

    @property
    @abstractmethod
    def images_text(self) -> str:
        """The name of its images in the report."""

    @property
    @abstractmethod
    def how(self) -> str:
        """The text of a dry run on its images."""

    @property
    @abstractmethod
    def by_draw(self) -> bool:
        """Whether other processes may each make the set of a draw."""

    @property
    @abstractmethod
    def is_linear(self) -> bool:
        """Whether a dry run can estimate the time of all images from a few."""

    def notes(self, splits: Splits) -> Sequence[str]:
        """Notes for the user before anything is made.

        Raises:
            UserError: nothing to choose from but images of the data.
        """
        return ()

    @abstractmethod
    def check(self, *, built_in: bool) -> None:
        """Refuse what cannot be made, and warn if shipped models are for other images.

        Args:
            built_in: the data are those that the shipped models know.

        Raises:
            UserError: models or masks that do not fit.
        """

    @abstractmethod
    def num_images(self, draw: Draw, splits: Splits) -> int:
        """Images of a draw's set."""

    @abstractmethod
    def make(self, draw: Draw, splits: Splits, place: Workplace) -> OwnSet:
        """A draw's set: made, continued, or read if it exists."""

    @abstractmethod
    def shortened(self, num_images: int) -> Self:
        """The same with another number of images."""

    @abstractmethod
    def note(self, sets: Sequence[OwnSet]) -> str:
        """Notes of the report on all draws' sets."""
