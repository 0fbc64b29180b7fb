"""What a call in Python gives: settings, and objects of the user's own in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.models.backbone import Backbone
from genkt.models.foreign import as_backbone
from genkt.settings.assignments import Assignment, assignments
from genkt.settings.faults import Fault, SettingsError
from genkt.settings.objects import GivenObject
from genkt.transfer_set.composition import TransferSet
from genkt.types import counted

Model = Backbone | nn.Module
ModelSetting = Model | str | dict[str, Any]

_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "data": ((Splits, ImageSet), "Splits or an ImageSet"),
    "student": ((nn.Module,), "a module"),
    "teacher": ((nn.Module,), "a module"),
    "encoder": ((nn.Module,), "a module"),
    "transfer_set": ((TransferSet,), "a TransferSet"),
    "gallery": ((ImageSet, TransferSet), "an ImageSet or a TransferSet"),
    "generator": ((object,), "what genkt.load_generator gives"),
}
"""Setting -> the classes of objects that may stand for it, and what a message calls them."""


def given_settings(named: Mapping[str, Any]) -> list[Assignment]:
    """Keyword arguments as settings; objects are let through as they are.

    Raises:
        SettingsError: an object that is none for its setting.
        UserError: a module that declares no input transform.
    """
    return assignments({key: _let_through(key, value) for key, value in named.items()})


def _let_through(key: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, Path, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {name: _let_through(key, item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_let_through(key, item) for item in value]
    classes, expected = _EXPECTED.get(key, ((), "plain values"))
    if not isinstance(value, classes):
        text = f"expected {expected}, got an object of class {type(value).__name__}"
        raise SettingsError([Fault(key, text)])
    if isinstance(value, nn.Module) and key != "generator":
        return GivenObject.of(as_backbone(value), getattr(value, "name", type(value).__name__))
    return GivenObject.of(value, _described(value))


def _described(value: Any) -> str:
    """What a file of settings says of an object."""
    if isinstance(value, Splits):
        parts = [f"{len(part)} {name}" for name, part in value.parts.items()]
        return f"Splits of {', '.join(parts)} images"
    if isinstance(value, ImageSet):
        return f"ImageSet of {counted(len(value), 'image')}"
    if isinstance(value, TransferSet):
        return f"TransferSet of {counted(len(value), 'image')}"
    return type(value).__name__


def named_arguments(settings: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """All keyword arguments of a call; of its own parameters those that were given."""
    return {**{key: value for key, value in own.items() if value is not None}, **settings}


def call_text(function: str, words: Sequence[str], named: Mapping[str, Any]) -> str:
    """The call as reports and cards show it; objects by their class.

    >>> call_text("transfer", ["train.steps=2"], {"seed": 1, "data": object()})
    "genkt.transfer('train.steps=2', seed=1, data=<object>)"
    """
    arguments = [*map(repr, words), *(f"{key}={_shown(value)}" for key, value in named.items())]
    return f"genkt.{function}({', '.join(arguments)})"


def _shown(value: Any) -> str:
    several = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(item, nn.Module) for item in several):
        return f"<{' + '.join(getattr(item, 'name', type(item).__name__) for item in several)}>"
    plain = value is None or isinstance(value, (str, int, float, dict, list, tuple, Path))
    return repr(value) if plain else f"<{type(value).__name__}>"
