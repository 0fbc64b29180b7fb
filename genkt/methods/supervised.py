"""Plain fine-tuning on labels: the baseline of every report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from genkt.methods.base import MethodOptions, Objective
from genkt.types import ModelOutput


@dataclass(frozen=True)
class SupervisedOptions(MethodOptions):
    """Plain fine-tuning has no options."""

    name: str = "stl"


class Supervised(Objective):
    """Cross-entropy on the labelled rows (``stl``); teachers, if any, are not read.

    A tensor alone is the student's logits.
    """

    options_type = SupervisedOptions

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy."""
        task = self._task_loss(student, labels)
        return {"total": task, "cross_entropy": task.detach()}
