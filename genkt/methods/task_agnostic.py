"""Matching features whatever the task: contrastive on image features, cosine on patch features.

No label loss: the student's classifier learns nothing here; the following fine-tuning trains it.
Source: Vemulapalli et al., "Knowledge Transfer from Vision Foundation Models for Efficient Training
of Small Task-specific Models", Section 3 and Appendix A.3 (task-agnostic transfer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkt.io import derive_seed
from genkt.losses.contrastive import MIN_ROWS, info_nce, patch_cosine_distance
from genkt.losses.numerics import in_one_type, no_autocast
from genkt.methods.base import (
    MethodOptions,
    Objective,
)
from genkt.methods.kd import uniform_linear
from genkt.methods.shapes import Shapes
from genkt.settings.bounds import Positive, Width
from genkt.types import ModelOutput, UserError


@dataclass(frozen=True)
class ContrastiveOptions(MethodOptions):
    """Options of ``contrastive``.

    Args:
        project: student | both; whose features are projected.
        dim: width of the space where both are projected; the student alone goes to the teacher's.
        temperature: cosines are divided by it.
    """

    name: str = "contrastive"
    project: Literal["student", "both"] = "student"
    dim: Width = 768
    temperature: Positive = 0.07


@dataclass(frozen=True)
class CosinePatchOptions(MethodOptions):
    """``cosine_patch`` has no options."""

    name: str = "cosine_patch"


class FeatureMatching(Objective):
    """What trains the student on one matching term alone, the mean of the teachers'.

    Attributes:
        part: name of the term.
    """

    part: str

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """One part, the matching term (all rows); labels are not read."""
        self._check_count(teachers)
        terms = [self._term(student, teacher, index) for index, teacher in enumerate(teachers)]
        term = torch.stack(terms).mean()
        return {"total": self._without_task(term, student), self.part: term.detach()}

    def parameter_groups(self) -> list[nn.Parameter]:
        """All projections'."""
        return list(self.parameters())

    def _term(self, student: ModelOutput, teacher: ModelOutput, index: int) -> Tensor:
        raise NotImplementedError


class Projection(nn.Module):
    """An affine map of the last dimension, in float32 or wider.

    Args:
        num_outputs, num_inputs: widths.  generator: of its values.
    """

    def __init__(self, num_outputs: int, num_inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = uniform_linear(num_outputs, num_inputs, generator)

    def forward(self, vectors: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        with no_autocast(vectors):
            return functional.linear(*in_one_type(vectors, self.weight, self.bias))


class StudentContrastive(FeatureMatching):
    """InfoNCE between the student's projected features and the teacher's own.

    The student is projected to the teacher's width by a learned affine map, one for each teacher:
    for a teacher whose features mean something by their cosines as they are (CLIP).

    Differs from the paper: it names the contrastive loss of Tian et al. (CRD) and prints no
    formula. Here negatives are the other images of the batch, as for CLIP itself, so that no
    memory of a large transfer set is needed.
    """

    needs = frozenset({"features"})
    min_batch = MIN_ROWS
    options_type = ContrastiveOptions
    sizes = ("student_width", "teacher_width")
    part = "info_nce"

    @classmethod
    def member(cls, options: ContrastiveOptions) -> type[StudentContrastive]:
        """By ``project``."""
        return PROJECTIONS.get(options.project, cls)

    def set_up(self, options: ContrastiveOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.temperature = float(options.temperature)
        self.student_projections = _projections(
            [self._width(teacher.width, options) for teacher in shapes.teachers],
            [shapes.student_width] * len(shapes.teachers),
            derive_seed(seed, "contrastive student"),
        )

    def _term(self, student: ModelOutput, teacher: ModelOutput, index: int) -> Tensor:
        return info_nce(
            self.student_projections[index](student.features),
            self._teacher(teacher.features.detach(), index),
            temperature=self.temperature,
        )

    def _width(self, teacher_width: int, options: ContrastiveOptions) -> int:
        """Of the space in which student and teacher meet."""
        return teacher_width

    def _teacher(self, features: Tensor, index: int) -> Tensor:
        """The features of a teacher [B, D_t] in that space."""
        return features


class BothContrastive(StudentContrastive):
    """InfoNCE between features that learned affine maps bring to one width, the teacher's too.

    For a teacher whose features were not made to be compared by cosines (DINOv2's). The teacher
    itself is constant; its projection is learned, one for each teacher.
    """

    def set_up(self, options: ContrastiveOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        self.teacher_projections = _projections(
            [options.dim] * len(shapes.teachers),
            [teacher.width for teacher in shapes.teachers],
            derive_seed(seed, "contrastive teacher"),
        )

    def _width(self, teacher_width: int, options: ContrastiveOptions) -> int:
        return options.dim

    def _teacher(self, features: Tensor, index: int) -> Tensor:
        projected: Tensor = self.teacher_projections[index](features)
        return projected


PROJECTIONS: dict[str, type[StudentContrastive]] = {
    "student": StudentContrastive,
    "both": BothContrastive,
}


class CosinePatch(FeatureMatching):
    """1 - cosine between the vectors of student and teacher at each place of the student's map.

    The student's map is projected to the teacher's width by a learned affine map of each place (a
    1x1 convolution), one for each teacher; the teacher's map is resized to the student's height
    and width.
    """

    needs = frozenset({"feature_map"})
    options_type = CosinePatchOptions
    sizes = ("student_map_width", "teacher_map_width")
    part = "patch_cosine_distance"

    def set_up(self, options: CosinePatchOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        assert shapes.student_map_width is not None, "checked above"
        self.projections = _projections(
            [teacher.map_width or 0 for teacher in shapes.teachers],
            [shapes.student_map_width] * len(shapes.teachers),
            derive_seed(seed, "cosine_patch"),
        )

    def _term(self, student: ModelOutput, teacher: ModelOutput, index: int) -> Tensor:
        if student.feature_map is None or teacher.feature_map is None:
            raise UserError(
                "feature maps: method cosine_patch needs the student's and each teacher's"
            )
        projected = self.projections[index](student.feature_map.movedim(1, -1)).movedim(-1, 1)
        return patch_cosine_distance(projected, teacher.feature_map.detach())


def _projections(num_outputs: Sequence[int], num_inputs: Sequence[int], seed: int) -> nn.ModuleList:
    generator = torch.Generator().manual_seed(seed)
    return nn.ModuleList(
        Projection(outputs, inputs, generator)
        for outputs, inputs in zip(num_outputs, num_inputs, strict=True)
    )
