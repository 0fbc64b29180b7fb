"""Matching features whatever the task: contrastive on image features, cosine on patch features.

No label loss: the student's classifier learns nothing here, the fine-tuning that follows trains it.
Source: Vemulapalli et al., "Knowledge Transfer from Vision Foundation Models for Efficient Training
of Small Task-specific Models", Section 3 and Appendix A.3 (task-agnostic transfer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkt.io import derive_seed
from genkt.losses.contrastive import MIN_ROWS, info_nce, patch_cosine_distance
from genkt.losses.numerics import no_autocast, widen
from genkt.methods.base import (
    MethodOptions,
    Objective,
    Shapes,
    choice_fault,
    count_fault,
    positive_fault,
)
from genkt.methods.kd import uniform_linear
from genkt.settings.bounds import NotNegative, Width
from genkt.settings.faults import Fault, refuse
from genkt.types import ModelOutput, UserError


@dataclass(frozen=True)
class ContrastiveOptions(MethodOptions):
    """Options of ``contrastive``.

    Args:
        project: student | both; whose features are projected.
        dim: width of the space where both are projected; the student alone goes to the teacher's.
        temperature: cosines are divided by it.
    """

    project: str
    dim: Width
    temperature: NotNegative

    def faults(self) -> list[Fault]:
        """Every value that is wrong."""
        faults = choice_fault("project", self.project, list(PROJECTIONS))
        faults += count_fault("dim", self.dim, least=1)
        return faults + positive_fault("temperature", self.temperature)


@dataclass(frozen=True)
class CosinePatchOptions(MethodOptions):
    """``cosine_patch`` has no options."""


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
            return functional.linear(widen(vectors), self.weight, self.bias)


class StudentContrastive(FeatureMatching):
    """InfoNCE between the student's projected features and the teacher's own.

    The student is projected to the teacher's width by a learned affine map, one for each teacher:
    for a teacher whose features mean something by their cosines as they are (CLIP).

    Differs from the paper: it names the contrastive loss of Tian et al. (CRD) and prints no
    formula. Here negatives are the other images of the batch, as for CLIP itself, so that no
    memory of a large transfer set is needed.

    Args:
        options: the method's options.
        shapes: sizes of the student, the task and the teachers.
        seed: of the projections.

    Raises:
        UserError: an option or a shape is wrong.
    """

    needs = frozenset({"features"})
    min_batch = MIN_ROWS
    part = "info_nce"

    def __init__(self, options: ContrastiveOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes)
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

    def __init__(self, options: ContrastiveOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes, seed)
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


def build_contrastive(options: ContrastiveOptions, shapes: Shapes, seed: int = 0) -> Objective:
    """The member of the family that the options name.

    Raises:
        UserError: an option or a shape is wrong.
    """
    refuse(fault.below("method") for fault in options.faults())
    return PROJECTIONS[options.project](options, shapes, seed)


class CosinePatch(FeatureMatching):
    """1 - cosine between the vectors of student and teacher at each place of the student's map.

    The student's map is projected to the teacher's width by a learned affine map of each place (a
    1x1 convolution), one for each teacher; the teacher's map is resized to the student's height
    and width.

    Args:
        options: the method's options.
        shapes: sizes of the student, the task and the teachers, those of their maps among them.
        seed: of the projections.

    Raises:
        UserError: a shape is wrong, or a model gives no feature map.
    """

    needs = frozenset({"feature_map"})
    part = "patch_cosine_distance"

    def __init__(self, options: CosinePatchOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes)
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
