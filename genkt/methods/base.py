"""The contract of every batch objective, and what its options share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import Signature
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from genkt.io import did_you_mean
from genkt.losses.logits import cross_entropy
from genkt.losses.numerics import side_by_side, widen
from genkt.methods.keywords import options_of, signature_of
from genkt.methods.shapes import (
    Output,
    Shapes,
    TrainingRows,
    as_output,
    as_outputs,
    check_output,
    check_widths,
    shape_faults,
    shapes_of,
)
from genkt.settings.bounds import Positive
from genkt.settings.faults import Fault
from genkt.settings.schema import field_faults
from genkt.types import UNLABELLED, ModelOutput, Range, UserError

SEARCH = "search"


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
    """Options of a method, with their defaults: ``configs/method/NAME.yaml`` holds the same ones.

    Args:
        name: the method's short name.
    """

    name: str

    def faults(self) -> list[Fault]:
        """Every value that is wrong, by the types of the fields; empty where all are right."""
        return field_faults(self)

    def alone(self) -> Self:
        """The options for a loop of one's own, where nothing searches."""
        return self

    @property
    def needs_labels(self) -> str:
        """The option that needs labelled rows in every batch; "" if none does."""
        return ""

    @property
    def weight_rule(self) -> WeightRule | None:
        """The weights that a training with this method returns; None: the trained ones."""
        return None


Beta = Annotated[float | int | str, Range(0, 10**9, above=True)]


@dataclass(frozen=True)
class BetaOptions(MethodOptions):
    """Options of a method that adds beta times a transfer term to the task loss.

    Args:
        beta: weight of the transfer term, or ``search``.
        beta_grid: what ``search`` chooses from.
    """

    beta: Beta = SEARCH
    beta_grid: tuple[Positive, ...] = ()

    def faults(self) -> list[Fault]:
        """Every value that is wrong."""
        faults = super().faults()
        if isinstance(self.beta, (str, bool)) and self.beta != SEARCH:
            hint = did_you_mean(str(self.beta), [SEARCH])
            text = f'expected a number > 0 or {SEARCH}, got "{self.beta}".{hint}'
            faults.append(Fault("beta", text))
        if not self.beta_grid:
            faults.append(Fault("beta_grid", "expected at least one number, got none"))
        return faults

    @property
    def chosen_beta(self) -> float:
        """``beta`` as a number.

        Raises:
            UserError: it is still to be searched.
        """
        if isinstance(self.beta, str):
            raise UserError.of(
                "method.beta",
                "a number here",
                f'"{self.beta}"',
                "; the search replaces it by each candidate before the objective is built",
            )
        return float(self.beta)

    def alone(self) -> Self:
        """A beta to be searched becomes the (lower) middle of its grid."""
        if self.beta != SEARCH:
            return self
        return replace(self, beta=self.beta_grid[(len(self.beta_grid) - 1) // 2])


class Objective(nn.Module):
    """A loss on one batch of student and teacher outputs, with its own parameters if any.

    One rule for every method: the task loss (cross-entropy) is the mean over the labelled rows,
    the transfer term is over all rows, labelled and unlabelled. Without a transfer set all rows
    are labelled, which is the papers' setting. (Only AFT offers another choice, ``kernel_rows``.)
    Under several processes each computes its own rows.

    In a loop of your own, make an objective by keywords: its options, which have defaults; the
    sizes that it needs (``teacher_width`` is a number, or a list of one per teacher), and more
    sizes if they are to be checked; a seed. A beta that a run would search is the (lower) middle
    of its grid. Call the objective on what the models give (``as_output``), in any float type.
    Train ``parameter_groups()`` with the student, and step ``own_optimizer()`` if it is not None.

    Args:
        options: the method's options; beta is a number.
        shapes: sizes of the student, the task and the teachers.
        seed: of what is drawn at random, such as the objective's own parameters.
        keywords: options and sizes, in place of the first two.

    Raises:
        UserError: an option or a size is wrong, missing or unknown; beta is to be searched.

    Attributes:
        needs: which outputs of the teachers (and, where it is more than features and logits, of
            the student) it reads: "features", "logits", "feature_map" ([B, D, H', W'] here).
        needs_frozen: the student as it is before training is an additional teacher, the first one.
        prepares: what ``prepare`` reads of ``TrainingRows``: "labels", "teachers", "student";
            empty: it is not called.
        min_batch: fewest rows of a batch (on one device).
        num_inner_steps: updates of ``own_optimizer`` on ``inner_loss`` before each update of the
            student; where positive, ``own_optimizer`` is stepped there and nowhere else.
        options_type: the dataclass of its options, where it can be made by keywords.
        sizes: those of ``SIZES`` that it cannot do without.
    """

    needs: frozenset[str] = frozenset()
    needs_frozen: bool = False
    prepares: frozenset[str] = frozenset()
    min_batch: int = 1
    num_inner_steps: int = 0
    options_type: type[MethodOptions] | None = None
    sizes: tuple[str, ...] = ()
    __signature__: ClassVar[Signature]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "options_type" in vars(cls):
            cls.__signature__ = signature_of(cls.options_type, cls.sizes)

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        """A family's main class gives the member that the options name."""
        options = args[0] if args else keywords.get("options")
        if options is None and keywords and cls.options_type is not None:
            options = options_of(cls.__name__, cls.options_type, keywords)
        member = cls.member(options) if isinstance(options, MethodOptions) else cls
        return super().__new__(member if issubclass(member, cls) else cls)

    def __init__(
        self,
        options: MethodOptions | None = None,
        shapes: Shapes | None = None,
        seed: int = 0,
        **keywords: Any,
    ) -> None:
        super().__init__()
        if not (options is None or isinstance(options, MethodOptions)):
            raise UserError.of(type(self).__name__, "keywords alone", options)
        if options is None:
            name = type(self).__name__
            options = options_of(name, self.options_type, keywords)
            shapes = shapes_of(name, keywords, self.sizes)
        assert shapes is not None, "options and shapes are given together"
        faults = [str(fault.below("method")) for fault in options.faults()]
        faults += shape_faults(options.name, self.needs, shapes)
        if faults:
            raise UserError("; ".join(faults))
        self.shapes = shapes
        self.set_up(options, shapes, seed)

    @classmethod
    def member(cls, options: Any) -> type[Objective]:
        """The class of the family that the options name; the class itself where there is one."""
        return cls

    def set_up(self, options: Any, shapes: Shapes, seed: int) -> None:
        """Take over the options and draw the parameters; options and shapes are checked."""

    def loss(
        self, student: ModelOutput, teachers: Sequence[ModelOutput], labels: Tensor
    ) -> dict[str, Tensor]:
        """The scalar to minimise under "total", and its named parts (detached, unweighted).

        Args:
            student: features [B, D_s] and logits [B, C].
            teachers: one entry per teacher, rows as the student's; constant, whatever their graph.
            labels: [B] int64, ``UNLABELLED`` where unknown; there may be no labelled row.
        """
        raise NotImplementedError

    def forward(
        self,
        student: Output,
        teachers: Output | Sequence[Output] = (),
        labels: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The same as ``loss``, on any outputs of models.

        Args:
            student: see ``as_output``.
            teachers: one such, or a list of one per teacher.
            labels: None: no row has one.
            samples: [B] int64, 0..N-1, which image of the training set each row is.
        """
        output = as_output(student, self.needs, "student")
        if labels is None:
            rows = len(output.features)
            labels = torch.full((rows,), UNLABELLED, device=output.features.device)
        outputs = as_outputs(teachers, self.needs)
        check_widths(self.shapes, self.needs, output, outputs)
        return self.row_loss(output, outputs, torch.as_tensor(labels), samples)

    def row_loss(
        self,
        student: ModelOutput,
        teachers: Sequence[ModelOutput],
        labels: Tensor,
        samples: Tensor | None,
    ) -> dict[str, Tensor]:
        """``loss``; an objective that must know which image each row is overrides it."""
        return self.loss(student, teachers, labels)

    def prepare(self, rows: TrainingRows) -> None:
        """Look at the training images once, before the first step; equal rows give equal results.

        The results are kept in buffers, so that a continued training has them too.
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
                check_output(values, what, shape, name)
                if not torch.isfinite(values).all():
                    raise UserError.of(
                        name,
                        "finite numbers",
                        "NaN or infinity",
                        "; cache them in float32 or check the teacher's weights",
                    )

    def check_labels(self, labels: Tensor) -> None:
        """Check all labels of a training set [N] before training starts.

        Raises:
            UserError: a label is neither ``UNLABELLED`` nor one of the classes.
        """
        if self.shapes.partial and not self.shapes.num_classes:
            return
        wrong = labels[
            (labels != UNLABELLED) & ((labels < 0) | (labels >= self.shapes.num_classes))
        ]
        if len(wrong):
            raise UserError.of(
                "labels",
                f"0..{self.shapes.num_classes - 1}, or {UNLABELLED} where unknown",
                sorted(set(wrong.tolist()))[:5],
            )

    def _check_count(self, teachers: Sequence[ModelOutput]) -> None:
        known = len(self.shapes.teachers)
        unknown = self.shapes.partial and not known
        if self.needs and (not teachers if unknown else len(teachers) != known):
            expected = "at least one" if unknown else str(known)
            raise UserError.of("teachers", f"the outputs of {expected}", len(teachers))

    def _task_loss(self, student: ModelOutput, labels: Tensor) -> Tensor:
        if student.logits is None:
            raise UserError.of(
                "student", "logits beside its features", "none", "; give (features, logits)"
            )
        return cross_entropy(student.logits, labels)

    def _without_task(self, transfer: Tensor, student: ModelOutput) -> Tensor:
        """The transfer term as the total of a method that trains no classifier.

        Several processes expect a gradient for every weight, the idle classifier's too: it gets 0.
        """
        return transfer if student.logits is None else transfer + 0 * widen(student.logits).mean()

    def _teacher_features(self, teachers: Sequence[ModelOutput]) -> Tensor:
        """All teachers' features [B, sum of D_t], side by side: constants in float32 or wider."""
        self._check_count(teachers)
        return side_by_side([widen(teacher.features.detach()) for teacher in teachers])

    def _split_by_teacher(self, name: str, columns: Tensor) -> dict[str, Tensor]:
        """Cut the last dimension into one tensor per teacher: NAME.0, NAME.1, ..."""
        widths = [teacher.width for teacher in self.shapes.teachers]
        parts = torch.split(columns.detach(), widths, dim=-1)
        return {f"{name}.{index}": part.clone() for index, part in enumerate(parts)}
