"""The words of a command line, looked at before hydra sees them.

So a typo is answered by a suggestion, a path needs no second layer of quotes, and a model's name
may stand where hydra expects the name of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genkt.cli.setting_types import kinds_of
from genkt.cli.values import carried, parse_override, quote
from genkt.io import home_path, nearby, resource, shown
from genkt.settings.faults import Fault, SettingsError

MODEL_GROUPS = ("student", "teacher", "encoder")
NOT_TIMM = ("pixels", "open_clip:")
"""How the names of encoders start that are no timm models."""

_OPEN = re.compile(r"^[+]{0,2}(student|teacher|encoder)\.(args|transform)[.=]")
_OVERRIDE = re.compile(r"^[~+]{0,2}([A-Za-z_]\w*(?:[./@]\w+)*)=(.*)$", re.DOTALL | re.ASCII)
_HYDRA_GROUP = re.compile(r"hydra/[A-Za-z]\w*", re.ASCII)
_REMOVED = re.compile(r"^~[A-Za-z_]\w*(?:\.\w+)*$", re.ASCII)
FLAGS = {"--config-dir": "dir", "-cd": "dir", "--config-name": "name", "-cn": "name"}
"""hydra's own, that take a value; each is about a ``dir`` or a ``name``."""


@dataclass
class Words:
    """A command line, sorted: genkt's own flags, overrides, and faults for what is neither."""

    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    multirun: bool = False
    faults: list[Fault] = field(default_factory=list)

    @property
    def homes(self) -> list[Path]:
        """The folders of YAML files, the user's first: a file there hides genkt's of that name."""
        own = [resource("configs")]
        return [home_path(self.config_dir).resolve(), *own] if self.config_dir else own

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
        elif flag in FLAGS:
            _take_flag(result, flag, value or (rest.pop(0) if rest else ""))
        elif word.startswith("-"):
            result.faults.append(_dashed(word, rest))
        elif fault := _word_fault(word, command):
            result.faults.append(fault)
        else:
            result.overrides.append(word)
    if command == "transfer" and not result.config_name:
        result.overrides += _implied(result)
    return result


def _word_fault(word: str, command: str) -> Fault | None:
    """What is wrong with the form of a word that is no flag."""
    pair, typed = split_word(word), shown(word)
    if pair is None:
        if _REMOVED.match(word):
            return None
        text = f"expected key=value; genkt {command} --help lists the keys"
        return Fault(f'"{typed}"', text, "form")
    key, value = pair
    if value == "":
        return Fault(typed, 'expected a value after "="; null stands for none', "form")
    if word.startswith("~"):
        text = f"expected ~{key} alone, which takes away what you added to a mapping"
        return Fault(typed, text, "form")
    if re.search("[/@]", key) and not _HYDRA_GROUP.fullmatch(key):
        return Fault(typed, "expected a key of names and dots, as in train.lr", "form")
    return None


def keys_of(words: Sequence[str]) -> list[str]:
    """The keys that words set."""
    return [pair[0] for word in words if (pair := split_word(word))]


def repeated(words: Sequence[str]) -> list[str]:
    """A line a key that is given several times with different values."""
    given: dict[str, list[str]] = {}
    for word in words:
        if pair := split_word(word):
            given.setdefault(pair[0], []).append(pair[1])
    return [
        f"{key}: given {len(values)} times ({', '.join(map(shown, values))}); the last one counts"
        for key, values in given.items()
        if len(set(values)) > 1
    ]


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
        result.faults.append(Fault(flag, "expected a value after it", "form"))
    elif FLAGS[flag] == "name":
        result.config_name = value.removesuffix(".yaml")
    elif os.path.isdir(home_path(value)):
        result.config_dir = value
    else:
        hint = nearby(home_path(value)) or "."
        text = f"expected a folder of YAML files{hint}"
        result.faults.append(Fault(f"{flag} {shown(value)}", text, "form"))


def _dashed(word: str, rest: list[str]) -> Fault:
    """The fault of ``--key value``; takes the value away from the words that are left."""
    name, equals, value = word.partition("=")
    key = name.lstrip("-").replace("-", "_") or "key"
    takes_next = not equals and rest and "=" not in rest[0] and not rest[0].startswith("-")
    after = value if equals else (rest.pop(0) if takes_next else "...")
    typed = word if equals or not takes_next else f"{word} {after}"
    text = f"settings are written without dashes: {shown(f'{key}={after}')}"
    return Fault(shown(typed), text, "form")


def hydra_words(words: Words, *, quote_sweeps: bool = True, kind: Any = None) -> list[str]:
    """Overrides in hydra's grammar: model names spelled out, odd values quoted, open mappings.

    Args:
        quote_sweeps: outside of a sweep "a,b" is one text, for example a path with a comma.
        kind: the settings' dataclass; None: not known.
    """
    spelled = [part for word in words.overrides for part in model_words(word, words)]
    parts = [part for word in spelled for part in _replacing(word)]
    return [_open(_carried(part, words, quote_sweeps, kind)) for part in parts]


def _replacing(word: str) -> list[str]:
    """A list in the place of a mapping: hydra cannot merge them."""
    if word.startswith("teacher.args=["):
        return ["~teacher.args", f"+{word}"]
    return [word]


def _open(word: str) -> str:
    """``student.args`` and the like take any entries: hydra wants ``++`` for that."""
    return f"++{word.lstrip('+')}" if _OPEN.match(word) else word


def is_mapping_entry(word: str) -> bool:
    """Whether a word sets, as hydra's grammar writes it, an entry of a mapping open to any."""
    return word.startswith("++") and _OPEN.match(word) is not None


def _carried(word: str, words: Words, quote_sweeps: bool, kind: Any) -> str:
    """The word with its value in hydra's grammar; what hydra reads itself stays as it is."""
    pair = split_word(word)
    if pair is None:
        return word
    if pair[0].startswith(("hydra.", "hydra/")):
        return word if parse_override(word) else f"{word[: -len(pair[1])]}{quote(pair[1])}"
    value = os.path.expanduser(pair[1]) if pair[1].startswith("~/") else pair[1]
    start = word[: len(word) - len(pair[1])]
    if "." not in pair[0] and words.choices(pair[0]):
        return start + carried(value, sweep=not quote_sweeps)
    kinds = kinds_of(kind, pair[0]) if kind else ()
    return start + carried(value, sweep=not quote_sweeps, kinds=kinds)


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
        text = f"a sweep goes over models or over files of configs/{group}, not both"
        raise SettingsError([Fault(f"{group}={shown(value)}", text)])
    if value.startswith("[") and value.endswith("]"):
        names = "[" + ",".join(quote(_bare(name)) for name in value[1:-1].split(",")) + "]"
    else:
        names = ",".join(quote(_bare(name)) for name in several)
    return [f"{group}=timm", f"{group}.model={names}"]


def _bare(name: str) -> str:
    return name.strip().strip("'\"")
