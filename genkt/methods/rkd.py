"""Relational knowledge distillation: distances and angles within a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from genkt.losses.relational import MIN_ROWS, rkd_angle, rkd_distance
from genkt.methods.base import (
    BetaOptions,
    Objective,
)
from genkt.methods.shapes import Shapes
from genkt.settings.bounds import NotNegative, Positive
from genkt.settings.faults import Fault
from genkt.types import ModelOutput

RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "distance": rkd_distance,
    "angle": rkd_angle,
}


@dataclass(frozen=True)
class RKDOptions(BetaOptions):
    """Options of ``rkd``.

    Args:
        distance_weight, angle_weight: their shares; one that is 0 is not computed.
    """

    name: str = "rkd"
    beta_grid: tuple[Positive, ...] = (0.1, 1, 10, 100)
    distance_weight: NotNegative = 1
    angle_weight: NotNegative = 2

    def faults(self) -> list[Fault]:
        """Every value that is wrong."""
        faults = super().faults()
        if not any(getattr(self, f"{name}_weight") for name in RELATIONS):
            text, also = "one must be above 0", ("angle_weight",)
            faults.append(Fault("distance_weight", text, "together", also))
        return faults


class RKD(Objective):
    """Cross-entropy + beta * (w_d * distance + w_a * angle) between relations of features.

    Relations are those of the rows of one batch. Several teachers are concatenated column-wise.
    The total is a weighted sum: with the default weights, 1 and 2, beta multiplies distance + 2 *
    angle, not a mean of the two. The paper gives the ratio alone, and each term is a mean over all
    pairs or triples of rows, where Park et al. print a sum.
    Source: Park et al., "Relational Knowledge Distillation", as the baseline of Qiu et al.,
    "Transferring Knowledge from Large Foundation Models to Small Downstream Models", which weighs
    distance and angle 1 : 2.
    """

    needs = frozenset({"features"})
    min_batch = MIN_ROWS

    options_type = RKDOptions

    def set_up(self, options: RKDOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        self.beta = options.chosen_beta
        self.distance_weight = float(options.distance_weight)
        self.angle_weight = float(options.angle_weight)

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """Parts: cross_entropy (labelled rows), rkd_distance and rkd_angle (all rows)."""
        task = self._task_loss(student, labels)
        total, parts = task, {"cross_entropy": task.detach()}
        psi = self._teacher_features(teachers)
        weights = {"distance": self.distance_weight, "angle": self.angle_weight}
        for name, weight in weights.items():
            if weight > 0:
                difference = RELATIONS[name](student.features, psi)
                total = total + self.beta * weight * difference
                parts[f"rkd_{name}"] = difference.detach()
        return {"total": total, **parts}
