"""Faults of settings as values: the key, what is wrong with it, and of what kind that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from genkt.types import UserError

FaultKind = Literal["value", "unknown", "renamed", "missing", "together", "form"]
"""A value of its own; a key that there is not, or not any more; one that must be given; values that
do not go together; a word that is no setting at all."""


@dataclass(frozen=True)
class Fault:
    """One mistake in the settings.

    Args:
        key: of the setting, with dots, as seen from the group that found it; "": the group itself.
        text: what was expected and what was given.
        also: other keys that it is about.
    """

    key: str
    text: str
    kind: FaultKind = "value"
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        keys = ", ".join(key for key in (self.key, *self.also) if key)
        return f"{keys}: {self.text}" if keys else self.text

    def below(self, path: str) -> Fault:
        """The same as seen from further up, where the group stands under ``path``."""
        return replace(
            self, key=joined(path, self.key), also=tuple(joined(path, key) for key in self.also)
        )


class SettingsError(UserError):
    """Every fault of some settings; a line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(self.faults)  # what another process makes the same error of
        self.key = self.faults[0].key if len(self.faults) == 1 else None
        self.key = self.faults[0].key if self.faults else None

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


def joined(path: str, key: str) -> str:
    """The key of a setting of the group ``path``.

    >>> joined("train", "lr"), joined("", "lr"), joined("train", ""), joined("pair", "[1]")
    ('train.lr', 'lr', 'train', 'pair[1]')
    """
    if not path or not key:
        return path or key
    return f"{path}{key}" if key.startswith("[") else f"{path}.{key}"


def renamed(key: str, new: str) -> Fault:
    """The fault of a key that an earlier version had."""
    return Fault(key, f"is now {new}", "renamed")


def refuse(faults: Iterable[Fault]) -> None:
    """Raise what was found, if anything was.

    Raises:
        SettingsError: there is a fault.
    """
    if found := tuple(faults):
        raise SettingsError(found)


def faults_of(error: UserError) -> tuple[Fault, ...]:
    """The faults that an error tells of; of another error, what it says."""
    return error.faults if isinstance(error, SettingsError) else (Fault("", str(error)),)
