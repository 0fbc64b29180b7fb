"""Plain fine-tuning on labels: the baseline of every report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from genkt.methods.base import MethodOptions, Objective, Shapes
from genkt.types import ModelOutput


@dataclass(frozen=True)
class SupervisedOptions(MethodOptions):
    """Plain fine-tuning has no options."""


class Supervised(Objective):
    """Cross-entropy on the labelled rows (``stl``); teachers, if any, are not read.

    Args:
        options: the method's options.
        shapes: sizes of the student, the task and the teachers.
        seed: unused, as nothing is drawn.
    """

    def __init__(self, options: SupervisedOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy."""
        task = self._task_loss(student, labels)
        return {"total": task, "cross_entropy": task.detach()}
