"""How many labels a result has used: those trained on, and those that a choice has read."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.runs.pool import Pool


@dataclass(frozen=True)
class LabelBudget:
    """The labels behind a result, besides those of the test images, which only measure it.

    Args:
        training: labelled images of a draw.
        validation: validation images whose labels some choice has read; 0 where none was made on
            them.
    """

    training: int
    validation: int


def label_budget(config: TransferConfig, pool: Pool, *, tuned: bool = False) -> LabelBudget:
    """The labels of a run.

    Args:
        config, pool: of the run.
        tuned: its settings were chosen by ``study.tuning``.
    """
    chosen = choices(config, pool.splits, tuned=tuned)
    reads = config.validation == "images" and chosen
    found = pool.splits.parts.get("validation") if reads else None
    return LabelBudget(len(pool.draws[0].labelled), 0 if found is None else len(found))


def choices(config: TransferConfig, splits: Splits, *, tuned: bool = False) -> tuple[str, ...]:
    """What a run chooses by the answers of students or teachers, for the reader.

    Args:
        tuned: as for ``label_budget``.
    """
    has_images = config.validation == "images" and "validation" in splits.parts
    made = {
        "settings of the study": tuned,
        **config.chooses,
        "train.select=best": config.train.select == "best",
        "exported student": has_images and config.num_students > 1,
    }
    return tuple(what for what, is_made in made.items() if is_made)
