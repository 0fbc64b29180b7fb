"""Learning the classes of another labelled set through a head that is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genkt.io import derive_seed
from genkt.losses.logits import cross_entropy
from genkt.methods.base import MethodOptions, Objective
from genkt.methods.kd import affine, uniform_linear
from genkt.methods.shapes import Shapes
from genkt.types import ModelOutput


@dataclass(frozen=True)
class SourceClassesOptions(MethodOptions):
    """No options."""

    name: str = "pretrain"


class SourceClasses(Objective):
    """Cross-entropy of a linear head of its own on the student's features.

    The head is trained by the student's optimizer; the student's own classifier is not read.
    ``num_classes`` are the source's.
    """

    options_type = SourceClassesOptions
    sizes = ("student_width", "num_classes")

    def set_up(self, options: SourceClassesOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
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
        task = cross_entropy(affine(student.features, self.weight, self.bias), labels)
        return {"total": task, "cross_entropy": task.detach()}
