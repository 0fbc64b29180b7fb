"""Knowledge distillation: regression of features, divergence of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkt.io import derive_seed
from genkt.losses.features import feature_regression
from genkt.losses.logits import kl_distillation
from genkt.losses.numerics import in_one_type
from genkt.methods.base import (
    Beta,
    BetaOptions,
    MethodOptions,
    Objective,
)
from genkt.methods.shapes import Shapes
from genkt.settings.bounds import Positive, ShareAboveZero
from genkt.types import ModelOutput, UserError


@dataclass(frozen=True)
class FeatureKDOptions(BetaOptions):
    """Options of ``feature_kd``: beta weighs the regression."""

    name: str = "feature_kd"
    beta: Beta = 1
    beta_grid: tuple[Positive, ...] = (0.1, 1, 10, 100)


@dataclass(frozen=True)
class L2FeatureOptions(MethodOptions):
    """``l2_feature`` has no options."""

    name: str = "l2_feature"


@dataclass(frozen=True)
class LogitKDOptions(MethodOptions):
    """Options of ``logit_kd``.

    Args:
        temperature: T of the divergence.
        kl_weight: lambda of lambda * KL + (1 - lambda) * CE; 1 is KL-Dist, below it XE-KL.
    """

    name: str = "logit_kd"
    temperature: Positive = 1.0
    kl_weight: ShareAboveZero = 1.0

    @property
    def needs_labels(self) -> str:
        """Cross-entropy has a share of the loss."""
        return f"method.kl_weight={self.kl_weight:g}" if self.kl_weight < 1 else ""


def uniform_linear(
    num_outputs: int, num_inputs: int, generator: torch.Generator
) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight [outputs, inputs] and bias [outputs], uniform within 1 / sqrt(inputs)."""
    bound = num_inputs**-0.5
    weight = torch.empty(num_outputs, num_inputs).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(num_outputs).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight), nn.Parameter(bias)


def affine(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """rows W^T + b; in the wider float type where theirs differ."""
    if rows.dtype != weight.dtype and not torch.is_autocast_enabled(rows.device.type):
        rows, weight, bias = in_one_type(rows, weight, bias)
    return functional.linear(rows, weight, bias)


class _FeatureRegression(Objective):
    """What learns an affine map V, b from the student's features to the teachers'.

    The map is trained by the student's optimizer. Several teachers are concatenated column-wise.
    """

    needs = frozenset({"features"})
    sizes = ("student_width", "teacher_width")

    def set_up(self, options: Any, shapes: Shapes, seed: int) -> None:
        """Draw V and b."""
        generator = torch.Generator().manual_seed(derive_seed(seed, options.name))
        self.weight, self.bias = uniform_linear(
            shapes.teacher_width, shapes.student_width, generator
        )

    def parameter_groups(self) -> list[nn.Parameter]:
        """V and b."""
        return [self.weight, self.bias]

    def _regression(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> Tensor:
        return feature_regression(
            student.features,
            self._teacher_features(teachers),
            weight=self.weight,
            bias=self.bias,
        )


class FeatureKD(_FeatureRegression):
    """Cross-entropy + beta * regression of the teachers' features from the student's (AFT Eq. 7).

    The affine map V, b is trained by the student's optimizer. Several teachers are concatenated
    column-wise.
    """

    options_type = FeatureKDOptions

    def set_up(self, options: FeatureKDOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        self.beta = options.chosen_beta

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), feature_regression (all rows)."""
        task = self._task_loss(student, labels)
        regression = self._regression(student, teachers)
        return {
            "total": task + self.beta * regression,
            "cross_entropy": task.detach(),
            "feature_regression": regression.detach(),
        }


class L2Feature(_FeatureRegression):
    """Squared L2 between the last outputs of the two backbones, and no label loss (OTA).

    Mean over B D_t of (phi V^T + b - psi)^2. The student's classifier learns nothing here: the
    fine-tuning on labels that follows in the paper has to train it. Source: Wang et al., "One to
    Transfer All", Section 4.2. The paper does not say how a student of width 512 meets a teacher
    of width 2048, nor whether it sums or averages: here V, b is a learned affine map, trained by
    the student's optimizer, whatever the widths, and the mean is used. Several teachers are
    concatenated column-wise.
    """

    options_type = L2FeatureOptions

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: feature_regression (all rows); labels are not read."""
        regression = self._regression(student, teachers)
        total = self._without_task(regression, student)
        return {"total": total, "feature_regression": regression.detach()}


class LogitTransfer(Objective):
    """What trains the student's logits on the teachers' by one transfer term over all rows.

    total = weight * transfer + (1 - weight) * cross-entropy (labelled rows).

    Attributes:
        part: name of the transfer term.
    """

    needs = frozenset({"logits"})
    part = "kl"

    def set_up(self, options: Any, shapes: Shapes, seed: int) -> None:
        """The weight is 1 where a method does not set another."""
        self.name = options.name
        self.temperature = float(options.temperature)
        self.weight = 1.0

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), the transfer term (all rows, with its factor T^2).

        Cross-entropy is reported where it has no share in the total, too.
        """
        task = self._task_loss(student, labels)
        assert student.logits is not None, "the task loss has checked it"
        parts = self._transfer(student.logits, self._teacher_logits(teachers), labels)
        return {
            "total": self.weight * parts[self.part] + (1 - self.weight) * task,
            "cross_entropy": task.detach(),
            **{name: value.detach() for name, value in parts.items()},
        }

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """The transfer term under ``part``, and figures to report beside it."""
        raise NotImplementedError

    def _teacher_logits(self, teachers: Sequence[ModelOutput]) -> list[Tensor]:
        self._check_count(teachers)
        logits = [teacher.logits.detach() for teacher in teachers if teacher.logits is not None]
        if len(logits) != len(teachers):
            raise UserError.of("teachers", f"logits of each for method {self.name}", "none of one")
        return logits


class LogitKD(LogitTransfer):
    """lambda * KL(teacher || student) at temperature T + (1 - lambda) * cross-entropy.

    lambda = 1 is KL-Dist, below it XE-KL. The target of several teachers is the mean of their
    tempered probabilities. Source: Roth et al., "Fantastic Gains and Where to Find Them", Eq. 1
    and 2. Differs from the released code: that gives the cross-entropy of XE-KL probabilities,
    which go through a second softmax there; here it gets logits, as in the paper.
    """

    options_type = LogitKDOptions

    def set_up(self, options: LogitKDOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        self.weight = float(options.kl_weight)

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        return {
            self.part: kl_distillation(
                student_logits, teachers_logits, temperature=self.temperature
            )
        }
