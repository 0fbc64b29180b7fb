"""From plain YAML values to typed settings, collecting every fault instead of stopping at one."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, runtime_checkable

from genkt.earlier import new_key
from genkt.io import did_you_mean, shown
from genkt.settings.faults import Fault, SettingsError, joined, renamed
from genkt.settings.objects import GivenObject
from genkt.settings.written import Written, as_texts, as_values
from genkt.types import Range

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_NULLS = ("null", "~", "")
"""How YAML writes nothing."""
_LARGEST = 1e300
"""Whole numbers above have no float of their own; no range reaches them."""


class _Mismatch(Exception):
    """A value that does not fit its type.

    Args:
        expected: what would fit.  got: what is shown of the value; None: all of it.
    """

    def __init__(self, expected: str, got: str | None = None) -> None:
        super().__init__(expected)
        self.expected, self.got = expected, got


@dataclasses.dataclass(frozen=True, eq=False)  # a part of types, which are hashed
class OneOf:
    """In ``Annotated``: the value's ``name`` says which of several dataclasses it is.

    Args:
        find: gives name -> dataclass, each time anew: more may be added.
    """

    find: Callable[[], Mapping[str, type]]

    @property
    def by_name(self) -> Mapping[str, type]:
        """Name -> dataclass."""
        return self.find()


@runtime_checkable
class Checked(Protocol):
    """Settings that say themselves what is wrong with them."""

    def faults(self) -> list[Fault]:
        """Every value that is wrong, its key as seen from these settings."""


@functools.cache  # reading them again was a sixth of the time that settings took
def hints_of(kind: type) -> Mapping[str, Any]:
    """The type of each field of a dataclass, with its ``Annotated``; only to be read."""
    return typing.get_type_hints(kind, include_extras=True)


def parse(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    """``value`` as ``kind`` (a dataclass, scalar, Literal, union, list, tuple or dict).

    Every fault is appended to ``faults``; the result is only meaningful when none was.

    Args:
        path: the key of ``value``, with dots; "" of the whole.
    """
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, path, faults)
    try:
        return _convert(kind, value, path, faults)
    except _Mismatch as mismatch:
        got = _shown(value) if mismatch.got is None else mismatch.got
        faults.append(Fault(path, f"expected {mismatch.expected}, got {got}"))
        return None


def field_faults(settings: Any) -> list[Fault]:
    """What is wrong with the values of a dataclass that Python code has made, field by field."""
    hints = hints_of(type(settings))  # type: ignore[arg-type]  # a class is hashable
    faults: list[Fault] = []
    for field in dataclasses.fields(settings):
        parse(hints[field.name], getattr(settings, field.name), field.name, faults)
    return faults


def _parse_dataclass(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    if not isinstance(value, dict):
        faults.append(Fault(path, f"expected a group of settings, got {_shown(value)}"))
        return None
    hints = hints_of(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    optional = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    old = {key: new for key in value if key not in known and (new := new_key(joined(path, key)))}
    for key in value:
        if key in old:
            faults.append(renamed(joined(path, key), old[key]))
        elif key not in known:
            hint = did_you_mean(str(key), known) or f" Known here: {', '.join(known)}."
            faults.append(Fault(joined(path, shown(key)), f"unknown setting.{hint}", "unknown"))
    before, gone = len(faults), set(old.values())
    values = {}
    for name in known:
        if name in value:
            values[name] = parse(hints[name], value[name], joined(path, name), faults)
        elif name not in optional and joined(path, name) not in gone:
            faults.append(Fault(joined(path, name), "missing", "missing"))
    if len(faults) > before or gone:
        return None
    try:
        made = kind(**values)
        found = made.faults() if isinstance(made, Checked) else []
        faults += [fault.below(path) for fault in found]
        return None if found else made
    except SettingsError as error:
        faults += [fault.below(path) for fault in error.faults]
    except ValueError as error:
        faults.append(Fault(path, " ".join(str(error).split())))
    return None


def _convert(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return as_values(value)
    if origin is Annotated:
        return _convert_annotated(kind, value, path, faults)
    if origin is Literal:
        for read in (as_texts(value), as_values(value)):
            if read in get_args(kind) and not isinstance(read, bool):
                return read
        choices = [str(choice) for choice in get_args(kind)]
        raise _Mismatch(f"{_one_of(choices, str(as_texts(value)))}")
    if origin in (Union, types.UnionType):
        return _convert_union(kind, value, path, faults)
    if origin in (list, tuple):
        return _convert_sequence(kind, value, path, faults)
    if origin is dict:
        if not isinstance(value, dict):
            raise _Mismatch("a mapping {key: value}")
        inner = get_args(kind)[1]
        text = {str(key): item for key, item in value.items()}  # a stage may be called 1
        return {key: parse(inner, item, joined(path, key), faults) for key, item in text.items()}
    return _convert_scalar(kind, value)


def _convert_annotated(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    for mark in kind.__metadata__:
        if isinstance(mark, OneOf):
            return parse(_named(mark.by_name, None, value, "name"), value, path, faults)
    return _within(_convert(get_args(kind)[0], value, path, faults), kind.__metadata__)


def _convert_scalar(kind: type, value: Any) -> Any:
    if kind is str:
        return _convert_text(value)
    value = as_values(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _LARGEST else math.inf
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _Mismatch(_SCALARS.get(kind, kind.__name__))


def _convert_text(value: Any) -> str:
    """A text as it was typed, be it 2024, 1e3 or yes."""
    if isinstance(value, Written) and value.text not in _NULLS:
        value = value.text
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str):
        raise _Mismatch(_SCALARS[str])
    if not value.strip():
        raise _Mismatch("a text that is not empty")
    return value


def _convert_sequence(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    value = value.value if isinstance(value, Written) else value
    parts = get_args(kind)
    fixed = get_origin(kind) is tuple and parts[-1] is not Ellipsis
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if not several or (fixed and len(value) != len(parts)):
        raise _Mismatch(f"a list of {len(parts)} values" if fixed else "a list [a, b, ...]")
    kinds = parts if fixed else (parts[0],) * len(value)
    items = [
        parse(item_kind, item, joined(path, f"[{index}]"), faults)
        for index, (item_kind, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return get_origin(kind)(items)


def _convert_union(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    options = get_args(kind)
    if GivenObject in options:
        if (found := _given(value)) is not None:
            return found
        options = tuple(option for option in options if option is not GivenObject)
    if type(None) in options and _is_null(value, str in options):
        return None
    groups = [option for option in options if dataclasses.is_dataclass(option)]
    if groups:
        return _parse_named(groups, value, path, faults)
    expected = []
    read = type(as_values(value))
    for option in sorted(options, key=lambda option: option is not read):  # 3 is no 3.0
        if option is type(None):
            expected.append("null")
            continue
        try:
            return _convert(option, value, path, faults)
        except _Mismatch as mismatch:
            expected.append(mismatch.expected)
    raise _Mismatch(" or ".join(expected))


def _given(value: Any) -> GivenObject | None:
    """An object, or what a file says of one."""
    if isinstance(value, dict) and list(value) == ["given"] and isinstance(value["given"], str):
        return GivenObject(value["given"])
    return value if isinstance(value, GivenObject) else None


def _is_null(value: Any, or_text: bool) -> bool:
    """Whether nothing is meant; a text may be called NULL, but not null without quotes."""
    if isinstance(value, Written):
        return value.value is None and (not or_text or value.text in _NULLS)
    return value is None


def _parse_named(groups: list[Any], value: Any, path: str, faults: list[Fault]) -> Any:
    """Choose the dataclass whose ``name`` or ``do`` (a Literal) is the value's, then parse it.

    One whose name is any text takes the names that no other has.
    """
    if len(groups) == 1:
        return parse(groups[0], value, path, faults)  # a group of settings, or null
    hints = {group: hints_of(group) for group in groups}
    key = "do" if all("do" in kinds for kinds in hints.values()) else "name"
    by_name = {name: group for group, kinds in hints.items() for name in get_args(kinds[key])}
    open_ = next((group for group, kinds in hints.items() if kinds[key] is str), None)
    return parse(_named(by_name, open_, value, key), value, path, faults)


def _named(by_name: Mapping[str, Any], otherwise: Any, value: Any, key: str) -> Any:
    """The dataclass that the value's ``key`` names."""
    name = as_texts(value.get(key) if isinstance(value, dict) else value)
    group = by_name.get(name, otherwise) if isinstance(name, str) else None
    if not isinstance(value, dict) or group is None:
        choices = _one_of(list(by_name), str(name))
        got = _shown(name) if isinstance(value, dict) and key in value else None
        raise _Mismatch(f"do: {choices}" if key == "do" else choices, got)
    return group


def _within(value: Any, metadata: tuple[Any, ...]) -> Any:
    for bounds in metadata:
        numbers = value if isinstance(value, (list, tuple)) else [value]
        for number in numbers if isinstance(bounds, Range) else ():
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
            if is_number and not bounds.holds(number):
                raise _Mismatch(f"a number {bounds}")
    return value


def _one_of(choices: list[str], word: str) -> str:
    """The choices, closest to ``word`` first."""
    import difflib

    ratio = {choice: difflib.SequenceMatcher(None, word, choice).ratio() for choice in choices}
    ordered = sorted(choices, key=lambda choice: -ratio[choice])
    return ordered[0] if len(ordered) == 1 else f"one of {', '.join(ordered)}"


def _shown(value: Any) -> str:
    if isinstance(value, GivenObject):
        return f"<{value}>"
    value = as_texts(value)
    return "null" if value is None else shown(repr(value).replace("'", '"'))
