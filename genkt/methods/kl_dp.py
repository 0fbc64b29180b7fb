"""KL distillation with data partitioning (``kl_dp``): teachers teach what they are surer of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genkt.losses.partition import (
    label_probability,
    largest_probability,
    partitioned_distillation,
    partitioned_top_k_distillation,
    winners,
)
from genkt.methods.base import MethodOptions, Objective, Shapes, choice_fault, positive_fault
from genkt.methods.kd import LogitTransfer
from genkt.methods.soft_labels import require_classes, top_k_fault
from genkt.settings.bounds import Count, NotNegative
from genkt.settings.faults import Fault
from genkt.types import UserError

SELECTIONS = ("unsupervised", "supervised")


@dataclass(frozen=True)
class KLDPOptions(MethodOptions):
    """Options of ``kl_dp``.

    Args:
        selection: unsupervised: by a row's largest probability; supervised: by that of its label,
            and by the largest where a row has none.
        temperature: T of the divergence; selection is at T = 1.
        top_k: classes of a row that the divergence reads, None for all.
    """

    selection: str
    temperature: NotNegative
    top_k: Count | None

    def faults(self) -> list[Fault]:
        """Every value that is wrong."""
        faults = choice_fault("selection", self.selection, SELECTIONS)
        faults += positive_fault("temperature", self.temperature)
        return faults if self.top_k is None else faults + top_k_fault(self.top_k, "null")

    @property
    def needs_labels(self) -> str:
        """Supervised selection reads labels."""
        return "method.selection=supervised" if self.selection == "supervised" else ""


class KLDP(LogitTransfer):
    """KL over all rows, each against the surest of the student before training and the teachers.

    A teacher wins a row only where its score is strictly higher than the frozen student's; of
    several teachers the highest score wins, the first of equal ones. What the student knows better
    it is reminded of, so there is no cross-entropy. Source: Roth et al., "Fantastic Gains and Where
    to Find Them", Eq. 4 and 5, Section 4.3 (parallel).

    Args:
        options: the method's options.
        shapes: sizes; the first teacher is the frozen student.
        seed: unused, as nothing is drawn.

    Raises:
        UserError: an option is wrong, there is no teacher beside the frozen student, or a teacher's
            classes are not the task's.
    """

    needs_frozen = True

    def __init__(self, options: KLDPOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes, temperature=options.temperature)
        if len(shapes.teachers) < 2:
            raise UserError(
                f"teacher: method {options.name} needs at least one teacher beside the student as "
                "it was before, got none"
            )
        self.supervised = options.selection == "supervised"

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """``kl``, and ``taught``: the share of rows that a teacher won."""
        winner = winners([self._score(logits, labels) for logits in teachers_logits])
        divergence = self._divergence(student_logits, teachers_logits, winner)
        return {self.part: divergence, "taught": (winner > 0).to(divergence.dtype).mean()}

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

    Args:
        options: the method's options; ``top_k`` is a number.
        shapes: sizes; the first teacher is the frozen student.
        seed: unused, as nothing is drawn.

    Raises:
        UserError: as in ``KLDP``, or the task has fewer than ``top_k`` classes.
    """

    def __init__(self, options: KLDPOptions, shapes: Shapes, seed: int = 0) -> None:
        super().__init__(options, shapes, seed)
        assert options.top_k is not None
        self.top_k = require_classes(options.top_k, shapes)

    def _divergence(
        self, student_logits: Tensor, models_logits: list[Tensor], winner: Tensor
    ) -> Tensor:
        return partitioned_top_k_distillation(
            student_logits, models_logits, winner, temperature=self.temperature, top_k=self.top_k
        )


def build_kl_dp(options: KLDPOptions, shapes: Shapes, seed: int = 0) -> Objective:
    """The member of the family that the options name.

    Raises:
        UserError: an option or a shape is wrong.
    """
    return (KLDP if options.top_k is None else TopKKLDP)(options, shapes, seed)
