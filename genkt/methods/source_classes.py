"""Learning the classes of another labelled set through a head that is left behind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkt.io import derive_seed
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions, Objective, Shapes
from genkt.methods.kd import uniform_linear
from genkt.types import ModelOutput


class SourceClasses(Objective):
    """Cross-entropy of a linear head of its own on the student's features.

    The head is trained by the student's optimizer; the student's own classifier is not read.

    Args:
        shapes: width of the student, and the classes of the source.
        seed: of the head.

    Raises:
        UserError: fewer than two classes.
    """

    def __init__(self, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(MethodOptions("pretrain"), shapes)
        generator = torch.Generator().manual_seed(derive_seed(seed, "source head"))
        self.weight, self.bias = uniform_linear(shapes.num_classes, shapes.student_width, generator)

    def parameter_groups(self) -> list[nn.Parameter]:
        """The head's weight and bias."""
        return [self.weight, self.bias]

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy.

        Args:
            labels: [B] classes of the source.
        """
        task = cross_entropy(F.linear(student.features, self.weight, self.bias), labels)
        return {"total": task, "cross_entropy": task.detach()}
