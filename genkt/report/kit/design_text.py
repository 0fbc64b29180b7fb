"""What varied behind an interval, in words."""

from __future__ import annotations

from genkt.metrics.intervals import Design


def what_varied(design: Design) -> str:
    """ "5 label draws, 797 test images", "5 training seeds, the same labels, 200 test images"."""
    draws = counted(design.draws, "label draw")
    if not design.labels_vary:
        draws = f"{counted(design.draws, 'training seed')}, the same labels"
    elif design.seeds > 1:
        draws += f", {design.seeds} training seeds each"
    return f"{draws}, {counted(design.images, unit_of(design))}"


def unit_of(design: Design) -> str:
    """One of those that the images of an interval are counted in."""
    return "group of test images" if design.grouped else "test image"


def plural_of(design: Design) -> str:
    """ "test images"."""
    return _several(unit_of(design))


def counted(number: int, thing: str) -> str:
    """ "1 label draw", "2,310 groups of test images"."""
    return f"{number:,} {thing if number == 1 else _several(thing)}"


def _several(thing: str) -> str:
    first, joint, rest = thing.partition(" of ")
    return f"{first}s{joint}{rest}"
