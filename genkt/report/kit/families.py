"""Contact sheets of families: what was given, then what was made or found of it, in rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageOps

from genkt.report.kit.templates import fragment, page

_PIXEL_ART, _LARGEST, _HEIGHT = 64, 128, 72


@dataclass(frozen=True)
class Family:
    """One strip of a sheet; all texts are plain, the sheet escapes them.

    Args:
        title, detail: the caption.
        leading: [H, W, 3] uint8 pictures that the others belong to (a source, a query).
        pictures: those that were made or found.
        captions: a word for each of ``pictures``, such as its score; or none.
    """

    title: str
    detail: str = ""
    leading: tuple[NDArray[np.uint8], ...] = ()
    pictures: tuple[NDArray[np.uint8], ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class SheetPage:
    """A contact sheet with what is said around it; all texts are plain.

    Args:
        kind: how the set came to be, e.g. ``digg``.
        headline: what stands out on top, and the rest of that sentence.
        facts: figures on top: (value, what it is).
        funnel: numbers of images by stage, see ``funnel_text``; {}: nothing is known.
        section: heading of the strips.
        note: a line below it.
        families: the strips.
        command: how to make the set again; "": nothing is said.
        version: of genkt.
        footer: what else to know.
    """

    kind: str
    headline: tuple[str, str]
    facts: Sequence[tuple[str, str]]
    funnel: Mapping[str, Any]
    section: str
    note: str
    families: Sequence[Family]
    command: str
    version: str
    footer: str = "What each image was made from and how: manifest/, one line per image."


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """A picture as small as a strip shows it, [H, W, 3] uint8."""
    if max(image.size) > _LARGEST:
        image = ImageOps.contain(image, (_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(image)


def strip(family: Family) -> tuple[str, int, bool]:
    """A family as one picture: (data URI, width at the height shown, whether to show pixels)."""
    pictures = [*family.leading, *family.pictures]
    side = min(max((max(picture.shape[:2]) for picture in pictures), default=1), _LARGEST)
    small = side <= _PIXEL_ART
    gap = max(1, side // 16)
    between = 3 * gap if family.leading else 0  # between what was given and what belongs to it
    width = max(side, len(pictures) * (side + gap) - gap + between)
    canvas = Image.new("RGBA", (width, side), (0, 0, 0, 0))
    for index, picture in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(picture))
        if max(image.size) != side:
            image = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
        x = index * (side + gap) + (between if index >= len(family.leading) else 0)
        canvas.paste(image, (x + (side - image.width) // 2, (side - image.height) // 2))
    stream = io.BytesIO()
    canvas.save(stream, "WEBP", lossless=small, quality=82, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return uri, round(width * _HEIGHT / side), small


def families_html(families: Sequence[Family]) -> Markup:
    """The strips as markup that brings its own style.

    >>> red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    >>> found = Family("<b>a query", "two found", (red,), (red, red), ("0.9", "0.8"))
    >>> page = families_html([found])
    >>> "&lt;b&gt;a query" in page, page.count("<img"), "0.9 · 0.8" in page
    (True, 1, True)
    """
    strips = [strip(family) for family in families]
    widest = max((width for _, width, _ in strips), default=_HEIGHT)
    figures = [(family, _alt(family), *made) for family, made in zip(families, strips, strict=True)]
    return fragment("rows.html", figures=figures, widest=widest, height=_HEIGHT)


def _alt(family: Family) -> str:
    given = f"{len(family.leading)} given, " if family.leading else ""
    return f"{given}{len(family.pictures)} of {family.title}"


def funnel_text(funnel: Mapping[str, Any]) -> str:
    """What became of the images, stage by stage, in one line.

    >>> funnel_text({"asked": 9, "found": 8, "leaks": 1, "kept": 6, "dropped": {"too dark": 1}})
    '9 images asked, 8 found, 1 leaks, 6 kept (left out: 1 too dark)'

    Args:
        funnel: counts by stage in order, ``kept`` the last, and ``dropped``: counts by reason.
    """
    counts = {name: count for name, count in funnel.items() if isinstance(count, int)}
    stages = [f"{n:,} {'' if i else 'images '}{name}" for i, (name, n) in enumerate(counts.items())]
    dropped = "; ".join(f"{count:,} {why}" for why, count in funnel.get("dropped", {}).items())
    return ", ".join(stages) + (f" (left out: {dropped})" if dropped else "")


def sheet_page(shown: SheetPage) -> str:
    """The sheet as one HTML document that needs nothing else; light and dark."""
    return page(
        "sheet.html",
        shown=shown,
        families=families_html(shown.families),
        funnel=funnel_text(shown.funnel) if shown.funnel else "",
        kept=_percent_kept(shown.funnel) if shown.funnel else 0.0,
    )


def _percent_kept(funnel: Mapping[str, Any]) -> float:
    """Of what was made or found."""
    total = funnel.get("made") or funnel.get("found") or funnel.get("asked") or 1
    return min(100.0, float(100 * funnel["kept"] / total))
