"""Which types the setting of a dotted key may have."""

from __future__ import annotations

import dataclasses
import types
from typing import Annotated, Any, Union, get_args, get_origin

from genkt.settings.objects import GivenObject
from genkt.settings.schema import OneOf, hints_of


def kinds_of(kind: Any, key: str) -> tuple[Any, ...]:
    """The types that the setting of a dotted key may have; () where there is no such setting.

    Objects that can only be given in Python are left out.

    >>> from genkt.types import Range
    >>> kinds_of(Annotated[int, Range(0, 1)] | None, "")
    (<class 'int'>, <class 'NoneType'>)
    """
    origin = get_origin(kind)
    if origin is Annotated:
        several = [k for m in kind.__metadata__ if isinstance(m, OneOf) for k in m.by_name.values()]
        options = several or get_args(kind)[:1]
        return tuple(found for each in options for found in kinds_of(each, key))
    if origin in (Union, types.UnionType):
        return tuple(found for option in get_args(kind) for found in kinds_of(option, key))
    if kind is GivenObject:
        return ()
    if not key:
        return (kind,)
    name, _, rest = key.partition(".")
    if dataclasses.is_dataclass(kind):
        hint = hints_of(kind).get(name)  # type: ignore[arg-type]  # a class is hashable
        return () if hint is None else kinds_of(hint, rest)
    return kinds_of(get_args(kind)[1], rest) if origin is dict else ()


def is_open(kind: Any, key: str) -> bool:
    """Whether a key lies in a mapping that takes any keys, such as ``student.args``."""
    parts = key.split(".")
    above = [".".join(parts[:count]) for count in range(1, len(parts))]
    return any(get_origin(found) is dict for path in above for found in kinds_of(kind, path))
