"""The value of one word, in hydra's grammar, so that a text arrives as it was typed."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any, get_origin

from genkt.settings.written import keep

_PAIRS = {"[": "]", "{": "}", "(": ")"}


def quote(text: str) -> str:
    """A text as a quoted value of hydra's grammar (only quotes need a backslash there).

    >>> quote('a "b"')
    '"a \\\\"b\\\\""'
    """
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def as_text(value: Any) -> str:
    """A value of Python's in hydra's grammar.

    >>> as_text([1, None, "a b", {"c": True}])
    '[1,null,"a b",{c:true}]'
    """
    if isinstance(value, (str, Path)):
        text = str(value)
        plain = text.replace("_", "").isalnum() and text.isascii() and not text[0].isdigit()
        keyword = text.lower() in ("null", "true", "false", "nan", "inf")
        return text if plain and not keyword else quote(text)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(as_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_text(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, default=str)


@functools.lru_cache(maxsize=4096)  # a run reads a word some times, a comparison for every run
def parse_override(word: str) -> Any:
    """Hydra's reading of one word, only to be read, or None where its grammar refuses it."""
    from hydra.errors import HydraException

    try:
        return _parser().parse_override(word)
    except HydraException:
        return None


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def carried(value: str, *, sweep: bool = False, kinds: tuple[Any, ...] = ()) -> str:
    """A value as typed, in words that bring it through hydra unchanged.

    Args:
        sweep: "a,b" are two values; else one text, for example a path with a comma.
        kinds: the types that the setting may have; () where they are not known.
    """
    start = value.strip()[:1]
    if start in ("[", "{") and _is_text(kinds, start):
        return quote(keep(value, value))
    if sweep and len(several := sweep_parts(value)) > 1:
        return ",".join(carried(part, kinds=kinds) for part in several)
    override = parse_override(f"key={value}")
    if override is None:
        return quote(keep(value, value))
    if override.is_sweep_override():
        return value if sweep else quote(keep(value, value))
    return _carried(value, override.value())


def _carried(value: str, read: Any) -> str:
    stripped = value.strip()
    if isinstance(read, str):
        text = read if stripped[:1] in ("'", '"') else value
        safe = keep(text, text)
        return value if safe == value == read else quote(safe)
    if isinstance(read, list) and stripped.startswith("["):
        return "[" + ",".join(carried(part.strip()) for part in split_list(stripped[1:-1])) + "]"
    if isinstance(read, dict) and stripped.startswith("{"):
        return "{" + ",".join(map(_entry, split_list(stripped[1:-1]))) + "}"
    same = keep(value, read)
    return quote(same) if isinstance(same, str) else value


def _entry(part: str) -> str:
    key, _, value = part.partition(":")
    return f"{key.strip()}:{carried(value.strip())}"


def sweep_parts(value: str) -> list[str]:
    """The values that a sweep goes through, as typed; the value itself where it lists none.

    >>> sweep_parts("1e3, b"), sweep_parts("choice(1, 2)"), sweep_parts("range(1,3)")
    (['1e3', 'b'], ['1', '2'], ['range(1,3)'])
    """
    listed = re.fullmatch(r"\s*choice\((.*)\)\s*", value, re.DOTALL)
    return [part.strip() for part in split_list(listed[1] if listed else value)] or [value]


def split_list(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes.

    >>> split_list("a,[b,c], 'd,e'")
    ['a', '[b,c]', " 'd,e'"]
    """
    parts, closing, quoted, escaped = [""], "", "", False
    for letter in text:
        if letter == "," and not closing and not quoted:
            parts.append("")
            continue
        parts[-1] += letter
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quoted:
            quoted = "" if letter == quoted else quoted
        elif letter in "'\"":
            quoted = letter
        elif letter in _PAIRS:
            closing = _PAIRS[letter] + closing
        elif closing and letter == closing[0]:
            closing = closing[1:]
    return parts if text.strip() else []


def _is_text(kinds: tuple[Any, ...], start: str) -> bool:
    """Whether a value that starts like a list or a mapping can only be a text there."""
    takes = (list, tuple) if start == "[" else (dict,)
    groups = [k for k in kinds if start == "{" and dataclasses.is_dataclass(k)]
    compound = [k for k in kinds if k is Any or get_origin(k) in takes]
    return str in kinds and not groups and not compound
