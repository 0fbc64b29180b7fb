"""One stage of training, as a value: who learns from what, and where its state is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from genkt.methods.base import Objective, WeightRule
from genkt.models.backbone import Backbone
from genkt.training.batches import Batches
from genkt.training.train_settings import TrainSettings

Record = dict[str, float | int | str]


class Log(Protocol):
    """Where a stage's records go.

    Attributes:
        place: whose stage it is, such as "draw 0, aft".
    """

    @property
    def place(self) -> str: ...

    def begin(self, stage: str, step: int, known: Sequence[Record] | None = None) -> None:
        """The stage starts, resumes or has ended at a step; ``known``: its records up to there."""

    def record(self, record: Record) -> None:
        """One record: step, stage, and what was measured."""


@dataclass
class Progress:
    """Where a stage stands; everything here is saved and restored.

    ``sums`` and ``num_summed`` are of the losses since the last record; ``fill_seconds`` are those
    of ``seconds`` in which teachers answered.
    """

    step: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    fill_seconds: float = 0.0
    accumulate: int = 1
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)
    num_summed: int = 0
    curve: list[Record] = field(default_factory=list)

    def shares(self) -> dict[str, str]:
        """The parts of the time that were not training, for a reader."""
        parts = {"waited": self.wait_seconds, "teachers": self.fill_seconds}
        whole = max(self.seconds, 1e-9)
        return {
            name: f"{part / whole:.0%}" for name, part in parts.items() if part or name == "waited"
        }


@dataclass
class Stage:
    """One stage of training: who learns from what, and where its state is kept.

    Args:
        name: shown in logs, e.g. "distil".
        student, objective: what is trained.
        batches: the rows of every step.
        settings: optimizer, length and the rest.
        directory: holds ``state.pt`` while training, ``last`` and ``best.safetensors`` after.
        seed: of dropout and the like, by step.
        online: teachers run on the fly, in the order of ``batch.teacher_images``.
        evaluate: validation accuracy (0..1) of the student, or None where it is not validated.
        log: gets the start of the stage and every record (losses, accuracy), or None.
        head_only: train only the classifier (linear probe); the backbone is frozen.
        momentum: the slow weights that the method itself returns, in place of ``settings.ema``.
        snapshot: the step after which the weights are kept in a file; 0: none.
        is_steady: after its warm-up the rate stays as it is, so that the same stage can go on for
            more steps than it had before.
    """

    name: str
    student: Backbone
    objective: Objective
    batches: Batches
    settings: TrainSettings
    directory: Path
    seed: int
    online: Sequence[Backbone] = ()
    evaluate: Callable[[Backbone], float] | None = None
    log: Log | None = None
    head_only: bool = False
    momentum: WeightRule | None = None
    snapshot: int = 0
    is_steady: bool = False
