"""The one way from words and Python arguments to the typed settings of a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from genkt.config.world_faults import world_faults
from genkt.earlier import new_key
from genkt.io import did_you_mean
from genkt.settings.assignments import Said
from genkt.settings.compose import compose
from genkt.settings.faults import Fault, SettingsError, refuse, renamed
from genkt.settings.objects import missing_objects
from genkt.settings.schema import parse
from genkt.settings.shorthands import make_room
from genkt.settings.words import Words, sort_words

Config = TypeVar("Config")


def read_config(kind: type[Config], command: str, words: Sequence[Said]) -> Config:
    """The typed settings that a command line, or a call in Python, stands for.

    Args:
        kind: their dataclass.
        words: as typed, or as ``assignments`` makes them of keyword arguments; the last one of a
            key counts.

    Raises:
        SettingsError: all faults at once.
    """
    return read_sorted(kind, command, sort_words(words, command))


def read_sorted(
    kind: type[Config], command: str, words: Words, fixed: Mapping[str, Any] | None = None
) -> Config:
    """The same of words that are sorted.

    Args:
        fixed: settings whose values are known, by their top-level keys.

    Raises:
        SettingsError: all faults at once.
    """
    faults: list[Fault] = []
    plain = compose(command, words, faults, kind)
    missing = {fault.key for fault in faults if fault.kind == "missing"}
    found: list[Fault] = []
    config = parse(kind, {**plain, **(fixed or {})}, "", found) if plain else None
    found += [] if config is None else missing_objects(config)
    faults += [fault for fault in found if fault.key not in missing]
    faults += world_faults(plain, words)
    refuse(_with_sweep_hint(fault, words) for fault in faults)
    assert isinstance(config, kind)
    return config


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """Settings with some of them changed, without another look at the YAML files.

    Args:
        values: dotted key -> value.

    Raises:
        SettingsError: all faults at once.
    """
    plain = asdict(config)  # type: ignore[call-overload]
    make_room(plain, values.items())
    for key, value in values.items():
        *groups, last = key.split(".")
        group = plain
        for name in groups:
            group = group.get(name) if isinstance(group.get(name), dict) else {}
        if last not in group:
            text = f"unknown setting.{did_you_mean(last, group)}"
            new = new_key(key)
            raise SettingsError([renamed(key, new) if new else Fault(key, text, "unknown")])
        group[last] = value
    faults: list[Fault] = []
    changed = parse(type(config), plain, "", faults)
    refuse(faults)
    assert isinstance(changed, type(config))
    return changed


def _with_sweep_hint(fault: Fault, words: Words) -> Fault:
    """``train.lr=1e-3,2e-3`` without -m is one text: say what was probably meant."""
    if words.multirun or fault.kind != "value":
        return fault
    for each in words.settings:
        several = "," in each.text and each.text[0] not in "[{" and each.how == "typed"
        if several and fault.key == each.key:
            hint = " (a list is written [a,b]; to run each value, add -m)"
            return replace(fault, text=fault.text + hint)
    return fault
