"""What a training stage needs to know, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.settings.bounds import (
    BatchSize,
    Count,
    CountOrNone,
    NotNegative,
    Passes,
    Positive,
    Rate,
    Seconds,
)
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range, UserError

Precision = Literal["fp32", "bf16", "fp16"]
OptimizerName = Literal["adamw", "adam", "sgd"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training stage; ``configs/transfer.yaml`` holds the defaults.

    Args:
        steps: optimizer steps, or None to count in epochs; "auto": a run's pilot measures how many
            pay. A stage that trains has a number.
        epochs: passes over the stage's images (the transfer images where there are such), used
            where ``steps`` is None.
        batch_size: rows of one optimizer step, over all processes and micro-batches.
        labelled_per_batch: of those, rows from the labelled images when there are transfer
            images too.
        lr, weight_decay, momentum: of the student's optimizer (momentum: SGD only); "auto" as for
            ``steps``.
        warmup: share of the steps over which the learning rate rises linearly.
        clip_grad: largest gradient norm, or None.
        ema: decay of the average of the weights that is evaluated and returned, from 0 to below 1,
            or None for the last ones. The average begins with the first step and covers at most
            about the last tenth of the steps so far (``genkt.training.averages.newest_share``).
        ema_every: steps from one update of the average to the next.
        precision: fp32, or bf16 / fp16 autocast.
        accumulate: micro-batches of one optimizer step (doubled when memory runs out); what a
            method computes across a batch (AFT's kernels, batch norm) is then of a micro-batch.
        compile: run the step through ``torch.compile``.
        select: return the ``last`` weights or the ``best`` on the validation images.
        eval_every, log_every: in steps; 0 means only at the end.
        save_seconds: least time between two resumable states on disk.
        num_workers: loader processes; "auto" for one per spare core when images come from files.
    """

    steps: CountOrNone | Literal["auto"] | None
    epochs: Passes | None
    batch_size: BatchSize
    labelled_per_batch: Annotated[int, Range(0, 2**20)]
    optimizer: OptimizerName
    lr: Rate | Literal["auto"]
    weight_decay: NotNegative
    momentum: Annotated[float, Range(0, 1)]
    warmup: Annotated[float, Range(0, 1)]
    clip_grad: Positive | None
    ema: Annotated[float, Range(0, 1)] | None
    ema_every: Count
    precision: Precision
    accumulate: Annotated[int, Range(1, 2**16)]
    compile: bool
    select: Literal["last", "best"]
    eval_every: CountOrNone
    log_every: CountOrNone
    save_seconds: Seconds
    num_workers: Annotated[int, Range(0, 128)] | Literal["auto"]

    def __post_init__(self) -> None:
        """Refuse slow weights that never move.

        Raises:
            UserError: ``ema`` is not from 0 to below 1.
        """
        if self.ema is not None and not 0 <= self.ema < 1:
            text = f"expected a number from 0 to below 1, got {self.ema:g}"
            raise SettingsError([Fault("ema", text)])

    @property
    def rate(self) -> float:
        """The learning rate of a stage that trains."""
        assert self.lr != "auto", "a pilot decides it before any training"
        return self.lr

    def num_steps(self, num_samples: int, rows_per_step: int | None = None) -> int:
        """Optimizer steps over a set of images.

        Args:
            num_samples: images of one pass.
            rows_per_step: how many of them one step reads, where it is not the whole batch.

        Raises:
            UserError: neither steps nor epochs are set.
        """
        assert self.steps != "auto", "a pilot decides them before any training"
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            raise UserError.of("train.steps, train.epochs", "a number for one of them", "none")
        return math.ceil(self.epochs * num_samples / (rows_per_step or self.batch_size))
