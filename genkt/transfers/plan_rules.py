"""``plan=auto``: settings that follow from the data and the models, one small rule for each.

Fixed settings cannot fit both a hundred pictures and a hundred thousand. What is known before any
training decides here; what only training can tell (steps, learning rates) is left to a pilot
(``genkt.transfers.pilot``), within bounds that these rules give. As nnU-Net (Isensee et al. 2021)
does it, a rule is derived, found empirically or fixed, and says which. The constants were measured
by ``tools/defaults_calibration.py`` in six small worlds: a grid, one draw each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from genkt.config.transfer_settings import TransferConfig

SHARE = 20 / 128
"""Labelled rows of a batch. From 4 to 31 % the worlds differed by at most 2 points."""

TEMPERATURE = 2.0
"""Of predictions. 1, 2 and 4 differed by 1 to 5 points, in no common order."""

RATES = {True: (6e-3, 2e-3, 2e-2), False: (2e-3, 6e-4, 6e-3)}
"""Rates that a pilot tries: networks with batch norm, and others. The first one wins ties."""

NO_PILOT = {(True, False): 1.8e-2, (True, True): 6e-3, (False, False): 1e-3, (False, True): 1e-3}
"""(batch norm, pretrained) -> the rate where a pilot is not worth it."""

PLAIN_RATE = 2e-3
"""Of plain fine-tuning without a pilot: within 2 points of the best of three in all six worlds."""

LEAST, MOST = (250, 2000), (4000, 32000)
"""Bounds of the fewest and of the most steps that a pilot may choose."""

DOUBLINGS = 16
"""The most steps are so many times the fewest."""

WORTH_STEPS = 200
"""With fewer steps, given by the user, a pilot of rates is not worth it."""


@dataclass(frozen=True)
class PlanFacts:
    """What the rules read.

    Args:
        labelled, transfer: images of a draw.
        batch_norm: the student has such layers.
        pretrained: its weights are loaded.
    """

    labelled: int
    transfer: int
    batch_norm: bool
    pretrained: bool


@dataclass(frozen=True)
class Derived:
    """A setting, its value as typed, and why."""

    key: str
    value: str
    why: str

    @property
    def word(self) -> str:
        """As on the command line."""
        return f"{self.key}={self.value}"


def labelled_share(facts: PlanFacts) -> float:
    """The share of labelled rows in a batch; their share of all images where that is larger.

    At most a half, so that transfer images always make up the other half.
    """
    images = facts.labelled + facts.transfer
    return min(0.5, max(SHARE, facts.labelled / images if images else 0.0))


def labelled_rows(facts: PlanFacts, batch_size: int) -> int:
    """Labelled rows of a batch: the same share for every batch size, at least one."""
    return max(1, round(labelled_share(facts) * batch_size))


def step_bounds(facts: PlanFacts, batch_size: int) -> tuple[int, int]:
    """Fewest and most steps: one pass over all images, and ``DOUBLINGS`` times as many."""
    one_pass = math.ceil((facts.labelled + facts.transfer) / batch_size)
    least = min(LEAST[1], max(LEAST[0], one_pass))
    return least, min(MOST[1], max(MOST[0], DOUBLINGS * least))


def derived(
    config: TransferConfig, facts: PlanFacts, is_given: Callable[[str], bool]
) -> list[Derived]:
    """Every setting that the rules give and the user did not.

    Args:
        config: with the method, recipe and transfer set that are decided already.
        is_given: whether the user has set a key.
    """
    return [each for each in _rules(config, facts, is_given) if not is_given(each.key)]


def _rules(
    config: TransferConfig, facts: PlanFacts, is_given: Callable[[str], bool]
) -> Iterator[Derived]:
    if not config.needs:  # no teacher teaches: plain fine-tuning, or a recipe of its own
        return
    yield from _lengths_and_rates(config, facts, is_given)
    batch = config.train.batch_size
    if config.reads_transfer_set and facts.transfer and batch > 1:
        rows = labelled_rows(facts, batch)
        why = f"{100 * labelled_share(facts):.0f} % of a batch of {batch}, whatever its size"
        yield Derived("train.labelled_per_batch", str(rows), why)
    if config.method.name == "logit_kd" and config.method in config.methods:
        yield Derived(
            "method.temperature", f"{TEMPERATURE:g}", "no other one was better everywhere"
        )
    if config.recipe.name == "distil" and "logits" in config.needs:
        why = "the classifier is taught already; fine-tuning gained nothing in six worlds"
        yield Derived("finetune.steps", "0", why)
    else:
        why = "fixed; validation takes the stage back where it does harm"
        yield Derived("finetune.lr", f"{config.finetune.lr:g}", why)
    why = "fixed: a share of the steps, whatever their number"
    yield Derived("train.warmup", f"{config.train.warmup:g}", why)
    views = str(config.data.views.num_views)
    yield Derived("data.views.num_views", views, "fixed; a teacher answers those that are seen")


def _lengths_and_rates(
    config: TransferConfig, facts: PlanFacts, is_given: Callable[[str], bool]
) -> Iterator[Derived]:
    """By a pilot, but where the user's steps are too few for one."""
    open_steps = not any(is_given(key) for key in ("train.steps", "train.epochs", "minutes"))
    norm = "batch norm" if facts.batch_norm else "no batch norm"
    if open_steps:
        least, most = step_bounds(facts, config.train.batch_size)
        yield Derived("train.steps", "auto", "a pilot goes on until more steps do not pay")
        seen = f"a pass over {facts.labelled + facts.transfer:,} images"
        yield Derived("pilot.least_steps", str(least), f"{seen}, {LEAST[0]} to {LEAST[1]:,}")
        yield Derived(
            "pilot.most_steps", str(most), f"{DOUBLINGS} such passes, {MOST[0]:,} or more"
        )
    owned = any(stage.lr is not None for stage in config.distil_stages.values())
    worth = open_steps or _is_long(config.train.steps)
    if worth and not owned:
        rates = ",".join(f"{rate:g}" for rate in RATES[facts.batch_norm])
        yield Derived("train.lr", "auto", "a pilot tries three rates")
        yield Derived("pilot.rates", f"[{rates}]", f"the student has {norm}")
    elif not owned:
        rate = NO_PILOT[facts.batch_norm, facts.pretrained]
        kind = "pretrained" if facts.pretrained else "from scratch"
        yield Derived("train.lr", f"{rate:g}", f"{norm}, {kind}; too few steps for a pilot")
    if config.baseline:
        pays = worth and not owned
        value, why = ("auto", "the same pilot") if pays else (f"{PLAIN_RATE:g}", "no pilot")
        yield Derived("plain.lr", value, f"of the baseline: {why}")
    if worth:
        yield Derived("draws", "auto", "5 where all takes half an hour at most, else 3")


def _is_long(steps: int | str | None) -> bool:
    """Whether a pilot of rates is worth it; steps that are open or counted in epochs are."""
    return not isinstance(steps, int) or steps >= WORTH_STEPS
