"""The teachers of one draw, as stages and objectives see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from genkt.methods.shapes import TeacherShape
from genkt.models.backbone import Backbone
from genkt.training.probe import OutputRows
from genkt.types import TeacherScores

_T = TypeVar("_T")


@dataclass(frozen=True)
class TeacherSet:
    """The teachers of one draw.

    Args:
        models: for online use and for messages.
        stores: their cached outputs; empty when online.
        online: run the models on every batch instead.
        shapes: the sizes that an objective needs.
        scores: of each on the test images.
        adapted: how each was adapted to the labels.
    """

    models: tuple[Backbone, ...]
    stores: tuple[OutputRows, ...]
    online: bool
    shapes: tuple[TeacherShape, ...]
    scores: tuple[TeacherScores, ...]
    adapted: tuple[str, ...]

    def select(self, indices: Sequence[int]) -> TeacherSet:
        """Some of them."""

        def some(values: tuple[_T, ...]) -> tuple[_T, ...]:
            return tuple(values[index] for index in indices) if values else ()

        return TeacherSet(
            some(self.models), some(self.stores), self.online, some(self.shapes),
            some(self.scores), some(self.adapted),
        )  # fmt: skip

    def each(self) -> Iterator[TeacherSet]:
        """Every teacher alone."""
        return (self.select([index]) for index in range(len(self.models)))

    @classmethod
    def none(cls) -> TeacherSet:
        """For methods that read none."""
        return cls((), (), False, (), (), ())

    def behind(self, model: Backbone, store: OutputRows | None, shape: TeacherShape) -> TeacherSet:
        """The same with one more in front."""
        return TeacherSet(
            (model, *self.models), self.stores if store is None else (store, *self.stores),
            self.online, (shape, *self.shapes), (TeacherScores(), *self.scores),
            ("", *self.adapted),
        )  # fmt: skip

    def facts(self) -> dict[str, float | int | str]:
        """For the report: test accuracy of every teacher that has a head for the task."""
        facts: dict[str, float | int | str] = {
            f"teacher_accuracy.{index}": float(scores.taught.mean(dtype="float64"))
            for index, scores in enumerate(self.scores)
            if scores.taught is not None
        }
        return facts | {f"teacher_adapted.{index}": how for index, how in enumerate(self.adapted)}


def shape_of(model: Backbone, num_classes: int | None = None) -> TeacherShape:
    """The sizes of a model that an objective needs.

    Args:
        num_classes: of a head that replaces the model's own; None: its own.
    """
    return TeacherShape(model.name, model.width, num_classes or model.num_classes, model.map_width)
