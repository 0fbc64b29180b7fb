"""Contact sheets: many thumbnails in one inline WebP, captions as real text around them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageOps

from genkt.io import derive_seed
from genkt.report.kit.templates import fragment
from genkt.types import Prediction

COLUMNS = 8
MOST_TILES = 64
LARGEST_TILE = 112
PIXEL_ART = 64
"""Pictures up to this side are stored as they are and shown with visible pixels."""


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Args:
        caption, detail: two lines shown below.  title: shown on hover.
        mark: "right", "wrong", "gained", "lost" or "" (a coloured edge).
    """

    image: Image.Image
    caption: str
    detail: str = ""
    mark: str = ""
    title: str = ""


def pick_samples(
    student: Prediction, baseline: Prediction | None, *, num_each: int = 12, seed: int = 0
) -> list[int]:
    """Rows of the test set worth a look: wrong ones, right ones, and flips against the baseline.

    Wrong answers are taken from the most confident down, the others drawn with the seed. The
    caller loads these rows' pictures into ``ReportData.sample_images``.
    """
    groups = sample_groups(student, baseline)
    confidence = student.probabilities.max(dim=1).values.cpu().numpy()
    picked: list[int] = []
    for name, rows in groups.items():
        if name in ("wrong", "lost"):
            ordered = rows[np.argsort(-confidence[rows], kind="stable")]
        else:
            generator = np.random.default_rng(derive_seed(seed, name, "sample sheet"))
            ordered = generator.permutation(rows)
        picked += [int(row) for row in ordered[:num_each]]
    return sorted(picked)


def sample_groups(student: Prediction, baseline: Prediction | None) -> dict[str, NDArray[np.intp]]:
    """Rows that are "gained", "lost", "wrong" and "right"; each row is in one group only."""
    labels = student.labels.cpu().numpy()
    right = student.predicted.cpu().numpy() == labels
    before = right if baseline is None else baseline.predicted.cpu().numpy() == labels
    masks = {
        "gained": right & ~before,
        "lost": ~right & before,
        "wrong": ~right & ~(~right & before),
        "right": right & before,
    }
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def contact_sheet(tiles: Sequence[Tile], name: str) -> Markup:
    """HTML of up to ``MOST_TILES`` tiles cut out of one inline picture.

    Args:
        name: unique on the page, our own word: it becomes part of a CSS class.
    """
    tiles = tiles[:MOST_TILES]
    if not tiles:
        return Markup()
    side = min(max(max(tile.image.size) for tile in tiles), LARGEST_TILE)
    uri = _sprite([tile.image for tile in tiles], side)
    columns, rows = min(COLUMNS, len(tiles)), math.ceil(len(tiles) / COLUMNS)
    placed = [(tile, *_place(index, columns, rows)) for index, tile in enumerate(tiles)]
    return fragment(
        "tiles.html", name=name, uri=uri, is_pixel_art=side <= PIXEL_ART, columns=columns,
        rows=rows, tiles=placed,
    )  # fmt: skip


def _place(index: int, columns: int, rows: int) -> tuple[float, float]:
    """Where in the sprite a tile's picture lies, in percent of what can be moved."""
    x, y = index % COLUMNS / max(columns - 1, 1), index // COLUMNS / max(rows - 1, 1)
    return 100 * x, 100 * y


def _sprite(images: Sequence[Image.Image], side: int) -> str:
    """All pictures on one grid, each centred in a square, as a data URI."""
    rows = math.ceil(len(images) / COLUMNS)
    grid = Image.new("RGBA", (side * min(COLUMNS, len(images)), side * rows), (0, 0, 0, 0))
    for index, image in enumerate(images):
        resample = Image.Resampling.NEAREST if side <= PIXEL_ART else Image.Resampling.LANCZOS
        fitted = ImageOps.contain(image.convert("RGB"), (side, side), resample)
        x = (index % COLUMNS) * side + (side - fitted.width) // 2
        y = (index // COLUMNS) * side + (side - fitted.height) // 2
        grid.paste(fitted, (x, y))
    stream = io.BytesIO()
    grid.save(stream, "WEBP", lossless=side <= PIXEL_ART, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
