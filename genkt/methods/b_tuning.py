"""B-Tuning: predictions of linear models on the teachers' features as a prior for the student's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genkt.losses.features import feature_regression
from genkt.losses.numerics import in_one_type, no_autocast
from genkt.methods.base import BetaOptions, Objective
from genkt.methods.shapes import Shapes, TrainingRows
from genkt.metrics.logme import LogME, logme, logme_released
from genkt.settings.bounds import Positive
from genkt.types import UNLABELLED, ModelOutput, UserError

SOLVERS: dict[str, Callable[[Tensor, Tensor, int], LogME]] = {
    "corrected": logme,
    "released": logme_released,
}


@dataclass(frozen=True)
class BTuningOptions(BetaOptions):
    """Options of ``b_tuning``.

    Args:
        temperature: of the softmax over the teachers' evidences.
        solver: corrected | released; whose evidence weighs the teachers: ``logme``'s, or
            ``logme_released``'s, which leaves terms out where a teacher has more features than
            there are labelled images. The linear models are the same.
    """

    name: str = "b_tuning"
    beta_grid: tuple[Positive, ...] = (1, 100, 1000, 10000)
    temperature: Positive = 0.1
    solver: Literal["corrected", "released"] = "corrected"


class BTuning(Objective):
    """Cross-entropy + beta * mean over B C of (phi m_S - sum of w_i psi_i m_i)^2.

    m_S and m_i are LogME's mean weights on the features of the labelled training images: of the
    student as it is before training, and of teacher i. w is the softmax of the teachers' evidences
    / temperature. All are constant in training; an image without a label is treated like any other.

    Source: You et al., "Ranking and Tuning Pre-trained Models", 2022 (B-Tuning), as the baseline
    of Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
    Models". Differs from the paper: the mean over B C instead of a sum (a factor on beta), as in
    its released code.
    """

    needs = frozenset({"features"})
    prepares = frozenset({"labels", "teachers", "student"})
    options_type = BTuningOptions
    sizes = ("student_width", "teacher_width", "num_classes")
    teacher_mean: Tensor
    student_mean: Tensor
    shares: Tensor
    evidences: Tensor

    def set_up(self, options: BTuningOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.beta = options.chosen_beta
        self.temperature = float(options.temperature)
        self.solver = SOLVERS[options.solver]
        sizes = {
            "teacher_mean": (shapes.teacher_width, shapes.num_classes),
            "student_mean": (shapes.student_width, shapes.num_classes),
            "shares": (len(shapes.teachers),),
            "evidences": (len(shapes.teachers),),
        }
        for name, size in sizes.items():
            # NaN, so that a loss before prepare is not taken for a valid one.
            self.register_buffer(name, torch.full(size, torch.nan))

    def prepare(self, rows: TrainingRows) -> None:
        """Fit the linear models and weigh the teachers, from the labelled rows alone.

        Raises:
            UserError: no row has a label, or features are not finite.
        """
        assert rows.student is not None and len(rows.teachers) == len(self.shapes.teachers)
        known = rows.labels != UNLABELLED
        if not known.any():
            raise UserError(
                "method b_tuning: needs labelled images, from which it fits a linear model on each "
                f"teacher's features; got {len(known)} images without labels"
            )
        labels, num_classes = rows.labels[known], self.shapes.num_classes
        found = [
            self._fit(shape.name, output.features[known], labels)
            for shape, output in zip(self.shapes.teachers, rows.teachers, strict=True)
        ]
        evidences = torch.tensor([one.evidence for one in found], dtype=torch.float64)
        shares = (evidences / self.temperature).softmax(dim=0)
        weighted = [share * one.posterior_mean for share, one in zip(shares, found, strict=True)]
        student = logme(rows.student.features[known], labels, num_classes)
        self.teacher_mean.copy_(torch.cat(weighted))
        self.student_mean.copy_(student.posterior_mean)
        self.shares.copy_(shares)
        self.evidences.copy_(evidences)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), prior_regression (all rows)."""
        task = self._task_loss(student, labels)
        psi = self._teacher_features(teachers)
        with no_autocast(psi):
            psi, teacher_mean = in_one_type(psi, self.teacher_mean)
            target = psi @ teacher_mean
        regression = feature_regression(
            student.features,
            target,
            weight=self.student_mean.T,
            bias=torch.zeros_like(self.student_mean[0]),
        )
        return {
            "total": task + self.beta * regression,
            "cross_entropy": task.detach(),
            "prior_regression": regression.detach(),
        }

    def artifacts(self) -> dict[str, Tensor]:
        """``evidence-K`` and ``share-K`` of teacher K, scalars."""
        found: dict[str, Tensor] = {}
        for index, (evidence, share) in enumerate(zip(self.evidences, self.shares, strict=True)):
            found |= {f"evidence-{index}": evidence.clone(), f"share-{index}": share.clone()}
        return found

    def _fit(self, name: str, features: Tensor, labels: Tensor) -> LogME:
        try:
            return self.solver(features, labels, self.shapes.num_classes)
        except UserError as error:
            raise UserError(f'teacher "{name}": {error}') from error
