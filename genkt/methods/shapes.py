"""The sizes an objective is built for, and the outputs it is called with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genkt.losses.logits import MIN_CLASSES
from genkt.losses.numerics import require_map, require_matrix
from genkt.types import ModelOutput, UserError

SIZES = ("student_width", "teacher_width", "num_classes", "student_map_width", "teacher_map_width")
"""Keywords of an objective that are sizes; those of teachers take a number or one per teacher."""

Output = ModelOutput | Tensor | tuple[Tensor, Tensor]
"""A model's answer: all of it, the one tensor that an objective reads, or (features, logits)."""


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
        teachers: one entry per teacher, in the order of their outputs.
        student_map_width: D of the student's feature maps, None where it gives none.
        partial: a size that is 0 or None is not known, nor are teachers where there are none:
            nothing is checked against them.
    """

    student_width: int
    num_classes: int
    teachers: tuple[TeacherShape, ...] = ()
    student_map_width: int | None = None
    partial: bool = False

    @property
    def teacher_width(self) -> int:
        """Width of all teachers' features side by side."""
        return sum(teacher.width for teacher in self.teachers)


def shapes_of(name: str, sizes: Mapping[str, Any], required: Collection[str]) -> Shapes:
    """The shapes that keywords give; what they leave out is not known.

    Args:
        name: of the objective, for messages.
        sizes: by ``SIZES``; a teacher's is a number, or a list of one number per teacher.
        required: the sizes that must be among them.

    Raises:
        UserError: a size is missing, no whole number above 0, or there for some teachers only.
    """
    if missing := [size for size in required if sizes.get(size) is None]:
        raise UserError(f"{name}: needs {', '.join(missing)}")
    listed = {size: _numbers(name, size, sizes.get(size)) for size in SIZES}
    classes = (listed["num_classes"] or (0,))[0]
    count = max(len(listed["teacher_width"]), len(listed["teacher_map_width"]))
    widths = listed["teacher_width"] or (0,) * count
    maps: tuple[int | None, ...] = listed["teacher_map_width"] or (None,) * count
    if len(widths) != len(maps):
        raise UserError.of(
            name,
            f"as many numbers in teacher_map_width as in teacher_width, {len(widths)}",
            len(maps),
        )
    return Shapes(
        (listed["student_width"] or (0,))[0],
        classes,
        tuple(
            TeacherShape(f"teacher {index}", width, classes or None, map_width)
            for index, (width, map_width) in enumerate(zip(widths, maps, strict=True))
        ),
        next(iter(listed["student_map_width"]), None),
        partial=True,
    )


def _numbers(name: str, size: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    several = size.startswith("teacher") and isinstance(value, (list, tuple))
    numbers: tuple[Any, ...] = tuple(value) if several else (value,)  # type: ignore[arg-type]
    if not numbers or not all(type(number) is int and number > 0 for number in numbers):
        kind = "a whole number > 0" + (" or a list of them" * size.startswith("teacher"))
        raise UserError.of(f"{name}: {size}", kind, value)
    return numbers


def as_output(value: Output, needs: Collection[str], whose: str) -> ModelOutput:
    """What a model gave, as an objective reads it.

    Args:
        value: a ``ModelOutput``; (features, logits); or one tensor, which is what ``needs`` names:
            features, a feature map, else logits.
        whose: shown in messages.

    Raises:
        UserError: something else.
    """
    if isinstance(value, ModelOutput):
        return value
    if isinstance(value, Tensor):
        if "feature_map" in needs:
            return ModelOutput(value.flatten(2).mean(dim=2) if value.ndim == 4 else value,
                               feature_map=value)  # fmt: skip
        return ModelOutput(value) if "features" in needs else ModelOutput(value, value)
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, Tensor) for v in value):
        return ModelOutput(*value)
    raise UserError.of(
        whose, "a ModelOutput, a tensor or (features, logits)", f"a {type(value).__name__}"
    )


def as_outputs(value: Output | Sequence[Output], needs: Collection[str]) -> list[ModelOutput]:
    """The outputs of one teacher or of several: a list, or a tuple of ``ModelOutput``."""
    several: Any = value
    is_several = isinstance(value, list) or (
        isinstance(value, tuple) and all(isinstance(each, ModelOutput) for each in value)
    )
    if not is_several:
        return [as_output(several, needs, "teacher")]
    return [as_output(each, needs, f"teacher {index}") for index, each in enumerate(several)]


@dataclass(frozen=True)
class TrainingRows:
    """What an objective may look at before training: one row per image, under one view.

    Args:
        labels: [N] int64, ``UNLABELLED`` where unknown: the training images of the stage.
        teachers: an entry per teacher, N rows each; empty where ``prepares`` does not ask for them.
        student: N rows of the student as it is before training; None where not asked for.
    """

    labels: Tensor
    teachers: tuple[ModelOutput, ...] = ()
    student: ModelOutput | None = None

    @classmethod
    def of(
        cls, labels: Tensor, teachers: Output | Sequence[Output] = (), student: Output | None = None
    ) -> TrainingRows:
        """From whatever models gave (``as_output``); tensors are features."""
        features = {"features"}
        own = None if student is None else as_output(student, features, "student")
        return cls(labels, tuple(as_outputs(teachers, features)), own)


def check_output(values: Tensor, what: str, shape: TeacherShape, name: str) -> None:
    """Raise unless an output is of the declared shape.

    Raises:
        UserError: other dimensions or columns.
    """
    if what == "feature_map":
        require_map(values, name)
    else:
        require_matrix(values, name)
    widths = {"features": shape.width, "logits": shape.num_classes, "feature_map": shape.map_width}
    if values.shape[1] != widths[what]:
        columns = "channels" if what == "feature_map" else "columns"
        raise UserError.of(name, f"{widths[what]} {columns}", values.shape[1])


def check_widths(
    shapes: Shapes, needs: Collection[str], student: ModelOutput, teachers: Sequence[ModelOutput]
) -> None:
    """Raise unless the compared outputs of a batch have the known widths.

    Raises:
        UserError: another number of columns or channels.
    """
    known = {"features": shapes.student_width, "feature_map": shapes.student_map_width}
    pairs = [("student", student, known)]
    for shape, output in zip(shapes.teachers, teachers, strict=False):
        widths = {"features": shape.width, "logits": shape.num_classes}
        pairs.append((shape.name, output, widths | {"feature_map": shape.map_width}))
    for name, output, widths in pairs:
        for what in needs:
            values, width = getattr(output, what), widths.get(what)
            if width and values is not None and values.ndim > 1 and values.shape[1] != width:
                raise UserError.of(f"{what} of {name}", str(width), values.shape[1])


def shape_faults(name: str, needs: Collection[str], shapes: Shapes) -> list[str]:
    """Every size that does not fit a method, one line each.

    Args:
        name: of the method.  needs: see ``Objective``.
    """
    faults = []
    if shapes.num_classes < MIN_CLASSES and not (shapes.partial and not shapes.num_classes):
        faults.append(f"classes: expected at least {MIN_CLASSES}, got {shapes.num_classes}")
    if shapes.partial:
        return faults
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
