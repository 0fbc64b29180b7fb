"""Where the pictures of a world come from: functions from a part's size to pixels and labels."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.data.builtin.digits import digits, digits_on_photos
from genkt.data.builtin.glyphs import TRAIN_FONTS, font_path
from genkt.data.images import ImageSet
from genkt.data.packages import StampWorld
from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.splits import Splits
from genkt.io import derive_seed
from genkt.types import UserError
from worlds.drawing import PATTERNS, SHAPES, Pixels, grounds, pattern, shape, sign

PARTS = ("train", "unlabelled", "validation", "test", "upstream")
"""Of a world; ``upstream`` trains teachers and is in no folder."""


@dataclass(frozen=True)
class Pictures:
    """N pictures.

    Args:
        pixels: [N, S, S, 3] uint8.  labels: [N] int64, -1: of no class.
    """

    pixels: Pixels
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: NDArray[np.int64]) -> Pictures:
        """Some of them."""
        return Pictures(self.pixels[chosen], self.labels[chosen])


Parts = dict[str, Pictures]
Counts = dict[str, int]
"""Part -> how many pictures."""

Draw = Callable[[int, np.random.Generator], Pixels]
"""A picture of a class (-1: of none)."""


def drawn(draw: Draw, num_classes: int, counts: Counts, name: str, junk: float = 0.0) -> Parts:
    """Parts of pictures that are drawn one by one, classes in turn.

    Args:
        name: of the world; a picture depends on it, its part and its place alone.
        junk: share of the unlabelled pictures that show things of no class.
    """
    parts = {}
    for part in PARTS:
        pixels, labels = [], []
        for index in range(counts[part]):
            rng = np.random.default_rng(derive_seed(name, part, index))
            other = part == "unlabelled" and rng.uniform() < junk
            labels.append(-1 if other else index % num_classes)
            pixels.append(draw(labels[-1], rng))
        parts[part] = Pictures(np.stack(pixels), np.asarray(labels))
    return parts


def signs_on_photos(
    characters: Sequence[str], fonts: Sequence[Path], side: int, others: Sequence[str] = ()
) -> Draw:
    """Signs of fonts on crops of photographs."""

    def draw(label: int, rng: np.random.Generator) -> Pixels:
        character = characters[label] if label >= 0 else str(rng.choice(list(others)))
        font = fonts[int(rng.integers(len(fonts)))]
        ground = grounds(side, 0)[int(rng.integers(len(grounds(side, 0))))]
        return sign(character, font, ground, rng)

    return draw


def shapes_of_photos(side: int) -> Draw:
    """Shapes cut out of photographs, on photographs."""

    def draw(label: int, rng: np.random.Generator) -> Pixels:
        ground, filling = grounds(side, 1)[rng.integers(len(grounds(side, 1)), size=2)]
        return shape(SHAPES[label], ground, filling, rng)

    return draw


def patterns_on_photos(side: int) -> Draw:
    """Patterns through which photographs are seen."""

    def draw(label: int, rng: np.random.Generator) -> Pixels:
        ground = grounds(side, 2)[int(rng.integers(len(grounds(side, 2))))]
        return pattern(list(PATTERNS)[label], ground, rng)

    return draw


def text_fonts() -> list[Path]:
    """Fonts of matplotlib, which every machine has."""
    return [font_path(name) for name in TRAIN_FONTS if not name.startswith("cm")]


def greek_fonts() -> list[Path]:
    """Those of them that have Greek letters."""
    return [path for path in text_fonts() if path.stem.startswith("DejaVu")]


def icon_font(packages: Path) -> Path:
    """The font of icons, Debian ``fonts-font-awesome``.

    Raises:
        UserError: it is not there.
    """
    found = sorted(packages.rglob("fontawesome-webfont.ttf"))
    if not found:
        raise UserError(
            f"icons: no fontawesome-webfont.ttf under {packages}; apt-get download "
            f"fonts-font-awesome && dpkg-deb -x fonts-font-awesome_*.deb {packages}"
        )
    return found[0]


ICONS = tuple(map(chr, (
    0xF000, 0xF001, 0xF004, 0xF005, 0xF015, 0xF024, 0xF025, 0xF030,
    0xF06C, 0xF072, 0xF084, 0xF0D1, 0xF0E7, 0xF0E9, 0xF0F3, 0xF13D,
)))  # fmt: skip
"""The classes of the icons, as code points of the font."""

OTHER_ICONS = tuple(map(chr, [*range(0xF0A0, 0xF0B0), *range(0xF100, 0xF108), 0xF135, 0xF188]))
"""Icons of no class."""


def of_splits(splits: Splits, counts: Counts, side: int) -> Parts:
    """Parts of a data set that genkt reads: what is not labelled is unlabelled."""
    pool, per_class = splits.train, counts["train"] // len(splits.train.classes)
    rows = [np.flatnonzero(pool.labels == label) for label in range(len(pool.classes))]
    first = np.sort(np.concatenate([own[:per_class] for own in rows]))
    others = np.setdiff1d(np.arange(len(pool)), first)
    unlabelled = loaded(pool.select(others), side)
    assert splits.validation is not None and splits.test is not None
    if splits.unlabelled is not None:
        unlabelled = joined(unlabelled, loaded(splits.unlabelled, side))
    return {
        "train": loaded(pool.select(first), side),
        "unlabelled": unlabelled.rows(np.arange(min(len(unlabelled), counts["unlabelled"]))),
        "validation": loaded(splits.validation, side),
        "test": loaded(splits.test, side),
    }


def loaded(images: ImageSet, side: int) -> Pictures:
    """The pixels of a set, at one size."""
    pictures = [images.load(i).convert("RGB").resize((side, side)) for i in range(len(images))]
    return Pictures(np.stack([np.asarray(each) for each in pictures]), images.labels)


def joined(first: Pictures, second: Pictures) -> Pictures:
    """One after the other."""
    return Pictures(
        np.concatenate([first.pixels, second.pixels]),
        np.concatenate([first.labels, second.labels]),
    )


def of_digits(counts: Counts, side: int, *, on_photos: bool) -> Parts:
    """Real handwritten digits."""
    return of_splits(digits_on_photos() if on_photos else digits(), counts, side)


def of_stamps(counts: Counts, side: int, packages: Path) -> Parts:
    """Photographs of things; see ``docs/worlds.md``."""
    world = StampWorld(packages, size=side)
    return of_splits(
        Splits(
            train=world.part("train"), validation=world.part("validation"), test=world.part("test"),
            unlabelled=world.part("unlabelled", counts["unlabelled"]),
        ),
        counts, side,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _clothes(folder: Path) -> Pictures:
    """The official training part of Fashion-MNIST: no other is read here."""
    images = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    rgb = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    return Pictures(rgb, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))


def of_clothes(counts: Counts, packages: Path) -> Parts:
    """Fashion-MNIST, every part out of its training part; the classes in turn."""
    pictures = _clothes(DATA_PACKAGES["fashion_mnist"].find(packages))
    order = np.random.default_rng(derive_seed("clothes")).permutation(len(pictures))
    rows = [order[pictures.labels[order] == label] for label in range(10)]
    turns = np.stack([own[: min(map(len, rows))] for own in rows], axis=1).reshape(-1)
    parts, begin = {}, 0
    for part in PARTS:
        parts[part] = pictures.rows(turns[begin : begin + counts[part]])
        begin += counts[part]
    return parts
