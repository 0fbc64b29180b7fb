"""KL distillation with data partitioning (``kl_dp``): each row is taught by the most confident
model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from genkt.losses.partition import (
    label_probability,
    largest_probability,
    partitioned_distillation,
    partitioned_top_k_distillation,
    winners,
)
from genkt.methods.base import MethodOptions
from genkt.methods.kd import LogitTransfer
from genkt.methods.shapes import Shapes
from genkt.methods.soft_labels import NumClasses, require_classes
from genkt.settings.bounds import Positive
from genkt.types import UserError


@dataclass(frozen=True)
class KLDPOptions(MethodOptions):
    """Options of ``kl_dp``.

    Args:
        selection: unsupervised: by a row's largest probability; supervised: by that of its label,
            and by the largest where a row has none.
        temperature: T of the divergence; selection is at T = 1.
        top_k: classes of a row that the divergence reads, None for all.
    """

    name: str = "kl_dp"
    selection: Literal["unsupervised", "supervised"] = "unsupervised"
    temperature: Positive = 1.0
    top_k: NumClasses | None = None

    @property
    def needs_labels(self) -> str:
        """Supervised selection reads labels."""
        return "method.selection=supervised" if self.selection == "supervised" else ""


class KLDP(LogitTransfer):
    """KL over all rows, each against the most confident of the teachers and the student before
    training.

    A teacher wins a row only where its score is strictly higher than the frozen student's; of
    several teachers the highest score wins, the first of equal ones. Where the frozen student wins,
    it is the target, so there is no cross-entropy. Rows are chosen at temperature 1, whatever that
    of the divergence is. Source: Roth et al., "Fantastic Gains and Where to Find Them", Eq. 4 and
    5, Section 4.3 (parallel). ``top_k=5`` gives a ``TopKKLDP``.
    """

    options_type = KLDPOptions
    needs_frozen = True

    @classmethod
    def member(cls, options: KLDPOptions) -> type[KLDP]:
        """By ``top_k``."""
        return cls if options.top_k is None else TopKKLDP

    def set_up(self, options: KLDPOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        if shapes.teachers or not shapes.partial:
            self._require_teacher(len(shapes.teachers))
        self.supervised = options.selection == "supervised"

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """``kl``, and ``taught``: the share of rows that a teacher won."""
        self._require_teacher(len(teachers_logits))
        winner = winners([self._score(logits, labels) for logits in teachers_logits])
        divergence = self._divergence(student_logits, teachers_logits, winner)
        return {self.part: divergence, "taught": (winner > 0).to(divergence.dtype).mean()}

    def _require_teacher(self, count: int) -> None:
        if count < 2:
            raise UserError.of(
                "teachers", f"at least one for method {self.name}, beside the student", count - 1
            )

    def _score(self, logits: Tensor, labels: Tensor) -> Tensor:
        return label_probability(logits, labels) if self.supervised else largest_probability(logits)

    def _divergence(
        self, student_logits: Tensor, models_logits: list[Tensor], winner: Tensor
    ) -> Tensor:
        return partitioned_distillation(
            student_logits, models_logits, winner, temperature=self.temperature
        )


class TopKKLDP(KLDP):
    """``KLDP`` with each row's divergence over its winner's most probable classes alone.

    Differs from the authors: they restrict KL-Dist alone (Appendix B.1), so how it meets data
    partitioning is genkt's choice. The winner is found among all classes; then it and the student
    are both renormalised over the winner's ``top_k``, the frozen student's where that won.
    """

    def set_up(self, options: KLDPOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        if options.top_k is None:
            raise UserError.of("top_k", "a number of classes for TopKKLDP", "None")
        self.top_k = require_classes(options.top_k, shapes)

    def _divergence(
        self, student_logits: Tensor, models_logits: list[Tensor], winner: Tensor
    ) -> Tensor:
        return partitioned_top_k_distillation(
            student_logits, models_logits, winner, temperature=self.temperature, top_k=self.top_k
        )
