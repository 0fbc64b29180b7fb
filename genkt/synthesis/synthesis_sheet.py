"""The contact sheet of a synthesized set: source, masked source and completions in rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.config.synthesis_settings import DiggSettings, SynthesisSettings
from genkt.data.images import ImageSet
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import fit_picture
from genkt.generative.masks import to_pixels
from genkt.report.kit.families import Family, SheetPage
from genkt.report.kit.families import sheet_page as page_of
from genkt.synthesis.make_images import mask_grid, source_mask
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import Record

ROWS, COMPLETIONS = 36, 6


def sheet_rows(
    made: TransferSet,
    sources: ImageSet,
    settings: SynthesisSettings,
    generator: ImageCompleter | None,
) -> list[Family]:
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
        rows.append(Family(_title(first, sources, places), _about(first), leading, pictures))
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
    """The source with its hidden part hatched; None if nothing was hidden."""
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


def sheet_page(header: Mapping[str, Any], rows: Sequence[Family], command: str) -> str:
    """The sheet as one HTML document that needs nothing else."""
    name, sources = header["settings"]["synthesis"]["name"], header["sources"]["num_used"]
    return page_of(
        SheetPage(
            kind=name,
            headline=(
                f"{header['funnel']['kept']:,} images",
                _SENTENCES[name].format(sources=f"{sources:,}"),
            ),
            facts=sheet_facts(header),
            funnel=header["funnel"],
            section=_HEADINGS[name],
            note=f"The first {len(rows)} in the order of the set, not chosen by eye.",
            families=rows,
            command=command,
            version=header["genkt"],
        )
    )


_SENTENCES = {
    "digg": " drawn anew from {sources} sources",
    "irf": ", each a source as the generator represents it",
    "deep_inversion": " made from a classifier alone, for {sources} classes",
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
