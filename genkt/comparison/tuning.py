"""Chooses settings of arms on validation images before comparing them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genkt.comparison.arm_task import ArmTask, as_arm
from genkt.comparison.plan_arms import ArmSettings, Option, same_training
from genkt.io import fingerprint
from genkt.report.compare.compare_data import Tried

FOLDER = "tuning"
"""Where a comparison keeps its candidates, in the layout of a comparison."""


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
        if self.task.failure() is not None:
            return None
        results = [result for result, _ in self.task.results()]
        return statistics.fmean(float(result.extras["validation_accuracy"]) for result in results)


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
    first = option.config.first_draw + option.config.draws
    config = replace(option.config, draws=num_draws, first_draw=first)
    command = f"{option.command} draws={num_draws} first_draw={first}"
    return ArmTask(name, str(home), as_arm(config, home, name), command)


def choose(settings: Sequence[ArmSettings], tried: Sequence[Candidate]) -> list[ArmSettings]:
    """Every arm with the settings of its best candidate; the first of equally good ones.

    If all candidates of an arm failed, it keeps the settings of the first.
    """
    found = []
    for each in settings:
        mine = [candidate for candidate in tried if candidate.arm == each.arm.name]
        if not mine:
            found.append(each)
            continue
        scores = [candidate.validation() or 0.0 for candidate in mine]
        best = each.candidates[scores.index(max(scores))]
        arm = replace(each.arm, words=(*each.arm.words, *best.words))
        found.append(ArmSettings(arm, best.config, best.command, tuned=True))
    return found


def told(tried: Sequence[Candidate], chosen: Sequence[ArmSettings]) -> list[Tried]:
    """The entry of every candidate in the report."""
    words = {each.arm.name: each.arm.words for each in chosen}
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
