"""Relatives of KL distillation: soft targets, and the divergence over the best classes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from genkt.losses.logits import MIN_CLASSES, soft_target_cross_entropy, top_k_distillation
from genkt.methods.base import MethodOptions
from genkt.methods.kd import LogitTransfer
from genkt.methods.shapes import Shapes
from genkt.settings.bounds import Positive
from genkt.types import Range, UserError

NumClasses = Annotated[int, Range(MIN_CLASSES, 10**9)]
"""Of a row, that a divergence reads."""
PAPERS_TOP_K = 10


@dataclass(frozen=True)
class SoftTargetOptions(MethodOptions):
    """Options of ``soft_target``.

    Args:
        temperature: T of both predictions.
    """

    name: str = "soft_target"
    temperature: Positive = 1.0


@dataclass(frozen=True)
class TopKOptions(MethodOptions):
    """Options of ``top_k_kd``.

    Args:
        temperature: T of both predictions.
        top_k: how many classes of a row; ``auto``: the paper's 10, or all where there are fewer.
    """

    name: str = "top_k_kd"
    temperature: Positive = 1.0
    top_k: NumClasses | Literal["auto"] = "auto"


def require_classes(top_k: int, shapes: Shapes) -> int:
    """``top_k`` itself.

    Raises:
        UserError: the task has fewer classes.
    """
    known = shapes.num_classes or not shapes.partial
    if known and top_k > shapes.num_classes:
        raise UserError.of(
            "method.top_k", f"at most {shapes.num_classes}, the classes of the task", top_k
        )
    return top_k


class SoftTarget(LogitTransfer):
    """Cross-entropy against the mean of the teachers' tempered probabilities (``soft_target``).

    Its gradient is that of ``logit_kd`` with ``kl_weight=1``: the two losses differ by the
    teachers' entropy. Source: Hinton et al., "Distilling the Knowledge in a Neural Network".
    """

    options_type = SoftTargetOptions
    part = "soft_target"

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        return {
            self.part: soft_target_cross_entropy(
                student_logits, teachers_logits, temperature=self.temperature
            )
        }


class TopKKD(LogitTransfer):
    """KL over the classes that the teachers find most probable, and no others (``top_k_kd``).

    Source: Roth et al., "Fantastic Gains and Where to Find Them", Appendix B.1.
    """

    options_type = TopKOptions
    sizes = ("num_classes",)

    def set_up(self, options: TopKOptions, shapes: Shapes, seed: int) -> None:
        """See ``Objective``."""
        super().set_up(options, shapes, seed)
        if isinstance(options.top_k, str):
            self.top_k = min(PAPERS_TOP_K, shapes.num_classes)
        else:
            self.top_k = require_classes(options.top_k, shapes)

    def _transfer(
        self, student_logits: Tensor, teachers_logits: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        return {
            self.part: top_k_distillation(
                student_logits, teachers_logits, temperature=self.temperature, top_k=self.top_k
            )
        }
