"""The review page of suspected leaks: one offline HTML file; the keyboard decides.

Nothing is downloaded, and only the page's own script may run.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from genkt.report.kit.templates import page
from genkt.retrieval.leaks import COLUMNS, DROP, KEEP

_LARGEST, _PIXEL_ART = 160, 64
_KEYS = (("j k", "move"), ("d", "drop"), ("s", "keep"), ("u", "undo"))
"""Keys, and what they do."""


@dataclass(frozen=True)
class Shown:
    """A picture of the page.

    Args:
        picture: RGB.  title, detail: two lines below.
    """

    picture: Image.Image
    title: str
    detail: str


@dataclass(frozen=True)
class ReviewRow:
    """A suspect and what it is compared with.

    Args:
        image_id: of the gallery.
        detail: what is known of it.
        own: its crop, where there is one, and the whole image.
        neighbours: the nearest images of the data.
    """

    image_id: str
    detail: str
    own: tuple[Shown, ...]
    neighbours: tuple[Shown, ...]


def review_page(rows: Sequence[ReviewRow], suspects: str, command: str, intro: str) -> str:
    """The page.

    Args:
        rows: the suspects in order.
        suspects: their fingerprint, which every line of ``decisions.csv`` carries.
        command: to repeat with ``decontaminate.decisions=``.
        intro: what made them suspects.
    """
    return page(
        "review.html",
        scripts=["review.js"],
        rows=[(row, *map(_figures, (row.own, row.neighbours))) for row in rows],
        suspects=suspects,
        columns=",".join(COLUMNS),
        keys=_KEYS,
        decisions=(KEEP, DROP),
        command=command,
        intro=intro,
    )


def _figures(pictures: Sequence[Shown]) -> list[tuple[Shown, str, bool]]:
    """Pictures with their data URIs, and whether their pixels are to be seen."""
    return [(shown, *_thumbnail(shown.picture)) for shown in pictures]


def _thumbnail(picture: Image.Image) -> tuple[str, bool]:
    """A small picture as a data URI, and whether its pixels are to be seen."""
    small = max(picture.size) <= _PIXEL_ART
    if max(picture.size) > _LARGEST:
        picture = picture.copy()
        picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=small, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), small
