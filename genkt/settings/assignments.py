"""One setting as it was given: a word of a command line, or a keyword argument of Python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from genkt.settings.objects import GivenObject
from genkt.settings.values import as_text, carried, parse_override
from genkt.settings.written import keep_objects

_OVERRIDE = re.compile(r"^([~+]{0,2})([A-Za-z_]\w*(?:[./@]\w+)*)=(.*)$", re.DOTALL | re.ASCII)
_REMOVED = re.compile(r"^~([A-Za-z_]\w*(?:\.\w+)*)$", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

PLACES = {
    "student": ("timm", "model"),
    "teacher": ("timm", "model"),
    "encoder": ("timm", "model"),
    "data": ("folder", "root"),
    "transfer_set": ("saved", "root"),
}
"""Group -> its choice that names one thing of the user's own, and the setting that names it."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """A key and what it is set to.

    Args:
        key: with dots.
        text: the value as typed, or as it would be typed.
        prefix: of the key: "+", "++", or "~", which takes the key away.
        how: ``typed`` by a user, ``carried`` in hydra's grammar, or of ``python``.
        given: the value, of Python's.
    """

    key: str
    text: str
    prefix: str = ""
    how: Literal["typed", "carried", "python"] = "typed"
    given: Any = None

    def __str__(self) -> str:
        return f"{self.prefix}{self.key}" + ("" if self.removes else f"={self.text}")

    @property
    def removes(self) -> bool:
        """Whether the key is taken away."""
        return self.prefix == "~"

    def value(self, kinds: tuple[Any, ...], objects: list[Any]) -> Any:
        """The value as OmegaConf takes it; see ``written.keep`` and ``written.keep_objects``.

        Args:
            kinds: the types that the setting may have; () where they are not known.
            objects: takes the objects.
        """
        if self.how == "python":
            return keep_objects(self.given, objects)
        text = self.text if self.how == "carried" else self.in_hydras_grammar(kinds)
        override = parse_override(f"key={text}")
        assert override is not None, text
        return override.value()

    def in_hydras_grammar(self, kinds: tuple[Any, ...], *, sweep: bool = False) -> str:
        """The value in hydra's grammar, which keeps how it was typed.

        Args:
            sweep: "a,b" are two values; else one text, for example a path with a comma.
        """
        text = os.path.expanduser(self.text) if self.text.startswith("~/") else self.text
        return carried(text, sweep=sweep and self.how == "typed", kinds=kinds)

    def under(self, key: str) -> Assignment:
        """The same value for another key."""
        return replace(self, key=key)


Said = str | Assignment
"""A word as typed, or a setting that was given in Python."""


def read_word(word: Said) -> Assignment | None:
    """What a word sets; None where it is none of ``key=value`` and ``~key``."""
    if isinstance(word, Assignment):
        return word
    if match := _OVERRIDE.match(word):
        return Assignment(match[2], match[3], match[1])
    if match := _REMOVED.match(word):
        return Assignment(match[1], "", "~")
    return None


def key_of(word: Said) -> str | None:
    """The key that a word sets to a value, or None."""
    found = read_word(word)
    return None if found is None or found.removes else found.key


def text_of(word: Said) -> str | None:
    """The value that a word sets its key to, or None."""
    found = read_word(word)
    return None if found is None or found.removes else found.text


def keys_of(words: Sequence[Said]) -> list[str]:
    """The keys that words set."""
    return [key for word in words if (key := key_of(word)) is not None]


def assignments(settings: Mapping[str, Any]) -> list[Assignment]:
    """Keyword arguments as settings; dicts set inner keys, and choose by their ``name``.

    >>> [str(each) for each in assignments({"train": {"steps": 5, "ema": None}})]
    ['train.steps=5', 'train.ema=null']
    >>> [str(each) for each in assignments({"data": {"name": "folder", "root": "my images"}})]
    ['data=folder', 'data.root="my images"']
    >>> [str(each) for each in assignments({"data": GivenObject.of([], "no images")})]
    ['data=folder', 'data.root=<no images>']
    """
    return [each for key, value in settings.items() for each in _assigned(key, value)]


def _assigned(key: str, value: Any) -> list[Assignment]:
    if key in PLACES and _holds_object(value):
        group, setting = PLACES[key]
        return [_python(key, group), _python(f"{key}.{setting}", value)]
    if not _is_group(value):
        return [_python(key, value)]
    rest = dict(value)
    choice = rest.pop("name", None) if "." not in key else None
    if choice is None and key in PLACES and PLACES[key][1] == "model" and "model" in rest:
        choice = PLACES[key][0]
    chosen = [] if choice is None else [_python(key, choice)]
    return chosen + [
        each for name, item in rest.items() for each in _assigned(f"{key}.{name}", item)
    ]


def _is_group(value: Any) -> bool:
    """Whether a value sets the keys of a group one by one."""
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and _NAME.fullmatch(key) for key in value
    )


def _holds_object(value: Any) -> bool:
    items = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, GivenObject) for item in items)


def _python(key: str, value: Any) -> Assignment:
    return Assignment(key, _shown(value), how="python", given=value)


def _shown(value: Any) -> str:
    """A value as it would be typed; an object by what it is."""
    if isinstance(value, GivenObject):
        return f"<{value}>"
    if isinstance(value, (list, tuple)) and _holds_object(value):
        return "[" + ",".join(map(_shown, value)) + "]"
    return as_text(str(value) if isinstance(value, Path) else value)
