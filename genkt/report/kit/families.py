"""Contact sheets of families: what was given, then what was made or found of it, in rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from genkt.report.kit.style import CSS
from genkt.report.kit.svg import esc
from genkt.report.transfer.report_page import POLICY

_PIXEL_ART, _LARGEST, _HEIGHT = 64, 128, 72

_STYLE = f"""
.rows{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--wide)),1fr));
gap:18px 30px;margin:14px 0 26px}}
.rows figure{{margin:0;min-width:0}}
.rows img{{display:block;height:auto;width:100%;max-height:{_HEIGHT}px;object-fit:contain;
object-position:left}}
.rows .art{{image-rendering:pixelated}}
.rows figcaption{{font-size:12.5px;line-height:1.4;padding-top:5px;overflow-wrap:anywhere}}
.rows figcaption b{{color:var(--ink);font-weight:600}}
.bar{{display:flex;height:10px;border-radius:5px;overflow:hidden;background:var(--grid);
margin:16px 0 6px}}.bar i{{background:var(--c1)}}
"""


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


def families_html(families: Sequence[Family]) -> str:
    """The strips as markup that brings its own style.

    >>> red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    >>> found = Family("<b>a query", "two found", (red,), (red, red), ("0.9", "0.8"))
    >>> page = families_html([found])
    >>> "&lt;b&gt;a query" in page, page.count("<img"), "0.9 · 0.8" in page
    (True, 1, True)
    """
    strips = [strip(family) for family in families]
    widest = max((width for _, width, _ in strips), default=_HEIGHT)
    figures = "".join(
        f'<figure><img class="{"art" if small else ""}" src="{uri}" '
        f'style="max-width:{width}px" alt="{esc(_alt(family))}" loading="lazy">'
        f"<figcaption>{_caption(family)}</figcaption></figure>"
        for family, (uri, width, small) in zip(families, strips, strict=True)
    )
    return f'<style>{_STYLE}</style><div class="rows" style="--wide:{widest}px">{figures}</div>'


def _caption(family: Family) -> str:
    lines = [f"<b>{esc(family.title)}</b>", esc(family.detail), esc(" · ".join(family.captions))]
    return "<br>".join(line for line in lines if line)


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


def sheet_page(page: SheetPage) -> str:
    """The sheet as one HTML document that needs nothing else; light and dark."""
    facts = "".join(
        f'<div class="fact"><b>{esc(value)}</b><span>{esc(what)}</span></div>'
        for value, what in page.facts
    )
    again = f"<section><h2>Make it again</h2><pre>{esc(page.command)}</pre></section>"
    strong, rest = page.headline
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(page.kind)} · genkt transfer set</title>"
        f"<style>{CSS}</style></head><body>"
        f'<header><p class="eyebrow"><b>{esc(page.kind)}</b> · genkt transfer set</p>'
        f'<h1><b>{esc(strong)}</b>{esc(rest)}</h1><div class="facts">{facts}</div>'
        f"{_bar(page.funnel)}</header>"
        f"<main><section><h2>{esc(page.section)}</h2>"
        f'<p class="dim">{esc(page.note)}</p>{families_html(page.families)}</section>'
        f"{again if page.command else ''}</main>"
        f"<footer>Written by genkt {esc(page.version)}. {esc(page.footer)}</footer></body></html>\n"
    )


def _bar(funnel: Mapping[str, Any]) -> str:
    """How much was kept of what was made or found, and the funnel in words."""
    if not funnel:
        return ""
    total = funnel.get("made") or funnel.get("found") or funnel.get("asked") or 1
    kept = min(100.0, 100 * funnel["kept"] / total)
    return (
        f'<div class="bar" role="img" aria-label="{kept:.0f} % kept">'
        f'<i style="width:{kept:.2f}%"></i></div><p class="dim">{esc(funnel_text(funnel))}</p>'
    )
