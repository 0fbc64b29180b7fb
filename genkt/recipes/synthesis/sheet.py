"""The contact sheet of a synthesized set: source, masked source and completions in rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.images import ImageSet
from genkt.data.transfer_set import TransferSet
from genkt.data.transfer_set_files import Record
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import fit_picture
from genkt.generative.masks import to_pixels
from genkt.recipes.synthesis.make import mask_grid, source_mask
from genkt.recipes.synthesis.settings import DiggSettings, SynthesisSettings
from genkt.report.html import POLICY
from genkt.report.style import CSS
from genkt.report.svg import esc

ROWS, COMPLETIONS = 36, 6
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
class SheetRow:
    """One strip of the sheet.

    Args:
        title, detail: the caption.
        leading: pictures that the others were made from (source, masked source).
        made: synthesized pictures.
    """

    title: str
    detail: str
    leading: tuple[NDArray[np.uint8], ...]
    made: tuple[NDArray[np.uint8], ...]


def sheet_rows(
    made: TransferSet,
    sources: ImageSet,
    settings: SynthesisSettings,
    generator: ImageCompleter | None,
) -> list[SheetRow]:
    """The first rows of a set, in its order, which mixes the classes.

    Args:
        sources: the images it was made from.
    """
    places = {sample_id: place for place, sample_id in enumerate(sources.ids)}
    rows = []
    for members in islice(_families(made), ROWS):
        first = members[0][1]
        pictures = tuple(np.asarray(made.images.load(index)) for index, _ in members[:COMPLETIONS])
        leading: tuple[NDArray[np.uint8], ...] = ()
        if first.parent is not None and generator is not None:
            source = fit_picture(sources.load(places[first.parent]), generator.size)
            leading = (source, *_masked(source, first, settings, generator))
        rows.append(SheetRow(_title(first, sources, places), _about(first), leading, pictures))
    return rows


def _families(made: TransferSet) -> Iterator[list[tuple[int, Record]]]:
    """Images of one source and mask, one after the other."""

    def key(entry: tuple[int, Record]) -> tuple[Any, ...]:
        detail = entry[1].detail or {}
        return entry[1].parent, detail.get("round"), detail.get("target")

    for _, members in groupby(enumerate(made.records()), key):
        yield list(members)


def _masked(
    source: NDArray[np.uint8],
    record: Record,
    settings: SynthesisSettings,
    generator: ImageCompleter,
) -> tuple[NDArray[np.uint8], ...]:
    """The source with its hidden part hatched; nothing where nothing was hidden."""
    method, detail = settings.synthesis, record.detail or {}
    if not isinstance(method, DiggSettings) or record.parent is None:
        return ()
    mask = source_mask(
        method.masks, mask_grid(generator), settings.seed, record.parent, detail["round"]
    )
    hidden = to_pixels(mask[None], generator.size // mask.shape[-1])[0].numpy()
    y, x = np.indices(hidden.shape)
    period = max(2, generator.size // 16)
    hatch = np.where((x + y) // period % 2, 168, 118).astype(np.uint8)[..., None]
    return (np.where(hidden[..., None], hatch, source),)


def _title(record: Record, sources: ImageSet, places: Mapping[str, int]) -> str:
    if record.parent is None:
        target = (record.detail or {}).get("target")
        names = sources.classes
        known = names and isinstance(target, int) and record.label == target
        return f"class {names[record.label] if known else target}"
    label = int(sources.labels[places[record.parent]])
    name = f"{sources.classes[label]} · " if label >= 0 else ""
    return name + record.parent.rpartition("#")[0]


def _about(record: Record) -> str:
    detail = record.detail or {}
    parts = []
    if "hidden" in detail:
        parts.append(f"{detail['mask']}, {100 * detail['hidden']:.0f} % hidden")
    if "confidence" in detail:
        parts.append(f"teacher's confidence {100 * detail['confidence']:.0f} %")
    return "; ".join([*parts, record.file])


def strip(row: SheetRow) -> tuple[str, int, bool]:
    """A row as one picture: (data URI, width at the height shown, whether to show pixels)."""
    pictures = [*row.leading, *row.made]
    side = min(max(max(picture.shape[:2]) for picture in pictures), _LARGEST)
    small = side <= _PIXEL_ART
    gap = max(1, side // 16)
    between = 3 * gap if row.leading else 0  # between what was given and what was made
    width = len(pictures) * (side + gap) - gap + between
    canvas = Image.new("RGBA", (width, side), (0, 0, 0, 0))
    for index, picture in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(picture))
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        x = index * (side + gap) + (between if index >= len(row.leading) else 0)
        canvas.paste(image, (x, 0))
    stream = io.BytesIO()
    canvas.save(stream, "WEBP", lossless=small, quality=82, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return uri, round(width * _HEIGHT / side), small


def sheet_page(header: Mapping[str, Any], rows: Sequence[SheetRow], command: str) -> str:
    """The sheet as one HTML document that needs nothing else; light and dark."""
    funnel, strips = header["funnel"], [strip(row) for row in rows]
    widest = max((width for _, width, _ in strips), default=_HEIGHT)
    figures = "".join(
        f'<figure><img class="{"art" if small else ""}" src="{uri}" '
        f'style="max-width:{width}px" alt="{esc(_alt(row))}" loading="lazy">'
        f"<figcaption><b>{esc(row.title)}</b><br>{esc(row.detail)}</figcaption></figure>"
        for row, (uri, width, small) in zip(rows, strips, strict=True)
    )
    name, sources = header["settings"]["synthesis"]["name"], header["sources"]["num_used"]
    what = _SENTENCES[name].format(kept=f"{funnel['kept']:,}", sources=f"{sources:,}")
    kept = 100 * funnel["kept"] / max(1, funnel["made"])
    facts = "".join(f'<div class="fact"><b>{esc(b)}</b><span>{esc(s)}</span></div>'
                    for b, s in sheet_facts(header))  # fmt: skip
    dropped = "; ".join(f"{count:,} {esc(why)}" for why, count in funnel["dropped"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(name)} · genkt transfer set</title>"
        f"<style>{CSS}{_STYLE}.rows{{--wide:{widest}px}}</style></head><body>"
        f'<header><p class="eyebrow"><b>{esc(name)}</b> · genkt transfer set</p>'
        f'<h1>{what}</h1><div class="facts">{facts}</div>'
        f'<div class="bar" role="img" aria-label="{kept:.0f} % kept">'
        f'<i style="width:{kept:.2f}%"></i></div>'
        f'<p class="dim">{funnel["asked"]:,} asked, {funnel["made"]:,} made, '
        f"{funnel['kept']:,} kept{' (left out: ' + dropped + ')' if dropped else ''}</p></header>"
        f"<main><section><h2>{_HEADINGS[name]}</h2>"
        f'<p class="dim">The first {len(rows)} in the order of the set, not chosen by eye.</p>'
        f'<div class="rows">{figures}</div></section>'
        f"<section><h2>Make it again</h2><pre>{esc(command)}</pre></section></main>"
        f"<footer>Written by genkt {esc(header['genkt'])}. What each image was made from and how: "
        "manifest/, one line an image.</footer></body></html>\n"
    )


_SENTENCES = {
    "digg": "<b>{kept} images</b> drawn anew from {sources} sources",
    "irf": "<b>{kept} images</b>, each a source as the generator represents it",
    "deep_inversion": "<b>{kept} images</b> made from a classifier alone, for {sources} classes",
}
_HEADINGS = {
    "digg": "Source, masked source, completions",
    "irf": "Source, reconstruction",
    "deep_inversion": "By class",
}


def sheet_facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures on top: (value, what it is)."""
    facts = [(f"{header['funnel']['kept']:,}", "images in the set")]
    if header["generator"]:
        facts.append((f"{header['generator']['size']} px", f"by {header['generator']['name']}"))
    if header["drawn_tokens"]:
        facts.append((f"{header['drawn_tokens']:,}", "tokens drawn"))
    facts += [(f"{value:.3g}", key.replace("_", " ")) for key, value in header["diversity"].items()]
    return facts


def _alt(row: SheetRow) -> str:
    names = ("source", "masked source")[: len(row.leading)]
    return ", ".join([*names, f"{len(row.made)} synthesized from {row.title}"])
