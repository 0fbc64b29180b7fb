"""How many views of images each teacher of a run answers, before any of it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genkt.io import derive_seed
from genkt.runs.pool import Draw
from genkt.stages.asked_views import views_of_draws
from genkt.stages.recipe_plan import RecipePlan
from genkt.transfers.phases import OpenedRun

_PROBES = ("linear_probe", "better")


def num_asked(opened: OpenedRun, plan: RecipePlan) -> int:
    """Views that each teacher with kept answers answers for all students of a run.

    Those of one search, fold or stage are among those of another, as all walk alike.

    Args:
        plan: of the settings, whose steps count; its draws may be more than those that are opened.
    """
    config, num_views = plan.config, opened.views.num_views
    if not num_views or not opened.teachers or config.teacher.outputs == "online":
        return 0
    adapted = config.adapts_by_training
    first, epochs = len(opened.pool.images), list(_epochs(opened, plan))
    shared = views_of_draws(
        [each[:first] for each in epochs], num_views,
        students=config.seeds_per_draw, shared=not adapted,
    )  # fmt: skip
    made = [each[first:] for each in epochs]  # every draw has its own
    return shared + views_of_draws(made, num_views, students=config.seeds_per_draw, shared=False)


def _epochs(opened: OpenedRun, plan: RecipePlan) -> Iterator[NDArray[np.int64]]:
    """Of each draw: those of the pool's images, then those of the images that it will make."""
    pool, config, num_made = opened.pool, plan.config, opened.num_made
    total = len(pool.images) + num_made
    for number in range(config.num_draws):
        found = plan.epochs(_planned(opened, number), total)
        if config.adaptation in _PROBES:
            found[pool.draws[number % len(pool.draws)].labelled] = opened.views.num_views
        yield found


def _planned(opened: OpenedRun, number: int) -> Draw:
    """A draw with its final transfer images; one that is not opened yet has the rows of another."""
    pool, num_made = opened.pool, opened.num_made
    draw = pool.draws[number % len(pool.draws)]
    made = len(pool.images) + np.arange(num_made)
    seed = draw.seed if number < len(pool.draws) else derive_seed(draw.seed, "draw", number)
    return replace(draw, transfer=np.concatenate([draw.transfer, made]), seed=seed)
