"""``method=auto``: looks at the data and the models, and says what it chose and why."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.data.splits import Splits, draw_labels
from genkt.io import derive_seed
from genkt.models.load import load_model
from genkt.recipes.config import TransferConfig
from genkt.recipes.data_config import EmbeddedData
from genkt.recipes.session import student_spec, teacher_specs

MANY_LABELS = 20
"""Labels a class from which on the evidence is the papers', not this repository's."""


@dataclass(frozen=True)
class Facts:
    """What a choice depends on.

    Args:
        labels_per_class: labelled images of a draw over the number of classes.
        num_unlabelled: other training images of a draw, and unlabelled ones.
        student_pretrained: its weights are loaded.
        student_knows, teachers_know: their heads have the classes of the data.
        built_in: the data are those that the shipped generator knows.
    """

    labels_per_class: float
    num_unlabelled: int
    student_pretrained: bool
    student_knows: bool
    teachers_know: bool
    built_in: bool


@dataclass(frozen=True)
class Choice:
    """Settings of ``genkt transfer``, and two lines that tell them to the user."""

    words: tuple[str, ...]
    what: str
    why: str


def facts_of(config: TransferConfig, splits: Splits) -> Facts:
    """The facts of a run; models are built to look at their heads."""
    data = config.data
    labelled, others = draw_labels(
        splits.train,
        per_class=data.labels_per_class,
        fraction=data.label_fraction,
        list_file=data.label_list,
        seed=derive_seed(config.seed, "draw", 0),
    )
    unlabelled = 0 if splits.unlabelled is None else len(splits.unlabelled)
    student = config.student
    loaded = student.pretrained or student.weights is not None
    return Facts(
        labels_per_class=len(labelled) / len(splits.classes),
        num_unlabelled=len(others) + unlabelled,
        student_pretrained=loaded,
        student_knows=loaded and _knows(student_spec(student), splits.classes),
        teachers_know=all(_knows(spec, splits.classes) for spec in teacher_specs(config.teacher)),
        built_in=isinstance(data, EmbeddedData),
    )


def _knows(spec: object, classes: tuple[str, ...]) -> bool:
    """Whether a model's own head has the names of these classes, in this order."""
    model = load_model(spec)  # type: ignore[arg-type]
    names = getattr(model.model, "pretrained_cfg", {}).get("label_names") or ()
    return tuple(names) == classes
