"""Which types the setting of a dotted key may have."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

from genkt.settings.schema import OneOf


def kinds_of(kind: Any, key: str) -> tuple[Any, ...]:
    """The types that the setting of a dotted key may have; () where there is no such setting.

    >>> from genkt.types import Range
    >>> kinds_of(Annotated[int, Range(0, 1)] | None, "")
    (<class 'int'>, <class 'NoneType'>)
    """
    origin = get_origin(kind)
    if origin is Annotated:
        several = [k for m in kind.__metadata__ if isinstance(m, OneOf) for k in m.by_name.values()]
        if several:
            return tuple(found for each in several for found in kinds_of(each, key))
        return kinds_of(get_args(kind)[0], key)
    if origin in (Union, types.UnionType):
        return tuple(found for option in get_args(kind) for found in kinds_of(option, key))
    if not key:
        return (kind,)
    name, _, rest = key.partition(".")
    if dataclasses.is_dataclass(kind):
        hint = typing.get_type_hints(kind, include_extras=True).get(name)
        return () if hint is None else kinds_of(hint, rest)
    return kinds_of(get_args(kind)[1], rest) if origin is dict else ()
