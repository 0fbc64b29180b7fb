"""Methods against transfer sets: the arms of a comparison by these two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genkt.report.compare.compare_data import ComparedArm, CompareData


@dataclass(frozen=True)
class Grid:
    """Arms by method (rows) and transfer set (columns).

    Args:
        columns: names of transfer sets.
        rows: (name of the method or recipe, the arm of each column or None).
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[ComparedArm | None]]]


def grid(data: CompareData) -> Grid | None:
    """Methods that were compared on several transfer sets; None for fewer than two of them.

    Of several arms with the same method and set the first counts.
    """
    found: dict[str, dict[str, ComparedArm]] = {}
    for arm in data.listed:
        if "method" in arm.config and "transfer_set" in arm.config:
            found.setdefault(_method(arm), {}).setdefault(arm.config["transfer_set"]["name"], arm)
    several = {name: arms for name, arms in found.items() if len(arms) > 1}
    if len(several) < 2:
        return None
    columns = list(dict.fromkeys(column for arms in several.values() for column in arms))
    return Grid(columns, [(name, [arms.get(c) for c in columns]) for name, arms in several.items()])


def _method(arm: ComparedArm) -> str:
    """What the arm is about: the recipe, or the method of the plain one."""
    recipe, method = arm.config["recipe"]["name"], arm.config["method"]["name"]
    return str(method if recipe == "distil" else recipe)
