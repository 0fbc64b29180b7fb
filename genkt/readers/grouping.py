"""Which group each listed image belongs to: found in its path, or in a column of its list."""

from __future__ import annotations

from collections.abc import Sequence

from genkt.data.groups import group_of, group_pattern
from genkt.readers.listing import Listing
from genkt.types import UserError, counted


def group_by_path(listings: Sequence[Listing], pattern: str) -> list[str]:
    """Give listed images the group that a regular expression finds in their path.

    The path is relative to the listing's root. An image whose path does not match is a group of
    its own.

    Returns:
        A sentence on those, if there are any.

    Raises:
        UserError: the pattern is wrong, or matches no path.
    """
    compiled = group_pattern(pattern)
    for listing in listings:
        found = {path: group_of(compiled, path) for path in listing.paths}
        listing.groups = {path: group for path, group in found.items() if group is not None}
    lost = ungrouped(listings)
    if len(lost) == sum(len(listing.paths) for listing in listings):
        raise UserError.of(
            "data.group", "a regular expression that is found in the images' paths",
            f"{pattern!r}, which is in none of {len(lost):,} (e.g. {lost[0]})",
        )  # fmt: skip
    return told(lost, f"a match of {pattern!r}")


def ungrouped(listings: Sequence[Listing]) -> list[str]:
    """The paths that have no group."""
    return [path for each in listings for path in each.paths if path not in (each.groups or {})]


def told(lost: Sequence[str], lacking: str) -> list[str]:
    """A sentence on images that have no group, if there are any: what they lack."""
    if not lost:
        return []
    count = counted(len(lost), "image")
    return [f"data.group: {count} without {lacking}: each is a group of its own (e.g. {lost[0]})."]
