"""From plain YAML values to typed settings, collecting every fault instead of stopping at one."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from genkt.earlier import new_key, renamed_fault
from genkt.io import did_you_mean, shown
from genkt.methods.base import MethodOptions
from genkt.methods.build import parse_options
from genkt.types import Range
from genkt.written import Written, as_texts, as_values

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_NULLS = ("null", "~", "")
"""How YAML writes nothing."""
_LARGEST = 1e300
"""Whole numbers above have no float of their own; no range reaches them."""


class _Mismatch(Exception):
    """A value that does not fit its type; the message says what was expected."""


def parse(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    """``value`` as ``kind`` (a dataclass, scalar, Literal, union, list, tuple or dict).

    Every fault is appended to ``faults`` as one line that starts with its dotted key; the
    result is only meaningful when none was.
    """
    if kind is MethodOptions:
        return _parse_method(as_values(value), path, faults)
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, path, faults)
    try:
        return _convert(kind, value, path, faults)
    except _Mismatch as mismatch:
        faults.append(f"{path}: expected {mismatch}, got {_shown(value)}")
        return None


def _parse_dataclass(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        faults.append(f"{path}: expected a group of settings, got {_shown(value)}")
        return None
    hints = typing.get_type_hints(kind, include_extras=True)
    prefix = f"{path}." if path else ""
    known = [field.name for field in dataclasses.fields(kind)]
    optional = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    old = {key: new for key in value if key not in known and (new := new_key(f"{prefix}{key}"))}
    for key in value:
        if renamed := key in old and renamed_fault(f"{prefix}{key}"):
            faults.append(renamed)
        elif key not in known:
            hint = did_you_mean(str(key), known) or f" Known here: {', '.join(known)}."
            faults.append(f"{prefix}{shown(key)}: unknown setting.{hint}")
    before, gone = len(faults), set(old.values())
    values = {}
    for name in known:
        if name in value:
            values[name] = parse(hints[name], value[name], prefix + name, faults)
        elif name not in optional and f"{prefix}{name}" not in gone:
            faults.append(f"{prefix}{name}: missing")
    if len(faults) > before or gone:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        faults += [_placed(line, path) for line in str(error).splitlines()]
        return None


def _placed(fault: str, path: str) -> str:
    """A fault that a dataclass found itself, under its full key."""
    parent, _, last = path.rpartition(".")
    if last and fault.startswith(f"{last}."):
        return f"{parent}.{fault}" if parent else fault
    return fault if not path or path in fault else f"{path}: {fault}"


def _parse_method(value: Any, path: str, faults: list[str]) -> MethodOptions | None:
    """A method knows its own options and their bounds."""
    if not isinstance(value, dict):
        faults.append(f"{path}: expected a group of settings, got {_shown(value)}")
        return None
    try:
        return parse_options(value)
    except ValueError as error:
        faults.extend(str(error).split("; "))
        return None


def _convert(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return as_values(value)
    if origin is Annotated:
        return _within(_convert(get_args(kind)[0], value, path, faults), kind.__metadata__)
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
        return {key: parse(inner, item, f"{path}.{key}", faults) for key, item in text.items()}
    return _convert_scalar(kind, value)


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


def _convert_sequence(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    value = value.value if isinstance(value, Written) else value
    parts = get_args(kind)
    fixed = get_origin(kind) is tuple and parts[-1] is not Ellipsis
    if not isinstance(value, (list, tuple)) or (fixed and len(value) != len(parts)):
        raise _Mismatch(f"a list of {len(parts)} values" if fixed else "a list [a, b, ...]")
    kinds = parts if fixed else (parts[0],) * len(value)
    items = [
        parse(item_kind, item, f"{path}[{index}]", faults)
        for index, (item_kind, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return get_origin(kind)(items)


def _convert_union(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    options = get_args(kind)
    if type(None) in options and _is_null(value, str in options):
        return None
    groups = [option for option in options if dataclasses.is_dataclass(option)]
    if groups:
        return _parse_named(groups, value, path, faults)
    expected = []
    for option in options:
        if option is type(None):
            expected.append("null")
            continue
        try:
            return _convert(option, value, path, faults)
        except _Mismatch as mismatch:
            expected.append(str(mismatch))
    raise _Mismatch(" or ".join(expected))


def _is_null(value: Any, or_text: bool) -> bool:
    """Whether nothing is meant; a text may be called NULL, but not null without quotes."""
    if isinstance(value, Written):
        return value.value is None and (not or_text or value.text in _NULLS)
    return value is None


def _parse_named(groups: list[Any], value: Any, path: str, faults: list[str]) -> Any:
    """Choose the dataclass whose ``name`` or ``do`` (a Literal) is the value's, then parse it.

    One whose name is any text takes the names that no other has.
    """
    if len(groups) == 1:
        return parse(groups[0], value, path, faults)  # a group of settings, or null
    hints = {group: typing.get_type_hints(group, include_extras=True) for group in groups}
    key = "do" if all("do" in kinds for kinds in hints.values()) else "name"
    by_name = {name: group for group, kinds in hints.items() for name in get_args(kinds[key])}
    open_ = next((group for group, kinds in hints.items() if kinds[key] is str), None)
    name = as_texts(value.get(key) if isinstance(value, dict) else value)
    group = by_name.get(name, open_) if isinstance(name, str) else None
    if not isinstance(value, dict) or group is None:
        choices = _one_of(list(by_name), str(name))
        raise _Mismatch(f"do: {choices}" if key == "do" else choices)
    return parse(group, value, path, faults)


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
    value = as_texts(value)
    return "null" if value is None else shown(repr(value).replace("'", '"'))
