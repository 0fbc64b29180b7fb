"""Adaptive Feature Transfer and the variants its paper ablates.

Source: Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
Models", Algorithm 1 and Section 5.3. What is learned beside the student (mu, however it is
parameterised) has its own Adam with its own learning rate, as in Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from genkt.io import derive_seed
from genkt.losses.features import reverse_feature_regression
from genkt.losses.kernels import MIN_ROWS, kernel_distance, linear_kernel, rbf_kernel
from genkt.losses.numerics import in_one_type, no_autocast
from genkt.methods.base import (
    BetaOptions,
    Objective,
)
from genkt.methods.kd import uniform_linear
from genkt.methods.shapes import Output, Shapes, as_output, as_outputs
from genkt.settings.bounds import Positive, Rate
from genkt.settings.faults import Fault
from genkt.types import UNLABELLED, ModelOutput, UserError


class DiagonalMu(nn.Module):
    """psi' = psi * sigmoid(s), s = 0 at start: one weight in 0..1 per feature."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(width))

    def forward(self, psi: Tensor) -> Tensor:
        """Weigh the columns of psi [B, D_t]."""
        return psi * self.s.sigmoid()

    def learned(self) -> dict[str, Tensor]:
        """The weights [D_t]."""
        return {"weights": self.s.sigmoid()}


class IdentityMu(nn.Module):
    """psi' = psi: nothing is learned."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()

    def forward(self, psi: Tensor) -> Tensor:
        """Psi [B, D_t] as it is."""
        return psi

    def learned(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class DenseMu(nn.Module):
    """psi' = psi S^T with S ~ N(0, 1 / D_t) of shape [D_t, D_t] at start, no sigmoid."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(derive_seed(seed, "aft dense mu"))
        self.matrix = nn.Parameter(torch.randn(width, width, generator=generator) * width**-0.5)

    def forward(self, psi: Tensor) -> Tensor:
        """Map psi [B, D_t] linearly."""
        psi, matrix = in_one_type(psi, self.matrix)
        return psi @ matrix.T

    def learned(self) -> dict[str, Tensor]:
        """The matrix [D_t, D_t]."""
        return {"mu": self.matrix}


KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"linear": linear_kernel, "rbf": rbf_kernel}
MUS: dict[str, type[DiagonalMu] | type[IdentityMu] | type[DenseMu]] = {
    "diagonal": DiagonalMu,
    "identity": IdentityMu,
    "dense": DenseMu,
}


@dataclass(frozen=True)
class AFTOptions(BetaOptions):
    """Options of ``aft``.

    Args:
        mu_lr: learning rate of mu's own Adam.
        kernel: linear | rbf.
        mu: diagonal | identity | dense.
        no_kernel: regress the student's features from the teachers' instead (Eq. 6).
        bilevel: five updates of mu before each update of the student.
        kernel_rows: all | labelled; which rows of a batch the transfer term reads.
    """

    name: str = "aft"
    beta_grid: tuple[Positive, ...] = (3, 10, 30)
    mu_lr: Rate = 0.01
    kernel: Literal["linear", "rbf"] = "linear"
    mu: Literal["diagonal", "identity", "dense"] = "diagonal"
    no_kernel: bool = False
    bilevel: bool = False
    kernel_rows: Literal["all", "labelled"] = "all"

    def faults(self) -> list[Fault]:
        """Every value that is wrong, and every pair of values that exclude each other."""
        faults = super().faults()
        if self.no_kernel is True and (self.kernel, self.mu) != ("linear", "diagonal"):
            text = (
                "replaces kernel and mu by an affine map; leave method.kernel at "
                f'"linear" and method.mu at "diagonal", got "{self.kernel}" and "{self.mu}"'
            )
            faults.append(Fault("no_kernel", text, "together"))
        if self.bilevel is True and (self.no_kernel is True or self.mu == "identity"):
            text = "needs a learned mu; expected mu=diagonal or mu=dense and no_kernel=false"
            faults.append(Fault("bilevel", text, "together"))
        return faults

    @property
    def needs_labels(self) -> str:
        """The kernels of labelled rows alone are compared."""
        return "method.kernel_rows=labelled" if self.kernel_rows == "labelled" else ""


class AFT(Objective):
    """Cross-entropy + beta * distance between the kernels of phi and of mu psi (``aft``).

    The student and mu both follow the gradient of the total; psi is constant. Several teachers
    are concatenated column-wise before mu. ``no_kernel=True`` gives a ``NoKernelAFT``,
    ``bilevel=True`` a ``BilevelAFT``.

    Example:
        >>> aft = AFT(student_width=64, teacher_width=256, beta=10)
        >>> student = torch.randn(8, 64, requires_grad=True), torch.randn(8, 5)
        >>> losses = aft(student, torch.randn(8, 256), torch.randint(5, (8,)))
        >>> sorted(losses)
        ['cross_entropy', 'kernel_distance', 'total']
    """

    needs = frozenset({"features"})
    options_type = AFTOptions
    sizes = ("student_width", "teacher_width")
    min_batch = MIN_ROWS
    part = "kernel_distance"

    @classmethod
    def member(cls, options: AFTOptions) -> type[AFT]:
        """By ``no_kernel`` and ``bilevel``."""
        if options.no_kernel:
            return NoKernelAFT
        return BilevelAFT if options.bilevel else cls

    def set_up(self, options: AFTOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.beta = options.chosen_beta
        self.mu_lr = float(options.mu_lr)
        self.labelled_only = options.kernel_rows == "labelled"
        self._set_up_mu(options, shapes, seed)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows) and the transfer term (``kernel_rows``)."""
        task = self._task_loss(student, labels)
        transfer = self._transfer(*self._features(student, teachers, labels))
        return {
            "total": task + self.beta * transfer,
            "cross_entropy": task.detach(),
            self.part: transfer.detach(),
        }

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Adam over mu without weight decay; None where nothing is learned."""
        parameters = list(self.parameters())
        if not parameters:
            return None
        return torch.optim.Adam(parameters, lr=self.mu_lr, weight_decay=0.0)

    def artifacts(self) -> dict[str, Tensor]:
        """Diagonal mu: ``weights.K`` [D_t] of teacher K; dense: its columns ``mu.K``."""
        artifacts: dict[str, Tensor] = {}
        for name, values in self.mu.learned().items():
            artifacts |= self._split_by_teacher(name, values)
        return artifacts

    def _set_up_mu(self, options: AFTOptions, shapes: Shapes, seed: int) -> None:
        self.kernel = KERNELS[options.kernel]
        self.mu = MUS[options.mu](shapes.teacher_width, seed)

    def _transfer(self, phi: Tensor, psi: Tensor) -> Tensor:
        return self._distance(phi, psi, self.mu)

    def _distance(self, phi: Tensor, psi: Tensor, mu: Callable[[Tensor], Tensor]) -> Tensor:
        with no_autocast(phi):  # mu too: its products are part of the kernel
            return kernel_distance(self.kernel(phi), self.kernel(mu(psi)))

    def _features(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        phi, psi = student.features, self._teacher_features(teachers)
        if not self.labelled_only:
            return phi, psi
        # A sync point in every step: shapes depend on labels. The default (all) has none.
        rows = (labels != UNLABELLED).nonzero().squeeze(1)
        if len(rows) < self.min_batch:
            raise UserError(
                f"method.kernel_rows=labelled: needs at least {self.min_batch} labelled rows in "
                f"every batch, got {len(rows)} of {len(labels)}; raise the batch size or use "
                "kernel_rows=all"
            )
        return phi[rows], psi[rows]


class BilevelAFT(AFT):
    """AFT with five updates of mu on the distance alone before each update of the student.

    In the student's update mu is constant: its gradient there is exactly zero (present, so that
    every parameter takes part under several processes).
    """

    num_inner_steps = 5

    def inner_loss(
        self, student: Output, teachers: Output | Sequence[Output], labels: Tensor
    ) -> Tensor:
        """The kernel distance as a function of mu alone."""
        output = as_output(student, self.needs, "student")
        phi, psi = self._features(output, as_outputs(teachers, self.needs), labels)
        return self._distance(phi.detach(), psi, self.mu)

    def _transfer(self, phi: Tensor, psi: Tensor) -> Tensor:
        return self._distance(phi, psi, self._constant_mu)

    def _constant_mu(self, psi: Tensor) -> Tensor:
        parameters = list(self.mu.parameters())
        nothing = torch.stack([0.0 * parameter.sum() for parameter in parameters]).sum()
        constant: Tensor = self.mu(psi).detach() + nothing
        return constant


class NoKernelAFT(AFT):
    """Cross-entropy + beta * regression of the student's features from the teachers' (Eq. 6).

    mu is an affine map [D_t] -> [D_s], learned by its own Adam like every other mu: it replaces
    both the kernel and the weights of the features. Differs from Eq. 6: the mean over D_s
    instead of the sum, as in the released code, so one beta weighs less here than in the paper;
    and the map has an offset.
    """

    min_batch = 1
    part = "feature_regression"

    def _set_up_mu(self, options: AFTOptions, shapes: Shapes, seed: int) -> None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "aft no_kernel"))
        self.weight, self.bias = uniform_linear(
            shapes.student_width, shapes.teacher_width, generator
        )

    def artifacts(self) -> dict[str, Tensor]:
        """The map's columns ``mu.K`` [D_s, D_t] of teacher K, and its ``offset`` [D_s]."""
        offset = {"offset": self.bias.detach().clone()}
        return self._split_by_teacher("mu", self.weight) | offset

    def _transfer(self, phi: Tensor, psi: Tensor) -> Tensor:
        return reverse_feature_regression(phi, psi, weight=self.weight, bias=self.bias)
