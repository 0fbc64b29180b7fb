"""Typed settings of the models of a run: ``student`` and ``teacher``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from genkt.config.stage_settings import Adaptation
from genkt.data.transform import whole_overlay
from genkt.settings.bounds import InputSize
from genkt.settings.faults import Fault, SettingsError
from genkt.settings.objects import GivenObject, places_in


class SizedInput:
    """What settings of a model have that say how it sees a picture.

    Attributes:
        transform: replaces parts of the transform that the model declares.
        size: short for ``transform.input_size``, where it is kept.
    """

    transform: dict[str, Any]
    size: InputSize | None

    def _keep_size(self) -> None:
        """Put the size into the transform.

        Raises:
            SettingsError: a transform that no picture can go through, or two sizes.
        """
        object.__setattr__(self, "transform", whole_overlay(self.transform, self.size))
        object.__setattr__(self, "size", None)


@dataclass(frozen=True)
class StudentSettings(SizedInput):
    """``student``: what to train.

    Args:
        model: a name, or a module.
    """

    model: str | GivenObject
    pretrained: bool
    weights: str | None
    args: dict[str, Any]
    transform: dict[str, Any]
    channels_last: bool
    size: InputSize | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._keep_size()


@dataclass(frozen=True)
class TeacherSettings(SizedInput):
    """``teacher``: one model or several, and what is done with them.

    Args:
        model: a name or a module, or a list of names, or of modules.
    """

    model: str | GivenObject | list[str | GivenObject]
    pretrained: bool
    weights: str | list[str | None] | None
    args: dict[str, Any] | list[dict[str, Any]]
    transform: dict[str, Any]
    channels_last: bool
    adapt: Adaptation
    outputs: Literal["cached", "online"]
    size: InputSize | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse names beside modules. Raises: UserError."""
        self._keep_size()
        given = [isinstance(each, GivenObject) for each in self.models]
        if any(given) and not all(given):
            text = "expected a list of names or a list of modules, got both"
            raise SettingsError([Fault("model", text)])

    @property
    def models(self) -> list[str | GivenObject]:
        """Every teacher's name, or the module."""
        return list(self.model) if isinstance(self.model, list) else [self.model]

    @property
    def names(self) -> list[str]:
        """The names of the models, one or several.

        Raises:
            UserError: modules were given.
        """
        return places_in(self.models)

    @property
    def weights_files(self) -> list[str | None]:
        """The files of their weights: one for all, or one per model."""
        return self.weights if isinstance(self.weights, list) else [self.weights]

    def args_of(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The arguments of each of the named models.

        Raises:
            UserError: another number of them.
        """
        given = self.args if isinstance(self.args, list) else [self.args] * len(names)
        if len(given) != len(names):
            text = f"expected {len(names)} mappings, one per model, got {len(given)}"
            raise SettingsError([Fault("teacher.args", text)])
        return given
