"""The worlds: eleven tasks that differ in what is seen, labels, pictures, teacher and student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worlds.drawing import PATTERNS, SHAPES
from worlds.networks import Network
from worlds.pictures import (
    ICONS,
    OTHER_ICONS,
    Counts,
    Parts,
    drawn,
    greek_fonts,
    icon_font,
    of_clothes,
    of_digits,
    of_stamps,
    patterns_on_photos,
    shapes_of_photos,
    signs_on_photos,
    text_fonts,
)


@dataclass(frozen=True)
class World:
    """A task, written as a folder of pictures.

    Args:
        classes: their names.
        counts: part -> pictures; where data of a package have fixed parts, only the first two
            and of the first as many of each class.
        make: from the counts and the folder of packages.
        teacher: a model's setting, or a network that is trained on the upstream part.
        student: a network from scratch, or a timm name.
        first_weights: the world that the student was trained on before, or None: from scratch.
        words: further settings of every run.
    """

    classes: tuple[str, ...]
    counts: Counts
    make: Callable[[Counts, Path], Parts]
    teacher: str | Network
    student: Network | str
    first_weights: Literal["letters", "icons"] | None = None
    words: tuple[str, ...] = ()


SMALL = (16, 32, 64, 128)
LARGE = (32, 64, 128, 256)
DIGITS = tuple("0123456789")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
GREEK = tuple("αβγδεζηθικλμνξοπρστυφχψω")
CLOTHES = ("bag", "boot", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "top",
           "trouser")  # fmt: skip
STAMPS = ("birds", "clothes", "flowers", "fruit", "household", "mammals", "roadsigns", "space",
          "vegetables", "vehicles")  # fmt: skip


def _counts(train: int, unlabelled: int, upstream: int) -> Counts:
    return {"train": train, "unlabelled": unlabelled, "validation": 300, "test": 1000,
            "upstream": upstream}  # fmt: skip


def _letters(counts: Counts, packages: Path) -> Parts:
    return drawn(signs_on_photos(LETTERS, text_fonts(), 32), len(LETTERS), counts, "letters")


def _greek(counts: Counts, packages: Path) -> Parts:
    return drawn(signs_on_photos(GREEK, greek_fonts(), 32), len(GREEK), counts, "greek")


def _icons(counts: Counts, packages: Path) -> Parts:
    draw = signs_on_photos(ICONS, [icon_font(packages)], 40, OTHER_ICONS)
    return drawn(draw, len(ICONS), counts, "icons", junk=0.33)


def _shapes(counts: Counts, packages: Path) -> Parts:
    return drawn(shapes_of_photos(48), len(SHAPES), counts, "shapes")


def _patterns(counts: Counts, packages: Path) -> Parts:
    return drawn(patterns_on_photos(128), len(PATTERNS), counts, "patterns")


WORLDS: dict[str, World] = {
    "digits": World(
        DIGITS, _counts(20, 900, 0), lambda counts, _: of_digits(counts, 32, on_photos=False),
        "genkt:digits_teacher", Network(SMALL, 32),
    ),
    "digits_on_photos": World(
        DIGITS, _counts(100, 900, 0), lambda counts, _: of_digits(counts, 32, on_photos=True),
        "genkt:digits_teacher", Network(SMALL, 32),
    ),
    "letters": World(
        LETTERS, _counts(130, 6000, 8000), _letters, Network(LARGE, 32, 900), Network(SMALL, 32),
    ),
    "icons": World(
        tuple(f"icon_{ord(each):x}" for each in ICONS), _counts(160, 3000, 3000), _icons,
        Network(LARGE, 32, 600), Network(SMALL, 32),
    ),
    "shapes": World(
        SHAPES, _counts(80, 4000, 4000), _shapes, Network(LARGE, 32, 700),
        Network((12, 24, 48, 96), 48),
    ),
    "clothes": World(
        CLOTHES, _counts(500, 20000, 8000), of_clothes, Network(LARGE, 32, 500),
        Network(SMALL, 32),
    ),
    "patterns": World(
        tuple(PATTERNS), _counts(30, 2000, 3000), _patterns, Network(LARGE, 48, 400), "lcnet_035",
        words=("student.pretrained=false", "student.transform={input_size:[64,64]}"),
    ),
    "shapes_vit": World(
        SHAPES, _counts(80, 4000, 4000), _shapes, Network(LARGE, 32, 700), "vit_tiny_patch16_224",
        words=(
            "student.pretrained=false",
            "student.args={img_size:32,patch_size:8,embed_dim:96,depth:4,num_heads:3}",
            "student.transform={input_size:[32,32],crop_pct:1.0}",
        ),
    ),
    "stamps": World(
        STAMPS, _counts(100, 2900, 0), lambda counts, packages: of_stamps(counts, 64, packages),
        "genkt:efficientnet_lite0", Network((12, 24, 48, 96), 48),
        words=("teacher.transform={input_size:[128,128]}", "teacher.channels_last=true"),
    ),
    "greek": World(
        GREEK, _counts(240, 2000, 4000), _greek, Network(LARGE, 32, 700), Network(SMALL, 32, 800),
        first_weights="letters",
    ),
    "icons_pretrained": World(
        tuple(f"icon_{ord(each):x}" for each in ICONS), _counts(80, 1500, 3000), _icons,
        Network(LARGE, 32, 600), Network(SMALL, 32, 800), first_weights="letters",
    ),
}  # fmt: skip
"""Name -> world."""
