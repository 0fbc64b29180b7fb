"""Chooses settings of arms, on validation images or on folds of labels, before comparing them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkt.comparison.arm_task import ArmTask, as_arm
from genkt.comparison.plan_arms import ArmSettings, Option, same_training
from genkt.io import fingerprint
from genkt.metrics.choices import chosen
from genkt.report.compare.compare_data import Tried

FOLDER = "tuning"
"""Where a comparison keeps its candidates, in the layout of a comparison."""

JUDGED_ON = {"images": "validation images", "cross": "folds of the labelled images", "none": ""}
"""What candidates are judged on, for the reader."""


@dataclass(frozen=True)
class Candidate:
    """One candidate for the settings of an arm.

    Args:
        arm: its arm.  words: its own settings of ``genkt transfer``, beside those of the arm.
        task: the transfer that judges it.
    """

    arm: str
    words: tuple[str, ...]
    task: ArmTask

    def validation(self) -> float | None:
        """Mean validation accuracy over its draws, 0..1; None if it failed."""
        found = self.accuracies()
        return statistics.fmean(found) if found else None

    def scores(self) -> NDArray[np.float32] | None:
        """[D, N] on the validation images, or [N] on the labelled images of all draws.

        The mean over the seeds of a draw. None where an older genkt did not keep them. Only of one
        that did not fail.
        """
        config, students = self.task.config, self.task.scores()
        judged = [each.validation for each in students if each is not None]
        kept = [scores for scores in judged if scores is not None]
        if len(kept) < len(students):
            return None
        seeds = config.seeds_per_draw
        draws = [
            np.mean(kept[first : first + seeds], axis=0) for first in range(0, len(kept), seeds)
        ]
        return np.concatenate(draws) if self.on_labels else np.stack(draws)

    @property
    def on_labels(self) -> bool:
        """Whether it is judged on folds of the labelled images."""
        return self.task.config.validation == "cross"

    def accuracies(self) -> list[float]:
        """Of each draw; empty if it failed."""
        if self.task.failure() is not None:
            return []
        results = [result for result, _ in self.task.results()]
        return [float(result.extras["validation_accuracy"]) for result in results]


def candidates(settings: Sequence[ArmSettings], home: Path, num_draws: int) -> list[Candidate]:
    """Every candidate of every arm; candidates of equal settings share one transfer.

    Args:
        home: folder of the comparison.
        num_draws: label draws of each, numbered after those of the arms.
    """
    found: list[Candidate] = []
    for each in settings:
        for option in each.candidates:
            task = _judged(each.arm.name, option, home / FOLDER, num_draws)
            alike = (c.task for c in found if same_training(c.task.config, task.config))
            found.append(Candidate(each.arm.name, option.words, next(alike, task)))
    return found


def _judged(arm: str, option: Option, home: Path, num_draws: int) -> ArmTask:
    """The transfer that judges an option; named by its settings, so that a grid may grow."""
    name = f"{arm}-{fingerprint(list(option.words))[:8]}"
    first = option.config.first_draw + option.config.num_draws
    on_labels = option.config.validation == "cross"
    config = replace(
        option.config, draws=num_draws, first_draw=first, cross_validate=on_labels
    )  # fmt: skip
    command = f"{option.command} draws={num_draws} first_draw={first}"
    command += " cross_validate=true" if on_labels else ""
    return ArmTask(name, str(home), as_arm(config, home, name), command)


def choose(settings: Sequence[ArmSettings], tried: Sequence[Candidate]) -> list[ArmSettings]:
    """Every arm with the settings of its best candidate.

    The first candidate is the default: it wins ties (``genkt.metrics.choices.chosen``). If all
    candidates of an arm failed, it keeps the settings of the first.
    """
    found = []
    for each in settings:
        mine = [candidate for candidate in tried if candidate.arm == each.arm.name]
        if not mine:
            found.append(each)
            continue
        best = each.candidates[_best(mine)]
        arm = replace(each.arm, words=(*each.arm.words, *best.words))
        found.append(replace(each, arm=arm, config=best.config, command=best.command,
                             candidates=(), tuned=True))  # fmt: skip
    return found


def _best(candidates: Sequence[Candidate]) -> int:
    """The number of the chosen one, of those that did not fail; 0 if all did."""
    ended_well = [n for n, each in enumerate(candidates) if each.task.failure() is None]
    if not ended_well:
        return 0
    mine = [candidates[number] for number in ended_well]
    scores = [each.scores() for each in mine]
    kept = [each for each in scores if each is not None]
    if len(kept) < len(mine):
        return ended_well[chosen([each.accuracies() for each in mine])]
    return ended_well[chosen(kept)]


def told(tried: Sequence[Candidate], arms: Sequence[ArmSettings]) -> list[Tried]:
    """The entry of every candidate in the report."""
    words = {each.arm.name: each.arm.words for each in arms}
    found = []
    for candidate in tried:
        own = candidate.words
        found.append(
            Tried(
                candidate.arm, own, candidate.validation(), candidate.task.seconds(),
                words[candidate.arm][-len(own) :] == own,
            )
        )  # fmt: skip
    return found


def lost(tried: Sequence[Tried]) -> list[str]:
    """One sentence for each arm that was chosen from fewer candidates than the others."""
    found = []
    for arm in dict.fromkeys(each.arm for each in tried):
        ended = [each.validation is None for each in tried if each.arm == arm]
        rest = "it has the settings of the first" if all(ended) else "one of the others was chosen"
        if any(ended):
            found.append(
                f"{sum(ended)} of the {len(ended)} candidates of {arm} ended early (tuning/logs "
                f"says why); {rest}."
            )
    return found
