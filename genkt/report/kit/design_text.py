"""What varied behind an interval, in words."""

from __future__ import annotations

from collections.abc import Iterator

from genkt.metrics.intervals import Design
from genkt.metrics.verdicts import MIN_DRAWS
from genkt.types import counted, plural

SIZEABLE = 0.1
"""The share of the pool in a draw from which overlapping draws are spoken of."""


def what_varied(design: Design) -> str:
    """ "5 label draws, 797 test images", "5 training seeds, the same labels, 200 test images"."""
    draws = counted(design.draws, "label draw")
    if not design.labels_vary:
        draws = f"{counted(design.draws, design.varying)}, the same labels"
    elif design.seeds > 1:
        draws += f", {design.seeds} training seeds each"
    return f"{draws}, {counted(design.images, unit_of(design))}"


def labels_used(training: int, validation: int) -> str:
    """ "20 training labels a draw, 100 validation labels"; "" where they were not counted.

    Args:
        training: of one draw.  validation: that some choice has read; 0: nothing was chosen on any.
    """
    if not training:
        return ""
    texts = [f"{counted(training, 'training label')} a draw"]
    return ", ".join([*texts, counted(validation, "validation label")] if validation else texts)


def covered(design: Design) -> Iterator[str]:
    """Sentences on what the intervals cover, and what they do not."""
    images = plural_of(design)
    if design.draws == 1:
        yield (
            f"One draw: the 95 % intervals are over {images}, of these students alone; other "
            "labels and other training seeds are not covered."
        )
    elif design.draws < MIN_DRAWS:
        few = f"Two {design.varying}s are too few for an interval"
        yield f"{few}; {MIN_DRAWS} or more have one."
    elif not design.labels_vary:
        yield (
            f"The 95 % intervals cover new training seeds and new {images}; all students had "
            "the same labels, so other labels are not covered."
        )
    elif design.seeds > 1:
        yield f"The 95 % intervals cover new labels, new training seeds and new {images}."
    else:
        yield (
            f"The 95 % intervals cover new labels together with a new training seed, and new "
            f"{images}. What labels and seeds do apart is not known with one seed a draw "
            "(seeds_per_draw=2 tells them apart)."
        )


def overlap(design: Design, pool_share: float) -> Iterator[str]:
    """On draws that take a sizeable share of the pool."""
    if design.draws < MIN_DRAWS or not design.labels_vary or pool_share < SIZEABLE:
        return
    taken = f"A draw takes {100 * pool_share:.0f} % of the labelled pool, so draws overlap"
    if design.seeds > 1:
        yield f"{taken}; the intervals are wider for that."
    else:
        yield f"{taken}; with one seed a draw the intervals are not corrected for that."


def unit_of(design: Design) -> str:
    """One of those that the images of an interval are counted in."""
    return "group of test images" if design.grouped else "test image"


def plural_of(design: Design) -> str:
    """ "test images"."""
    return plural(unit_of(design))
