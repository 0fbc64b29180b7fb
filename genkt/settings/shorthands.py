"""Two ways to say one setting: what is given in one way replaces what files say in the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

SHORTHANDS = {"size": "transform.input_size"}
"""Short key -> the same as a key inside of a group, in every group that has both."""


def make_room(config: Any, given: Iterable[tuple[str, Any]]) -> None:
    """Take away what a configuration says in one way where the other is given.

    Both ways given are both kept: whoever reads the settings refuses them.

    >>> config = {"student": {"size": None, "transform": {"input_size": [32, 32], "mean": 0.5}}}
    >>> make_room(config, [("student.size", 64)])
    >>> config
    {'student': {'size': None, 'transform': {'mean': 0.5}}}

    Args:
        config: nested groups, changed in place.
        given: dotted keys and what they are set to.
    """
    keys = {inner for key, value in given for inner in _keys(key, value)}
    for short, long in SHORTHANDS.items():
        for key in keys:
            for own, other in ((short, long), (long, short)):
                path = key.removesuffix(f".{own}")
                if path != key and f"{path}.{other}" not in keys:
                    _clear(config, path, short, long, other)


def _clear(config: Any, path: str, short: str, long: str, other: str) -> None:
    group = _at(config, path)
    *_, last = long.split(".")
    inner = None if group is None else _at(group, long.removesuffix(f".{last}"))
    if inner is None or short not in group:
        return
    if other == short:
        group[short] = None
    else:
        inner.pop(last, None)


def _at(config: Any, path: str) -> Any:
    """The group at a dotted key; None where there is none."""
    for name in path.split("."):
        if not hasattr(config, "keys") or name not in config:
            return None
        config = config[name]
    return config if hasattr(config, "keys") else None


def _keys(key: str, value: Any) -> Iterator[str]:
    """The key, and those inside of a mapping; null gives nothing."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _keys(f"{key}.{name}", item)
    elif value is not None:
        yield key
