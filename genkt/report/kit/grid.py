"""Rows of small pictures on one sheet, as a PNG: for cards, logs and the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from genkt.io import atomic_path

_GAP, _MARGIN, _TEXT = 3, 10, 13
_PAPER, _INK = "#ffffff", "#3c4450"


def picture_grid(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[str] = (), *, side: int = 64
) -> Image.Image:
    """Rows of pictures, each scaled to ``side`` pixels; columns under their captions.

    Args:
        rows: pictures, any sizes; rows may differ in length.
        captions: one per column, "" for none; drawn over the first columns.
    """
    columns = max(len(row) for row in rows)
    top = _MARGIN + (_TEXT + 6 if any(captions) else 0)
    step = side + _GAP
    width = 2 * _MARGIN + columns * step - _GAP
    sheet = Image.new("RGB", (width, top + len(rows) * step - _GAP + _MARGIN), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for column, caption in enumerate(captions):
        draw.text((_MARGIN + column * step, _MARGIN - 2), caption, _INK, font)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            scaled = picture.convert("RGB").resize((side, side), _filter(picture, side))
            sheet.paste(scaled, (_MARGIN + x * step, top + y * step))
    return sheet


def save_grid(path: Path, sheet: Image.Image) -> Path:
    """Write a sheet as PNG, atomically."""
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG", optimize=True)
    return path


def _filter(picture: Image.Image, side: int) -> Image.Resampling:
    """Sharp pixels where a small picture grows."""
    grows = max(picture.size) < side
    return Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
