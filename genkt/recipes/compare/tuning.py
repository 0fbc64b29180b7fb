"""Chooses settings of arms on validation images, as many candidates for each, before comparing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genkt.io import read_json
from genkt.recipes.compare.plan import ArmSettings
from genkt.recipes.compare.task import ArmTask, as_arm
from genkt.recipes.config import TransferConfig
from genkt.report.compare_data import Tried

FOLDER = "tuning"
"""Where a comparison keeps its candidates, in the layout of a comparison."""


@dataclass(frozen=True)
class Candidate:
    """One setting of an arm that may be chosen.

    Args:
        arm: whose.  words: its own settings of ``genkt transfer``, beside those of the arm.
        task: the transfer that judges it.
    """

    arm: str
    words: tuple[str, ...]
    task: ArmTask

    def validation(self) -> float | None:
        """Mean validation accuracy over its draws, 0..1; None where it ended early."""
        if self.task.failure() is not None:
            return None
        home, arm = self.task.folder / "draws", self.task.config.main_arm
        results = [
            read_json(home / str(draw) / arm / "result.json")["result"]
            for draw in range(self.task.config.draws)
        ]
        return statistics.fmean(result["extras"]["validation_accuracy"] for result in results)


def candidates(settings: Sequence[ArmSettings], home: Path, num_draws: int) -> list[Candidate]:
    """Every candidate of every arm; candidates of equal settings share one transfer.

    Args:
        home: folder of the comparison.
        num_draws: label draws of each; they follow those of the arms.
    """
    found: list[Candidate] = []
    for each in settings:
        for number, (words, config, command) in enumerate(each.candidates):
            name = f"{each.arm.name}-{number}"
            judged = _judged(config, num_draws)
            twin = next((c.task for c in found if _same(c.task.config, judged)), None)
            task = ArmTask(
                name, str(home / FOLDER), as_arm(judged, home / FOLDER, name),
                f"{command} draws={num_draws} first_draw={judged.first_draw}",
            )  # fmt: skip
            found.append(Candidate(each.arm.name, words, twin or task))
    return found


def _judged(config: TransferConfig, num_draws: int) -> TransferConfig:
    return replace(config, draws=num_draws, first_draw=config.first_draw + config.draws)


def _same(a: TransferConfig, b: TransferConfig) -> bool:
    return replace(a, out="", baseline=False) == replace(b, out="", baseline=False)


def choose(settings: Sequence[ArmSettings], tried: Sequence[Candidate]) -> list[ArmSettings]:
    """Every arm with its best candidate's settings; of equally good ones the first.

    An arm none of whose candidates ended well keeps those of the first, and ends as that did.
    """
    found = []
    for each in settings:
        mine = [candidate for candidate in tried if candidate.arm == each.arm.name]
        if not mine:
            found.append(each)
            continue
        scores = [candidate.validation() or 0.0 for candidate in mine]
        words, config, command = each.candidates[scores.index(max(scores))]
        arm = replace(each.arm, words=(*each.arm.words, *words))
        found.append(
            replace(each, arm=arm, config=config, command=command, candidates=(), tuned=True)
        )
    return found


def told(tried: Sequence[Candidate], chosen: Sequence[ArmSettings]) -> list[Tried]:
    """What the report says of every candidate."""
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
    """A sentence an arm that was chosen from fewer candidates than the others."""
    failed: dict[str, int] = {}
    for each in tried:
        failed[each.arm] = failed.get(each.arm, 0) + (each.validation is None)
    return [
        f"{count} candidates of {arm} ended early (tuning/logs says why); its settings were chosen "
        "among the rest."
        for arm, count in failed.items()
        if count
    ]
