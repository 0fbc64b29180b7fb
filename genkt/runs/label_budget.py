"""How many labels a result has used: those trained on, and those that a choice has read."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.config.irf_settings import BASELINE
from genkt.config.transfer_settings import TransferConfig
from genkt.runs.pool import Pool


@dataclass(frozen=True)
class LabelBudget:
    """The labels behind a result, besides those of the test images, which only measure it.

    Args:
        training: labelled images of a draw.
        validation: validation images whose labels some choice has read; 0 where none was made on
            them.
        choices: what was chosen on them.
    """

    training: int
    validation: int
    choices: tuple[str, ...] = ()


def label_budget(
    config: TransferConfig, pool: Pool, arm: str | None = None, *, piloted: bool = False
) -> LabelBudget:
    """The labels of an arm of a run; None: of all its arms together.

    What a comparison chooses before the run (``study.tuning``) is not counted.

    Args:
        config, pool: of the run.
        piloted: a pilot chose the baseline's learning rate.
    """
    part = pool.splits.parts.get("validation") if config.validation == "images" else None
    arms = config.arms if arm is None else [arm]
    each = (choice for name in arms for choice in validated_choices(config, name, piloted))
    made = tuple(dict.fromkeys(each)) if part is not None else ()
    num_read = len(part) if part is not None and made else 0
    return LabelBudget(len(pool.draws[0].labelled), num_read, made)


def validated_choices(config: TransferConfig, arm: str, piloted: bool = False) -> tuple[str, ...]:
    """What an arm chooses by answers on validation images, where there are some to read."""
    teaches = arm != BASELINE
    made = {
        "weights": config.train.select == "best",
        "search": (config.searches_beta and (teaches or config.baseline_search))
        or (piloted and not teaches),
        "teacher": teaches and config.chooses["teacher.adapt=better"],
        "stage": config.keeps_better,
        "student": arm == config.main_arm and config.num_students > 1,
    }
    return tuple(what for what, is_made in made.items() if is_made)
