"""Fresh students and teachers, named by the settings or given in Python."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from genkt.config.model_settings import StudentSettings, TeacherSettings
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.settings.objects import name_in, object_in
from genkt.types import UserError

ModelFactory = Callable[[int | None, int], Backbone]
"""(number of classes or None for the model's own, seed of new weights) -> a fresh model."""


def student_factory(settings: StudentSettings) -> ModelFactory:
    """Fresh students as the settings describe, or copies of a module that stands in them."""
    given = object_in(settings.model)
    return _loader(student_spec(settings)) if given is None else module_factory(given)


def student_spec(settings: StudentSettings) -> ModelSpec:
    """The student that the settings name."""
    return _spec(settings, name_in(settings.model), settings.weights, settings.args)


def teacher_factories(settings: TeacherSettings) -> list[ModelFactory]:
    """Fresh teachers as the settings describe, one entry per name or module."""
    given = [object_in(model) for model in settings.models]
    if None in given or not given:
        return [_loader(spec) for spec in teacher_specs(settings)]
    return [module_factory(model) for model in given]


def teacher_specs(settings: TeacherSettings) -> list[ModelSpec]:
    """The teachers that the settings name, for any process to load."""
    names = settings.names
    weights = settings.weights
    files = weights if isinstance(weights, list) else [weights] * len(names)
    if len(files) != len(names):
        raise UserError(
            f"teacher.weights: expected {len(names)} files, one per model, got {len(files)}"
        )
    every = zip(names, files, settings.args_of(names), strict=True)
    return [_spec(settings, name, file, args) for name, file, args in every]


def module_factory(model: Backbone) -> ModelFactory:
    """Fresh copies of a model given in Python, whose head must already fit the task."""

    def make(num_classes: int | None, seed: int) -> Backbone:
        if num_classes is not None and model.num_classes != num_classes:
            raise UserError(
                f"model {model.name!r}: expected {num_classes} classes, its head has "
                f"{model.num_classes}; give it a head for the task"
            )
        return copy.deepcopy(model)

    return make


def _spec(
    settings: StudentSettings | TeacherSettings,
    name: str,
    weights: str | None,
    args: dict[str, Any],
) -> ModelSpec:
    return ModelSpec(
        name,
        settings.pretrained,
        weights,
        args,
        settings.transform,
        settings.channels_last,
    )


def _loader(spec: ModelSpec) -> ModelFactory:
    return lambda num_classes, seed: load_model(spec, num_classes=num_classes, seed=seed)
