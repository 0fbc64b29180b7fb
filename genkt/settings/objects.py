"""Objects given in Python, where a file of settings would name a thing by its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from genkt.settings.faults import Fault, joined
from genkt.types import UserError


@dataclass(frozen=True)
class GivenObject:
    """An object in the place of a text. A file of settings says ``{given: TEXT}`` of it.

    Args:
        given: what it is, in a few words; the same for the same object in every start.

    Example:
        >>> home = GivenObject.of([1, 2], "two numbers")
        >>> home.value, dataclasses.asdict(home)
        ([1, 2], {'given': 'two numbers'})
    """

    given: str

    @classmethod
    def of(cls, value: Any, text: str) -> GivenObject:
        """What holds ``value``."""
        found = cls(text)
        object.__setattr__(found, "_value", value)  # no field: it is never copied, nor written
        return found

    @property
    def is_here(self) -> bool:
        """Whether the object is there, and not only what a file says of it."""
        return hasattr(self, "_value")

    @property
    def value(self) -> Any:
        """The object.

        Raises:
            UserError: the settings were read from a file, which only says what it was.
        """
        if not self.is_here:
            raise UserError(f"{self.given} was given in Python; give it again")
        return self._value  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return self.given


def object_in(setting: Any) -> Any:
    """The object that stands in a setting's place, or None."""
    return setting.value if isinstance(setting, GivenObject) else None


def name_in(setting: str | GivenObject) -> str:
    """The name that a setting gives, where an object cannot be used.

    Raises:
        UserError: it holds an object.
    """
    if isinstance(setting, GivenObject):
        raise UserError(f"expected a name or a place here, got {setting}, given in Python")
    return setting


def places_in(setting: str | GivenObject | Sequence[str | GivenObject]) -> list[str]:
    """Every name that a setting gives.

    Raises:
        UserError: an object is among them.
    """
    several = [setting] if isinstance(setting, (str, GivenObject)) else setting
    return [name_in(each) for each in several]


def has_objects(settings: Any) -> bool:
    """Whether an object stands anywhere in the settings, so that no other process can read them."""
    return next(_objects(settings, ""), None) is not None


def missing_objects(settings: Any) -> list[Fault]:
    """One an object that a file of settings speaks of, and that must be given anew."""
    return [
        Fault(key, f"{each} was given in Python; give it there again, or name another", "missing")
        for key, each in _objects(settings, "")
        if not each.is_here
    ]


def _objects(value: Any, path: str) -> Iterator[tuple[str, GivenObject]]:
    if isinstance(value, GivenObject):
        yield path, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _objects(getattr(value, field.name), joined(path, field.name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _objects(item, joined(path, f"[{index}]"))
