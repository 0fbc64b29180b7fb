"""Suspected leaks: retrieved images that may be images of the data, and who decides on them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.config.retrieval_settings import EncoderSettings, LeakSettings
from genkt.data.tables import Line, read_text, split_lines
from genkt.io import fingerprint, home_path
from genkt.retrieval.search.nearest import ArrayGallery, nearest
from genkt.types import UserError, counted

KEEP, DROP = "keep", "drop"
COLUMNS = ("suspect", "decision", "id", "suspects")
"""The header of ``decisions.csv``; the last column holds the fingerprint of all suspects."""


@dataclass(frozen=True)
class Neighbour:
    """An image of the data beside a suspect.

    Args:
        row: its place among the images of the data.
        scores: cosine similarity under each encoder.
    """

    row: int
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Suspect:
    """A retrieved image that may be one of the data.

    Args:
        place: of the candidate in the order of retrieval.
        image_id: its id in the gallery.
        neighbours: the nearest images of the data, the nearest first.
    """

    place: int
    image_id: str
    neighbours: tuple[Neighbour, ...]


def find_suspects(
    candidates: Sequence[tuple[NDArray[np.float16], ...]],
    image_ids: Sequence[str],
    reference: tuple[NDArray[np.float16], ...],
    settings: EncoderSettings,
    num_neighbours: int,
) -> list[Suspect]:
    """Candidates of which an encoder says that they are nearly an image of the data.

    Args:
        candidates: features of what was retrieved, one [n, D_e] array per encoder; with crops
            twice, those of whole images first: the larger similarity counts.
        image_ids: n gallery ids.
        reference: one [m, D_e] array per encoder, of all images of the data.
        settings: has each encoder's threshold.
        num_neighbours: shown of each suspect.

    Source: R. Vemulapalli et al., B.4: the largest similarity over the encoders decides.
    """
    thresholds = settings.leak_thresholds
    watching = [place for place, each in enumerate(thresholds) if each is not None]
    if not watching or not len(image_ids):
        return []
    over = np.zeros(len(image_ids), dtype=bool)
    for features in candidates:
        for encoder in watching:
            best = nearest(_of(reference, [encoder]), [features[encoder]], 1)
            over |= best.scores[:, 0] > (thresholds[encoder] or 0.0)
    places = np.flatnonzero(over)
    if not len(places):
        return []
    near = [
        nearest(
            _of(reference, watching), [features[encoder][places] for encoder in watching],
            num_neighbours, reduce="max",
        ).rows.tolist()
        for features in candidates
    ]  # fmt: skip
    suspects = []
    for number, place in enumerate(places.tolist()):
        rows = {row for of_side in near for row in of_side[number]}
        found = [Neighbour(row, _scores(candidates, reference, place, row)) for row in rows]
        found.sort(key=lambda each: (-max(each.scores[e] for e in watching), each.row))
        suspects.append(Suspect(place, image_ids[place], tuple(found[:num_neighbours])))
    return suspects


def _of(reference: tuple[NDArray[np.float16], ...], encoders: Sequence[int]) -> ArrayGallery:
    names = [f"{row:09d}" for row in range(len(reference[0]))]
    return ArrayGallery(tuple(reference[encoder] for encoder in encoders), names)


def _scores(
    candidates: Sequence[tuple[NDArray[np.float16], ...]],
    reference: tuple[NDArray[np.float16], ...],
    place: int,
    row: int,
) -> tuple[float, ...]:
    """The larger similarity of the whole image and its crop, under each encoder."""
    found = []
    for encoder, rows in enumerate(reference):
        y = rows[row].astype(np.float64)
        xs = [features[encoder][place].astype(np.float64) for features in candidates]
        best = max(float(x @ y / np.sqrt((x @ x) * (y @ y))) for x in xs)
        found.append(round(best, 6))
    return tuple(found)


def suspects_fingerprint(suspects: Sequence[Suspect], reference_ids: Sequence[str]) -> str:
    """Of the suspects and why; decisions about others, or other crops, do not count."""
    about = [
        [each.image_id, *([reference_ids[near.row], *near.scores] for near in each.neighbours)]
        for each in suspects
    ]
    return fingerprint(about)


def decided(
    suspects: Sequence[Suspect], reference_ids: Sequence[str], settings: LeakSettings, review: Path
) -> list[bool]:
    """Which suspects are leaks.

    Args:
        review: the page to decide on, for messages.

    Raises:
        UserError: nobody has decided, or the decisions are about other suspects.
    """
    if not suspects:
        return []
    if settings.assume is not None:
        return [settings.assume == "leak"] * len(suspects)
    if settings.decisions is None:
        raise UserError(
            f"decontaminate: {counted(len(suspects), 'retrieved image')} may be of your data; open "
            f"{review}, decide, and repeat the command with decontaminate.decisions=FILE (or "
            "decontaminate.assume=leak to leave all of them out, =keep to keep them)"
        )
    expected = suspects_fingerprint(suspects, reference_ids)
    return read_decisions(Path(settings.decisions), suspects, expected)


def read_decisions(path: Path, suspects: Sequence[Suspect], expected: str) -> list[bool]:
    """A saved ``decisions.csv``: which suspects are dropped.

    Args:
        expected: fingerprint of the suspects.

    Raises:
        UserError: it cannot be read, is of other suspects, or leaves some of them undecided.
    """
    wanted = {"suspect", "decision", "suspects"}
    text = read_text(home_path(path), "decontaminate.decisions:")
    try:
        header, *lines = split_lines(text, wanted.issubset) or [Line(0, (), "")]
    except csv.Error as error:
        raise UserError(f"decontaminate.decisions: {path}: {error}") from error
    rows = [dict(zip(header.cells, line.cells, strict=False)) for line in lines]
    if not rows or not all(wanted.issubset(row) for row in rows):
        raise UserError(
            f"decontaminate.decisions: {path}: expected columns {', '.join(COLUMNS)}, as the "
            "review page saves them"
        )
    if any(row["suspects"] != expected for row in rows):
        raise UserError(
            f"decontaminate.decisions: {path}: was saved for other suspects; the retrieval has "
            "changed since, decide again on its review page"
        )
    decisions = {row["suspect"]: row["decision"] for row in rows}
    found = [decisions.get(str(number)) for number in range(len(suspects))]
    open_ones = [number for number, each in enumerate(found) if each not in (KEEP, DROP)]
    if open_ones:
        raise UserError(
            f"decontaminate.decisions: {path}: {len(open_ones)} of {len(suspects)} suspects are "
            f"not decided (keep or drop), the first is {suspects[open_ones[0]].image_id}"
        )
    return [each == DROP for each in found]
