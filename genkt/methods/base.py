"""The contract of every batch objective, and what its options share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from genkt.io import did_you_mean
from genkt.losses.logits import MIN_CLASSES, cross_entropy
from genkt.losses.numerics import require_map, require_matrix, widen
from genkt.settings.bounds import NotNegative
from genkt.settings.faults import Fault
from genkt.types import UNLABELLED, ModelOutput, Range, UserError

SEARCH = "search"


@dataclass(frozen=True)
class TeacherShape:
    """What an objective must know of a teacher before it sees its outputs.

    Args:
        name: shown in messages.
        width: D_t of its features.
        num_classes: C of its logits, None where it gives none.
        map_width: D of its feature maps [B, D, H', W'], None where it gives none.
    """

    name: str
    width: int
    num_classes: int | None = None
    map_width: int | None = None


@dataclass(frozen=True)
class Shapes:
    """The sizes an objective is built for.

    Args:
        student_width: D_s.
        num_classes: C of the task.
        teachers: one entry a teacher, in the order of their outputs.
        student_map_width: D of the student's feature maps, None where it gives none.
    """

    student_width: int
    num_classes: int
    teachers: tuple[TeacherShape, ...] = ()
    student_map_width: int | None = None

    @property
    def teacher_width(self) -> int:
        """Width of all teachers' features side by side."""
        return sum(teacher.width for teacher in self.teachers)


@dataclass(frozen=True)
class TrainingRows:
    """What an objective may look at before training: one row an image, under one view.

    Args:
        labels: [N] int64, ``UNLABELLED`` where unknown: the training images of the stage.
        teachers: one entry a teacher, N rows each; empty where ``prepares`` does not ask for them.
        student: N rows of the student as it is before training; None where not asked for.
    """

    labels: Tensor
    teachers: tuple[ModelOutput, ...] = ()
    student: ModelOutput | None = None


@dataclass(frozen=True)
class WeightRule:
    """Which weights a training returns: a slow copy that follows the trained ones.

    Args:
        decay: tau of slow = tau slow + (1 - tau) fast.
        every: optimizer steps from one such update to the next.
    """

    decay: float
    every: int


@dataclass(frozen=True)
class MethodOptions:
    """Options of a method; defaults live in ``configs/method/NAME.yaml`` only.

    Args:
        name: the method's short name.
    """

    name: str

    def faults(self) -> list[Fault]:
        """Every value that is wrong; empty where all are right."""
        return []

    @property
    def needs_labels(self) -> str:
        """The option that asks for labelled rows in every batch; "" where none does."""
        return ""

    @property
    def weight_rule(self) -> WeightRule | None:
        """The weights that a training with this method returns; None: the trained ones."""
        return None


@dataclass(frozen=True)
class BetaOptions(MethodOptions):
    """Options of a method that adds beta times a transfer term to the task loss.

    Args:
        beta: weight of the transfer term, or ``search``.
        beta_grid: what ``search`` chooses from.
    """

    beta: Annotated[float | int | str, Range(0, 10**9)]
    beta_grid: tuple[NotNegative, ...]

    def faults(self) -> list[Fault]:
        """Every value that is wrong."""
        faults = []
        if self.beta != SEARCH and not (is_number(self.beta) and self.beta > 0):  # type: ignore[operator]
            hint = did_you_mean(self.beta, [SEARCH]) if isinstance(self.beta, str) else ""
            text = f'expected a number > 0 or {SEARCH}, got "{self.beta}".{hint}'
            faults.append(Fault("beta", text))
        grid = self.beta_grid
        values = list(grid) if isinstance(grid, Sequence) and not isinstance(grid, str) else []
        if not values or not all(is_number(value) and value > 0 for value in values):
            faults.append(Fault("beta_grid", f'expected a list of numbers > 0, got "{grid}"'))
        return faults

    @property
    def chosen_beta(self) -> float:
        """``beta`` as a number.

        Raises:
            UserError: it is still to be searched.
        """
        if isinstance(self.beta, str):
            raise UserError(
                f'method.beta: expected a number here, got "{self.beta}"; the search replaces it '
                "by each candidate before the objective is built"
            )
        return float(self.beta)


class Objective(nn.Module):
    """A loss on one batch of student and teacher outputs, with its own parameters if any.

    One rule for every method: the task loss (cross-entropy) is the mean over the labelled rows,
    the transfer term is over all rows, labelled and unlabelled. Without a transfer set all rows
    are labelled, which is the papers' setting. (Only AFT offers another choice, ``kernel_rows``.)
    Under several processes each computes its own rows.

    Attributes:
        needs: which outputs of the teachers (and, where it is more than features and logits, of
            the student) it reads: "features", "logits", "feature_map" ([B, D, H', W'] here).
        needs_frozen: the student as it is before training is a teacher more, the first one.
        prepares: what ``prepare`` reads of ``TrainingRows``: "labels", "teachers", "student";
            empty: it is not called.
        min_batch: fewest rows of a batch (on one device).
        num_inner_steps: updates of ``own_optimizer`` on ``inner_loss`` before each update of the
            student; where positive, ``own_optimizer`` is stepped there and nowhere else.
    """

    needs: frozenset[str] = frozenset()
    needs_frozen: bool = False
    prepares: frozenset[str] = frozenset()
    min_batch: int = 1
    num_inner_steps: int = 0

    def __init__(self, options: MethodOptions, shapes: Shapes) -> None:
        super().__init__()
        faults = [str(fault.below("method")) for fault in options.faults()]
        faults += _shape_faults(options.name, self.needs, shapes)
        if faults:
            raise UserError("; ".join(faults))
        self.shapes = shapes

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """The scalar to minimise under "total", and its named parts (detached, unweighted).

        Args:
            student: features [B, D_s] and logits [B, C].
            teachers: one entry a teacher, rows as the student's; constant, whatever their graph.
            labels: [B] int64, ``UNLABELLED`` where unknown; there may be no labelled row.
        """
        raise NotImplementedError

    def forward(
        self,
        student: ModelOutput,
        teachers: Sequence[ModelOutput],
        labels: Tensor,
        samples: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The same as ``loss``.

        An objective that must know which image of the stage each row is overrides it.

        Args:
            samples: [B] int64, 0..N-1.
        """
        return self.loss(student, teachers, labels)

    def prepare(self, rows: TrainingRows) -> None:
        """Look at the training images once, before the first step; the same rows, the same result.

        Whatever it finds out is kept in buffers, so that a continued training has it too.
        """
        raise NotImplementedError

    def inner_loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> Tensor:
        """The scalar of one inner update; the student is taken as constant.

        Only for objectives with ``num_inner_steps`` > 0.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[nn.Parameter]:
        """Parameters trained by the student's optimizer, with its learning rate."""
        return []

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer of the remaining parameters, or None; call it once they are on device."""
        return None

    def artifacts(self) -> dict[str, Tensor]:
        """What was learned beside the student, for saving and plotting."""
        return {}

    def check_teachers(self, teachers: Sequence[ModelOutput]) -> None:
        """Check a first batch of teacher outputs thoroughly, before training starts.

        Raises:
            UserError: outputs are missing, have another shape than declared, or are not finite.
        """
        if not self.needs:
            return
        self._check_count(teachers)
        for shape, output in zip(self.shapes.teachers, teachers, strict=True):
            for what in sorted(self.needs):
                values = getattr(output, what)
                name = f'{what} of teacher "{shape.name}"'
                if values is None:
                    raise UserError(f"{name}: this method needs them, none were computed")
                _check_output(values, what, shape, name)
                if not torch.isfinite(values).all():
                    raise UserError(
                        f"{name}: expected finite numbers, got NaN or infinity; "
                        "cache them in float32 or check the teacher's weights"
                    )

    def check_labels(self, labels: Tensor) -> None:
        """Check all labels of a training set [N] before training starts.

        Raises:
            UserError: a label is neither ``UNLABELLED`` nor one of the classes.
        """
        wrong = labels[
            (labels != UNLABELLED) & ((labels < 0) | (labels >= self.shapes.num_classes))
        ]
        if len(wrong):
            raise UserError(
                f"labels: expected 0..{self.shapes.num_classes - 1}, or {UNLABELLED} where "
                f"unknown, got {sorted(set(wrong.tolist()))[:5]}"
            )

    def _check_count(self, teachers: Sequence[ModelOutput]) -> None:
        if self.needs and len(teachers) != len(self.shapes.teachers):
            raise UserError(
                f"teachers: expected the outputs of {len(self.shapes.teachers)}, "
                f"got {len(teachers)}"
            )

    def _task_loss(self, student: ModelOutput, labels: Tensor) -> Tensor:
        if student.logits is None:
            raise UserError("student: expected logits beside its features, got none")
        return cross_entropy(student.logits, labels)

    def _without_task(self, transfer: Tensor, student: ModelOutput) -> Tensor:
        """The transfer term as the total of a method that trains no classifier.

        Several processes expect a gradient for every weight, the idle classifier's too: it gets 0.
        """
        return transfer if student.logits is None else transfer + 0 * widen(student.logits).mean()

    def _teacher_features(self, teachers: Sequence[ModelOutput]) -> Tensor:
        """All teachers' features [B, sum of D_t], side by side: constants in float32 or wider."""
        self._check_count(teachers)
        features = [widen(teacher.features.detach()) for teacher in teachers]
        return features[0] if len(features) == 1 else torch.cat(features, dim=1)

    def _split_by_teacher(self, name: str, columns: Tensor) -> dict[str, Tensor]:
        """Cut the last dimension into one tensor a teacher: NAME.0, NAME.1, ..."""
        widths = [teacher.width for teacher in self.shapes.teachers]
        parts = torch.split(columns.detach(), widths, dim=-1)
        return {f"{name}.{index}": part.clone() for index, part in enumerate(parts)}


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite int or float (a bool is not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def choice_fault(key: str, value: object, choices: Sequence[str]) -> list[Fault]:
    """One where ``value`` is none of ``choices``."""
    if value in choices:
        return []
    hint = did_you_mean(str(value), choices)
    return [Fault(key, f'expected {" | ".join(choices)}, got "{value}".{hint}')]


def flag_fault(key: str, value: object) -> list[Fault]:
    """One where ``value`` is not true or false."""
    if isinstance(value, bool):
        return []
    return [Fault(key, f'expected true | false, got "{value}"')]


def positive_fault(key: str, value: object) -> list[Fault]:
    """One where ``value`` is not a number above 0."""
    if is_number(value) and value > 0:  # type: ignore[operator]
        return []
    return [Fault(key, f'expected a number > 0, got "{value}"')]


def count_fault(key: str, value: object, *, least: int) -> list[Fault]:
    """One where ``value`` is not a whole number of at least ``least``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return []
    return [Fault(key, f'expected a whole number >= {least}, got "{value}"')]


def _check_output(values: Tensor, what: str, shape: TeacherShape, name: str) -> None:
    if what == "feature_map":
        require_map(values, name)
    else:
        require_matrix(values, name)
    widths = {"features": shape.width, "logits": shape.num_classes, "feature_map": shape.map_width}
    if values.shape[1] != widths[what]:
        columns = "channels" if what == "feature_map" else "columns"
        raise UserError(f"{name}: expected {widths[what]} {columns}, got {values.shape[1]}")


def _shape_faults(name: str, needs: frozenset[str], shapes: Shapes) -> list[str]:
    faults = []
    if shapes.num_classes < MIN_CLASSES:
        faults.append(f"classes: expected at least {MIN_CLASSES}, got {shapes.num_classes}")
    if needs and not shapes.teachers:
        faults.append(f"teacher: method {name} needs at least one teacher, got none")
    if "feature_map" in needs:
        givers = [("student", shapes.student_map_width)]
        givers += [(f'teacher "{each.name}"', each.map_width) for each in shapes.teachers]
        faults += [
            f"{giver}: method {name} needs a feature map [B, D, H, W], it gives none; take a "
            "convolutional network or a vision transformer of timm"
            for giver, width in givers
            if width is None
        ]
    if "logits" not in needs:
        return faults
    advice = "train its head on the task first, or use aft or feature_kd, which need features only"
    for teacher in shapes.teachers:
        if teacher.num_classes is None:
            faults.append(
                f'teacher "{teacher.name}": method {name} needs logits, it has none; {advice}'
            )
        elif teacher.num_classes != shapes.num_classes:
            faults.append(
                f'teacher "{teacher.name}": method {name} needs logits for the '
                f"{shapes.num_classes} classes of the task, it has {teacher.num_classes}; {advice}"
            )
    return faults
