"""The words of a command line, looked at before hydra sees them.

So a typo is answered by a suggestion, a path needs no second layer of quotes, and a model's name
may stand where hydra expects the name of a file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genkt.io import did_you_mean, resource
from genkt.types import UserError

MODEL_GROUPS = ("student", "teacher", "encoder")
NOT_TIMM = ("pixels", "open_clip:")
"""How the names of encoders start that are no timm models."""

_OPEN = re.compile(r"^(student|teacher|encoder)\.(args|transform)[.=]")
_OVERRIDE = re.compile(r"^[~+]{0,2}([A-Za-z_][\w@/.]*)=(.*)$", re.DOTALL)
_FLAGS = {"--config-dir": "dir", "-cd": "dir", "--config-name": "name", "-cn": "name"}


@dataclass
class Words:
    """A command line, sorted: genkt's own flags, overrides, and faults for what is neither."""

    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    multirun: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def homes(self) -> list[Path]:
        """The folders of YAML files, the user's first: a file there hides genkt's of that name."""
        own = [resource("configs")]
        return [Path(self.config_dir).expanduser().resolve(), *own] if self.config_dir else own

    def choices(self, group: str) -> list[str]:
        """The alternatives of a group in all folders."""
        found = {
            path.relative_to(home / group).with_suffix("").as_posix()
            for home in self.homes
            for path in (home / group).rglob("*.yaml")
        }
        return sorted(found)


def split_word(word: str) -> tuple[str, str] | None:
    """(key, value) of ``key=value``, or None; a ``+`` or ``~`` before the key is dropped."""
    match = _OVERRIDE.match(word)
    return (match[1], match[2]) if match else None


BUILT_IN = frozenset(("digits", "digits_on_photos"))
"""Choices of ``data`` that ship with genkt."""


def sort_words(words: list[str], command: str) -> Words:
    """Split the words of a command; anything not understood becomes a fault with a remedy."""
    result = Words()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, _, value = word.partition("=")
        if word in ("-m", "--multirun"):
            result.multirun = True
        elif flag in _FLAGS:
            _take_flag(result, flag, value or (rest.pop(0) if rest else ""))
        elif word.startswith("-"):
            result.faults.append(_dashed(word, rest))
        elif (pair := split_word(word)) and pair[1] == "":
            result.faults.append(f'{word}: expected a value after "="; null stands for none')
        elif pair or word.startswith("~"):
            result.overrides.append(word)
        else:
            result.faults.append(
                f'"{word}": expected key=value; genkt {command} --help lists the keys'
            )
    if command == "transfer" and not result.config_name:
        result.overrides += _implied(result)
    return result


def _implied(words: Words) -> list[str]:
    """The generator that ships draws built-in pictures; other data start from their own images."""
    chosen = dict(pair for word in words.overrides if (pair := split_word(word)))
    built_in = BUILT_IN.intersection(chosen.get("data", "digits").split(","))
    files = [f"{group}/{chosen.get(group)}.yaml" for group in ("experiment", "recipe")]
    given = "transfer_set" in chosen or any(_chooses_set(file, words.homes) for file in files)
    return [] if built_in or given else ["transfer_set=unlabelled"]


def _chooses_set(file: str, homes: list[Path]) -> bool:
    """Whether the file of an experiment or a recipe says which transfer set it takes."""
    found = next((home / file for home in homes if (home / file).is_file()), None)
    return (
        found is not None
        and re.search(r"/transfer_set(@\S+)?:", found.read_text(encoding="utf-8")) is not None
    )


def _take_flag(result: Words, flag: str, value: str) -> None:
    if not value:
        result.faults.append(f"{flag}: expected a value after it")
    elif _FLAGS[flag] == "name":
        result.config_name = value.removesuffix(".yaml")
    elif Path(value).expanduser().is_dir():
        result.config_dir = value
    else:
        parent = Path(value).expanduser().resolve().parent
        there = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        hint = did_you_mean(Path(value).name, there)
        result.faults.append(f"{flag} {value}: expected a folder of YAML files.{hint}")


def _dashed(word: str, rest: list[str]) -> str:
    """The fault of ``--key value``; takes the value away from the words that are left."""
    name, equals, value = word.partition("=")
    key = name.lstrip("-").replace("-", "_") or "key"
    takes_next = not equals and rest and "=" not in rest[0] and not rest[0].startswith("-")
    shown = value if equals else (rest.pop(0) if takes_next else "...")
    typed = word if equals or not takes_next else f"{word} {shown}"
    return f"{typed}: settings are written without dashes: {key}={shown}"


def hydra_words(words: Words, *, quote_sweeps: bool = True) -> list[str]:
    """Overrides in hydra's grammar: model names spelled out, odd values quoted, open mappings.

    Args:
        quote_sweeps: outside of a sweep "a,b" is one text, for example a path with a comma.
    """
    spelled = [part for word in words.overrides for part in model_words(word, words)]
    parts = [part for word in spelled for part in _replacing(word)]
    return [_open(_quoted(part, quote_sweeps)) for part in parts]


def _replacing(word: str) -> list[str]:
    """A list in the place of a mapping: hydra cannot merge them."""
    if word.startswith("teacher.args=["):
        return ["~teacher.args", f"+{word}"]
    return [word]


def _open(word: str) -> str:
    """``student.args`` and the like take any entries: hydra wants ``++`` for that."""
    return f"++{word}" if _OPEN.match(word) else word


def quote(text: str) -> str:
    """A text as a quoted value of hydra's grammar (only quotes need a backslash there).

    >>> quote('a "b"')
    '"a \\\\"b\\\\""'
    """
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def _quoted(word: str, quote_sweeps: bool) -> str:
    """Quote a value that hydra would refuse or change, such as a path with "=", "," or "é"."""
    pair = split_word(word)
    if pair is None:
        return word
    value = os.path.expanduser(pair[1]) if pair[1].startswith("~/") else pair[1]
    start = word[: len(word) - len(pair[1])]
    return start + (value if _survives(f"{pair[0]}={value}", value, quote_sweeps) else quote(value))


def _survives(word: str, value: str, quote_sweeps: bool) -> bool:
    """Whether hydra reads the value as it was typed."""
    override = parse_override(word)
    if override is None:
        return False
    if override.is_sweep_override():
        return not quote_sweeps
    read = override.value()
    return not isinstance(read, str) or read == value or value[:1] in ("'", '"')


def parse_override(word: str) -> Any:
    """Hydra's reading of one word, or None where its grammar refuses it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def model_words(word: str, words: Words) -> list[str]:
    """``student=resnet18`` and ``teacher=[a,b]`` name timm models where no file is so called.

    >>> model_words("student=resnet18", Words())
    ['student=timm', 'student.model="resnet18"']
    >>> model_words("teacher=[a, b]", Words())
    ['teacher=timm', 'teacher.model=["a","b"]']
    """
    pair = split_word(word)
    if pair is None or pair[0] not in MODEL_GROUPS or word[0] in "+~":
        return [word]
    group, value = pair
    files = words.choices(group)
    several = value.split(",") if words.multirun and not value.startswith("[") else [value]
    if all(_bare(name) in files for name in several):
        return [word]
    if any(_bare(name) in files for name in several):
        raise UserError(
            f"{group}={value}: a sweep goes over models or over files of configs/{group}, not both"
        )
    if value.startswith("[") and value.endswith("]"):
        names = "[" + ",".join(quote(_bare(name)) for name in value[1:-1].split(",")) + "]"
    else:
        names = ",".join(quote(_bare(name)) for name in several)
    return [f"{group}=timm", f"{group}.model={names}"]


def _bare(name: str) -> str:
    return name.strip().strip("'\"")
