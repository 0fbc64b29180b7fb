"""The contact sheet of a retrieved set: queries, each beside what it found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genkt.data.images import ImageSet
from genkt.report.kit.families import SheetPage, sheet_page
from genkt.runs.set_card import families_of
from genkt.transfer_set.composition import TransferSet
from genkt.types import counted


def sheet_text(
    header: Mapping[str, Any], found: TransferSet, queries: ImageSet, command: str
) -> str:
    """The sheet as one HTML document.

    Args:
        header: what ``transfer_set.json`` holds.
        queries: lead the strips of what they found.
        command: how the set was made.
    """
    strategy, families = header["settings"]["strategy"], families_of(found, queries)
    what = f"for {header['queries']['num_queries']:,} queries"
    if strategy == "random":
        what = "at random"
    return sheet_page(
        SheetPage(
            kind="retrieved",
            headline=(
                counted(len(found), "image"),
                f" retrieved {what} from {header['gallery']['num_images']:,}",
            ),
            facts=_facts(header),
            funnel=header["funnel"],
            section="Queries and what they found",
            note=f"The first {len(families)} in the order of the set "
            f"({strategy.replace('_', ' ')}), not chosen by eye; with the scores.",
            families=families,
            command=command,
            version=header["genkt"],
            footer="Where each image comes from: manifest/, one line per image.",
        )
    )


def _facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures on top: (value, what it is)."""
    facts = [(f"{header['funnel']['kept']:,}", "images in the set")]
    if header["scores"]:
        scores = header["scores"]
        facts.append((f"{header['k']:,}", "largest rank for a query"))
        facts.append((f"{scores['median']:.3f}", f"median score, from {scores['lowest']:.3f}"))
    if header["num_suspects"]:
        facts.append((f"{header['num_suspects']:,}", "suspected leaks"))
    return facts
