"""The transfer set as the report shows it: pictures with their provenance, and counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

import numpy as np

from genkt.data.images import ImageSet, LostImage
from genkt.data.splits import Splits
from genkt.io import derive_seed
from genkt.report.kit.sheets import COLUMNS
from genkt.report.transfer.report_data import NearCopyRow, TransferSample
from genkt.runs.pool import Draw
from genkt.runs.represented import Represented
from genkt.runs.set_card import provenance_text
from genkt.transfer_set.composition import TransferSet
from genkt.transfers.phases import OpenedRun, RunWithSets
from genkt.transfers.set_maker import HOME

SHEET = 3 * COLUMNS
"""Pictures shown."""
NEAR_SHOWN = 12
"""Pairs of near copies that are shown."""


def transfer_samples(run: RunWithSets, draw: Draw) -> list[TransferSample]:
    """Sources next to the images made from them; or a few labelled, then transfer images."""
    splits, represented = run.pool.splits, run.represented
    if run.sets:
        return _completions(splits, draw, run.sets[draw.index].transfer_set)
    if represented is not None and not len(draw.transfer):
        return _reconstructions(splits.classes, draw, represented)
    labelled = [_real(splits.classes, draw, int(row)) for row in draw.labelled[: SHEET // 3]]
    rows = _spread(draw.transfer.tolist(), draw.images, SHEET * 2 // 3)
    found = run.pool.elsewhere(np.array(rows, dtype=np.int64))
    records = {} if found is None else {record.id: record for record in found.records()}
    made = [records.get(draw.images.ids[row]) for row in rows]
    return labelled + [
        _real(splits.classes, draw, row)
        if record is None or record.source == "real"
        else TransferSample(draw.images.load(row), record.source, detail=provenance_text(record))
        for row, record in zip(rows, made, strict=True)
    ]


def near_copy_rows(opened: OpenedRun) -> list[NearCopyRow] | None:
    """Near copies of test pictures, the first ones with their pictures; None: not looked for."""
    if opened.all_near_copies.pairs is None:
        return None
    parts, rows = opened.pool.splits.parts, []
    for place, pair in enumerate(opened.all_near_copies.pairs):
        test, other = parts["test"], parts[pair.part]
        shown = place < NEAR_SHOWN and _is_readable(other, pair.other)
        both = (test.load(pair.test), other.load(pair.other)) if shown else None
        names = _name(test.ids[pair.test]), _name(other.ids[pair.other])
        rows.append(NearCopyRow(names[0], pair.part, names[1], pair.likeness, both))
    return rows


def composition(run: RunWithSets, draw: Draw) -> dict[str, int]:
    """Kind of images that a draw's students see -> their number."""
    if run.opened.maker is not None:
        kinds = {run.opened.maker.images_text: len(draw.transfer)}
    else:
        rows = np.setdiff1d(draw.transfer, draw.labelled)
        found = run.pool.elsewhere(rows)
        real = run.config.read_set.real_images
        kinds = {"real, unlabelled": len(rows) - len(found or ())}
        for source, count in found.counts().items() if found is not None else ():
            name = real if source == "real" else f"{source} (saved)"
            kinds[name] = kinds.get(name, 0) + count
    parts = {"real, labelled": len(draw.labelled), **kinds}
    if run.represented is not None:
        parts["re-represented (IRF)"] = len(draw.labelled)
    return {name: count for name, count in parts.items() if count}


def sheet_link(run: RunWithSets, draw: Draw) -> str:
    """The page of a draw's own set, relative to the report; "" where there is none."""
    name, folder = str(draw.index) if run.sets else "irf", run.folder.path
    pages = sorted((folder / HOME / name).glob("*.html"))
    return pages[0].relative_to(folder).as_posix() if pages else ""


def _completions(splits: Splits, draw: Draw, found: TransferSet) -> list[TransferSample]:
    """Rows of one source and the images made from it."""
    made: dict[str, list[int]] = {}
    for row, record in enumerate(found.records()):
        made.setdefault(record.parent or "", []).append(row)
    known = dict(_sources(splits, draw, made.keys()))
    order = sorted(known, key=lambda each: derive_seed(0, each, "sheet"))
    shown: list[TransferSample] = []
    for place, parent in enumerate(order[: SHEET // COLUMNS]):
        rows = made[parent]
        step = max(1, len(rows) // (COLUMNS - 1))  # from all its masks, not only the first ones
        tiles = [known[parent], *(_made(found, row) for row in rows[::step][: COLUMNS - 1])]
        shown += [replace(tile, row=place) for tile in tiles]
    return shown


def _sources(
    splits: Splits, draw: Draw, parents: Iterable[str]
) -> Iterator[tuple[str, TransferSample]]:
    """The source pictures; labelled ones with their label."""
    wanted = set(parents)
    for row in draw.labelled.tolist():
        if (each := draw.images.ids[row]) in wanted:
            wanted.remove(each)
            yield each, _real(splits.classes, draw, row)
    for images in (splits.train, splits.unlabelled):
        for row, each in enumerate(images.ids if images is not None else ()):
            if each in wanted and images is not None:
                wanted.remove(each)
                if _is_readable(images, row):
                    yield each, _picture(images, row)


def _reconstructions(
    classes: Sequence[str], draw: Draw, represented: Represented
) -> list[TransferSample]:
    """Labelled images, each with its reconstruction on its right."""
    pairs = represented.draw(draw, "both")
    half = len(pairs.labelled) // 2
    chosen = _spread(list(range(half)), draw.images.select(draw.labelled), SHEET // 2)
    images = pairs.images
    return list(
        chain.from_iterable(
            (
                _real(classes, draw, int(draw.labelled[place])),
                TransferSample(
                    images.load(int(pairs.labelled[half + place])),
                    "re-represented",
                    detail=f"reconstruction of {_name(draw.images.ids[draw.labelled[place]])}",
                ),
            )
            for place in chosen
        )
    )


def _real(classes: Sequence[str], draw: Draw, row: int) -> TransferSample:
    label = draw.labels[row]
    name = classes[label] if label >= 0 else None
    return _picture(draw.images, row, name)


def _picture(images: ImageSet, row: int, label: str | None = None) -> TransferSample:
    return TransferSample(images.load(row), "real", label, _name(images.ids[row]))


def _made(found: TransferSet, row: int) -> TransferSample:
    record = found.record(row)
    return TransferSample(found.images.load(row), record.source, detail=provenance_text(record))


def _name(sample_id: str) -> str:
    return sample_id.rpartition("#")[0]


def _spread(rows: list[int], images: ImageSet, most: int) -> list[int]:
    """A seeded handful of rows."""
    order = sorted(rows, key=lambda row: derive_seed(0, images.ids[row], "sheet"))
    return list(islice((row for row in order if _is_readable(images, row)), most))


def _is_readable(images: ImageSet, row: int) -> bool:
    """False for a transfer image that was lost since it was listed; the notes name it."""
    try:
        images.load(row)
    except LostImage:
        return False
    return True
