"""``data=stamps``: photographs of things on photographs, ten classes, few of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genkt.data.images import ImageSet
from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.packages.package_parts import TestPart, confirmed
from genkt.data.packages.scenes import make_scenes
from genkt.data.packages.stamp_files import Stamp, part_stamps, read_stamps
from genkt.data.splits import Splits

PER_CLASS = {"train": 100, "validation": 30, "test": 60, "confirmation": 60}
"""Pictures of every class in the labelled parts."""

NUM_UNLABELLED = 2000
"""Pictures in each of the other parts, where no other number is asked for."""


class StampWorld:
    """All parts of the stamps; stamps and photographs of no part are in another one.

    Args:
        root: where the package lies, see ``Package.find``.
        size: side of the pictures, in pixels.

    Raises:
        UserError: the package is nowhere, or its files are others.

    Source: the stamps of Tux Paint (GPL-2), and photographs of scikit-image and scikit-learn.
    """

    def __init__(self, root: str | Path | None = None, *, size: int = 64) -> None:
        self.size, package = size, DATA_PACKAGES["stamps"]
        self.folder = package.find(root)
        stamps = read_stamps(self.folder, package.files_in(self.folder))
        self.classes = tuple(sorted({each.class_name for each in stamps} - {""}))
        self.stamps = part_stamps(stamps)

    def part(self, name: str, num_images: int = NUM_UNLABELLED) -> ImageSet:
        """The pictures of a part.

        Args:
            name: of ``PARTS``.
            num_images: of ``unlabelled`` and ``gallery``, which have no labels; the first of a
                larger number are the same.
        """
        own = self.stamps[name]
        if name in PER_CLASS:
            return self._scenes(name, self._by_class(own, PER_CLASS[name]))
        return self._scenes(name, [own[i % len(own)] for i in range(num_images)]).without_labels()

    def _by_class(self, stamps: Sequence[Stamp], count: int) -> list[Stamp]:
        """The stamps of each class in turn, until it has ``count`` pictures."""
        found = []
        for name in self.classes:
            own = [each for each in stamps if each.class_name == name]
            found += [own[i % len(own)] for i in range(count)]
        return found

    def _scenes(self, name: str, stamps: Sequence[Stamp]) -> ImageSet:
        return make_scenes(self.folder, name, stamps, self.classes, self.size)


def stamps(
    root: str | Path | None = None, *, size: int = 64, num_unlabelled: int = NUM_UNLABELLED,
    part: TestPart = "test",
) -> Splits:  # fmt: skip
    """The stamps as a task: ten classes of things on photographs.

    Args:
        root, size: see ``StampWorld``.
        num_unlabelled: pictures without a label; more than half of them show things of no class.
        part: what the test images are: ``test``, or ``confirmation``, which is for one last look.

    Raises:
        UserError: as ``StampWorld``.
    """
    world = StampWorld(root, size=size)
    splits = Splits(
        train=world.part("train"),
        validation=world.part("validation"),
        test=world.part(part),
        unlabelled=world.part("unlabelled", num_unlabelled),
    )
    return confirmed(splits, part)
