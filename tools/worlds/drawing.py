"""Pictures that are drawn: signs of fonts, shapes and patterns, each from a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, UPSTREAM_PHOTOS, photo_crops

Pixels = NDArray[np.uint8]
"""[S, S, 3], or [N, S, S, 3]."""

_NUM_GROUNDS = 400
_LARGEST_CROP = 64  # the smallest photograph has no larger ones


@lru_cache(maxsize=4)
def grounds(side: int, seed: int) -> Pixels:
    """Crops of photographs to draw on: [400, side, side, 3]."""
    photos, size = DOWNSTREAM_PHOTOS + UPSTREAM_PHOTOS, min(side, _LARGEST_CROP)
    crops = photo_crops(photos, _NUM_GROUNDS, seed=seed, size=size)
    return np.stack([np.asarray(Image.fromarray(crop).resize((side, side))) for crop in crops])


def sign(
    character: str, font: Path, ground: Pixels, rng: np.random.Generator, *, degrees: float = 25
) -> Pixels:
    """A sign of a font in one colour, turned and put somewhere on a ground, which is softened."""
    side, ground = len(ground), _softened(ground)
    size = max(8, round(side * rng.uniform(0.55, 0.95)))
    box = ImageFont.truetype(str(font), 2 * size).getbbox(character)
    ink = Image.new("L", (round(box[2] - box[0]) + 8, round(box[3] - box[1]) + 8))
    drawn = ImageDraw.Draw(ink)
    drawn.text((4 - box[0], 4 - box[1]), character, 255, ImageFont.truetype(str(font), 2 * size))
    ink = ink.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BILINEAR, expand=True)
    scale = size / max(ink.size)
    ink = ink.resize(
        (max(1, round(ink.width * scale)), max(1, round(ink.height * scale))),
        Image.Resampling.BILINEAR,
    )
    mask = Image.new("L", (side, side))
    mask.paste(ink, (_offset(side - ink.width, rng), _offset(side - ink.height, rng)))
    return _mixed(ground, _against(ground, rng), np.asarray(mask), rng)


def _softened(ground: Pixels) -> Pixels:
    """With half of its contrast."""
    softened: Pixels = (ground / 2 + ground.mean(axis=(0, 1)) / 2).astype(np.uint8)
    return softened


def _offset(room: int, rng: np.random.Generator) -> int:
    return round(room * rng.uniform(0.25, 0.75))


def _against(ground: Pixels, rng: np.random.Generator) -> Pixels:
    """One colour that is lighter, or darker, than the ground is on the whole."""
    mean = ground.mean()
    low, high = (0, max(1, mean - 70)) if mean > 127 else (min(254, mean + 70), 255)
    return np.broadcast_to(rng.uniform(low, high, 3).astype(np.uint8), ground.shape)


def _mixed(ground: Pixels, ink: Pixels, mask: Pixels, rng: np.random.Generator) -> Pixels:
    """Ink on a ground where the mask is, with some noise."""
    share = mask[..., None] / 255 * rng.uniform(0.85, 1)
    mixed = ground * (1 - share) + ink * share + rng.normal(0, rng.uniform(0, 8), ground.shape)
    return mixed.clip(0, 255).astype(np.uint8)


SHAPES = ("circle", "crescent", "cross", "hexagon", "ring", "square", "star", "triangle")
"""What ``shape`` draws."""


def shape(name: str, ground: Pixels, filling: Pixels, rng: np.random.Generator) -> Pixels:
    """A shape cut out of one photograph, lighter or darker than another, which it lies on."""
    side, ground = len(ground), _softened(ground)
    mask = Image.new("L", (2 * side, 2 * side))
    draw = ImageDraw.Draw(mask)
    radius = side * rng.uniform(0.45, 0.8)
    middle = (side * rng.uniform(0.85, 1.15), side * rng.uniform(0.85, 1.15))
    _cut(draw, name, middle, radius, rng.uniform(0, 2 * math.pi))
    mask = mask.resize((side, side), Image.Resampling.BILINEAR)
    lit = _softened(filling) / 2.0 + _against(ground, rng) / 2.0
    return _mixed(ground, lit.astype(np.uint8), np.asarray(mask), rng)


def _cut(
    draw: ImageDraw.ImageDraw, name: str, middle: tuple[float, float], radius: float, turn: float
) -> None:
    def disc(x: float, y: float, r: float, fill: int) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), fill)

    def corners(radii: Sequence[float]) -> None:
        angles = [turn + 2 * math.pi * i / len(radii) for i in range(len(radii))]
        draw.polygon(
            [(middle[0] + r * math.cos(a), middle[1] + r * math.sin(a))
             for r, a in zip(radii, angles, strict=True)], 255,
        )  # fmt: skip

    if name in ("circle", "ring", "crescent"):
        disc(*middle, radius, 255)
        if name == "ring":
            disc(*middle, radius * 0.55, 0)
        if name == "crescent":
            aside = 0.5 * radius
            disc(middle[0] + aside * math.cos(turn), middle[1] + aside * math.sin(turn),
                 radius * 0.8, 0)  # fmt: skip
    else:
        corners({
            "triangle": [radius] * 3, "square": [radius] * 4, "hexagon": [radius] * 6,
            "star": [radius, radius * 0.45] * 5, "cross": [radius, radius, radius * 0.4] * 4,
        }[name])  # fmt: skip


PATTERNS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "bricks": lambda u, v: np.minimum(
        np.sin(v) ** 2, np.sin(u / 2 + (np.floor(v / math.pi) % 2) * math.pi / 2) ** 2
    ) * 4 - 1,
    "checks": lambda u, v: np.sign(np.sin(u)) * np.sign(np.sin(v)),
    "dots": lambda u, v: np.sin(u) + np.sin(v) - 0.7,
    "fans": lambda u, v: np.sin(8 * np.arctan2(v, u)),
    "plaid": lambda u, v: np.sin(u) + np.sin(v) + np.sin(3 * u) / 2,
    "rings": lambda u, v: np.sin(np.hypot(u, v)),
    "spirals": lambda u, v: np.sin(np.hypot(u, v) + 2 * np.arctan2(v, u)),
    "stripes": lambda u, v: np.sin(u),
    "waves": lambda u, v: np.sin(u + 2 * np.sin(v / 2)),
    "zigzags": lambda u, v: np.sin(u + 2 * np.abs((v / 3) % 2 - 1)),
}  # fmt: skip
"""Name -> a height between about -1 and 1 at every point of a plane."""


def pattern(name: str, ground: Pixels, rng: np.random.Generator) -> Pixels:
    """A pattern in two colours, turned and scaled, through which a ground is seen."""
    side = len(ground)
    line = np.linspace(-1, 1, side)
    x, y = np.meshgrid(line + rng.uniform(-0.4, 0.4), line + rng.uniform(-0.4, 0.4))
    angle, pace = rng.uniform(0, 2 * math.pi), rng.uniform(9, 20)
    bent = 0.08 * np.sin(3 * y + rng.uniform(0, 6))
    u = pace * (math.cos(angle) * (x + bent) - math.sin(angle) * y)
    v = pace * (math.sin(angle) * (x + bent) + math.cos(angle) * y)
    share = 1 / (1 + np.exp(-4 * PATTERNS[name](u, v)))[..., None]
    first, second = rng.uniform(0, 255, (2, 3))
    painted = first * share + second * (1 - share)
    seen = rng.uniform(0.3, 0.65)
    noise = rng.normal(0, rng.uniform(4, 25), ground.shape)
    mixed: Pixels = (painted * (1 - seen) + ground * seen + noise).clip(0, 255).astype(np.uint8)
    return mixed
