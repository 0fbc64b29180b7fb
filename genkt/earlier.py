"""What earlier versions called settings, and did where a setting was not there yet.

Whoever renames a setting, or adds one, says so here; ``tests/before`` holds what was written then.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RENAMED: dict[str, str] = {}
"""Old dotted key of a setting or of a whole group -> the new one.

Whoever gives the old key is told the new one, for one version; runs recorded with the old one are
read as if they had the new one.
"""

ADDED: dict[str, Any] = {
    "seeds_per_draw": 1,
    # Not as before where a method searches beta: the report says which draws were searched.
    "baseline_search": True,
    "validation": "images",
    "folds": "auto",
    "cross_validate": False,
    # Not as before: what an interrupted run still trains may keep its earlier student.
    "finetune.keep": "better",
    "plan": "off",
    "minutes": None,
    "plain": {"lr": None},
    "pilot": {"rates": [6.0e-3, 2.0e-3, 2.0e-2], "least_steps": 250, "most_steps": 4000},
    "student.size": None,
    "teacher.size": None,
    "encoder.size": None,
    "transfer_set.encoder.size": None,
    "data.group": None,
    "data.views.least_side": 0,
}
"""Dotted key of a setting that came later -> its value that means: as before it was there.

"*" stands for any one name in a key. The settings of a training stage are written ``train.KEY``.
"""


def new_key(key: str) -> str | None:
    """The key that has taken the place of an old one; None for any other key."""
    names = key.split(".")
    for length in range(len(names), 0, -1):
        if (new := RENAMED.get(".".join(names[:length]))) is not None:
            return ".".join([new, *names[length:]])
    return None


def as_now(recorded: Mapping[str, Any], like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings that an earlier version has recorded, as this version would have recorded them.

    Args:
        like: settings of this version: what they do not have is not added. None: what came later
            is added to every group that is there.
    """
    now = copy.deepcopy(dict(recorded))
    for old, new in RENAMED.items():
        for group, names in list(_places(now, old.split("."))):
            if names[-1] in group:
                _put(now, new.split("."), group.pop(names[-1]))
    for key, value in ADDED.items():
        for group, names in list(_places(now, key.split("."))):
            wanted = len(names) > 1 if like is None else _has(like, names)
            if wanted:
                group.setdefault(names[-1], value)
    return now


def without_added(settings: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The settings of a group but for those that came later and change nothing."""
    return {
        name: value
        for name, value in settings.items()
        if (key := f"{group}.{name}") not in ADDED or ADDED[key] != value
    }


def _places(
    config: dict[str, Any], names: list[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Every group that a key may stand in, with the names of the key there."""
    if len(names) == 1:
        yield config, (*above, names[0])
        return
    for name in list(config) if names[0] == "*" else [names[0]]:
        if isinstance(config.get(name), dict):
            yield from _places(config[name], names[1:], (*above, name))


def _put(config: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        config = config.setdefault(name, {})
    config.setdefault(names[-1], value)


def _has(config: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(config, Mapping) or name not in config:
            return False
        config = config[name]
    return True
