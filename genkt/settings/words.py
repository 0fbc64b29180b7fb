"""The words of a command line, looked at before hydra sees them.

So a typo is answered by a suggestion, a path needs no second layer of quotes, and a model's name
may stand where hydra expects the name of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from genkt.io import home_path, nearby, resource, shown
from genkt.settings.assignments import PLACES, Assignment, Said, read_word
from genkt.settings.faults import Fault, SettingsError
from genkt.settings.values import quote, split_list, sweep_parts

MODEL_GROUPS = tuple(group for group, (_, setting) in PLACES.items() if setting == "model")
"""Groups whose choice may be the name of a model."""

_HYDRA_GROUP = re.compile(r"hydra/[A-Za-z]\w*", re.ASCII)
FLAGS = {"--config-dir": "dir", "-cd": "dir", "--config-name": "name", "-cn": "name"}
"""hydra's own, that take a value; each is about a ``dir`` or a ``name``."""
_HYDRAS_OWN = ("hydra.", "hydra/")


@dataclass
class Words:
    """A command line, sorted: settings, hydra's own, genkt's flags, and faults for the rest."""

    settings: list[Assignment] = field(default_factory=list)
    hydra: list[str] = field(default_factory=list)
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


BUILT_IN = frozenset(("digits", "digits_on_photos"))
"""Choices of ``data`` that ship with genkt."""


def sort_words(words: Sequence[Said], command: str) -> Words:
    """Split the words of a command; anything not understood becomes a fault with a remedy."""
    result = Words()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if isinstance(word, Assignment):
            result.settings.append(word)
            continue
        flag, _, value = word.partition("=")
        if word in ("-m", "--multirun"):
            result.multirun = True
        elif flag in FLAGS:
            _take_flag(result, flag, value or (str(rest.pop(0)) if rest else ""))
        elif word.startswith("-"):
            result.faults.append(_dashed(word, rest))
        else:
            _take_word(result, word, command)
    if command == "transfer" and not result.config_name:
        result.settings += _implied(result)
    return result


def _take_word(result: Words, word: str, command: str) -> None:
    found, typed = read_word(word), shown(word)
    if found is None:
        text = f"expected key=value; genkt {command} --help lists the keys"
        result.faults.append(Fault(f'"{typed}"', text, "form"))
    elif fault := _form_fault(found, word):
        result.faults.append(fault)
    elif found.key.startswith(_HYDRAS_OWN):
        result.hydra.append(word)
    else:
        result.settings.append(found)


def _form_fault(found: Assignment, word: str) -> Fault | None:
    """What is wrong with the form of a word that sets something."""
    key, typed, removes = found.key, shown(word), "~" in found.prefix
    if removes and "=" not in word:
        return None
    if found.text == "":
        return Fault(typed, 'expected a value after "="; null stands for none', "form")
    if removes:
        text = f"expected ~{key} alone, which takes away what you added to a mapping"
        return Fault(typed, text, "form")
    if re.search("[/@]", key) and not _HYDRA_GROUP.fullmatch(key):
        return Fault(typed, "expected a key of names and dots, as in train.lr", "form")
    return None


def repeated(words: Sequence[Said]) -> list[str]:
    """A line a key that is given several times with different values."""
    given: dict[str, list[str]] = {}
    for found in map(read_word, words):
        if found and not found.removes:
            given.setdefault(found.key, []).append(found.text)
    return [
        f"{key}: given {len(values)} times ({', '.join(map(shown, values))}); the last one counts"
        for key, values in given.items()
        if len(set(values)) > 1
    ]


def _implied(words: Words) -> list[Assignment]:
    """The generator that ships draws built-in pictures; other data start from their own images."""
    chosen = {each.key: each.text for each in words.settings}
    built_in = BUILT_IN.intersection(chosen.get("data", "digits").split(","))
    files = [f"{group}/{chosen.get(group)}.yaml" for group in ("experiment", "recipe")]
    given = "transfer_set" in chosen or any(_chooses_set(file, words.homes) for file in files)
    return [] if built_in or given else [Assignment("transfer_set", "unlabelled")]


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


def _dashed(word: str, rest: list[Said]) -> Fault:
    """The fault of ``--key value``; takes the value away from the words that are left."""
    name, equals, value = word.partition("=")
    key = name.lstrip("-").replace("-", "_") or "key"
    after = rest[0] if rest and isinstance(rest[0], str) else "="
    takes_next = not equals and "=" not in after and not after.startswith("-")
    after = value if equals else (str(rest.pop(0)) if takes_next else "...")
    typed = word if equals or not takes_next else f"{word} {after}"
    text = f"settings are written without dashes: {shown(f'{key}={after}')}"
    return Fault(shown(typed), text, "form")


def with_models(each: Assignment, words: Words) -> list[Assignment]:
    """``student=resnet18`` and ``teacher=[a,b]`` name timm models where no file is so called.

    Raises:
        SettingsError: a sweep over both.

    >>> [str(each) for each in with_models(Assignment("student", "resnet18"), Words())]
    ['student=timm', 'student.model="resnet18"']
    """
    if each.key not in MODEL_GROUPS or each.prefix:
        return [each]
    names, files = _names(each, words.multirun), words.choices(each.key)
    if names and all(name in files for name in names):
        return [each]
    if any(name in files for name in names) and len(names) > 1 and not each.text.startswith("["):
        text = f"a sweep goes over models or over files of configs/{each.key}, not both"
        raise SettingsError([Fault(f"{each.key}={shown(each.text)}", text)])
    named = each.under(f"{each.key}.model")
    if each.how == "typed":
        named = replace(named, text=_quoted(each.text, names, words.multirun))
    choice = PLACES[each.key][0]
    return [Assignment(each.key, choice), named]


def _names(each: Assignment, multirun: bool) -> list[str]:
    """The names that a choice gives, none where it gives something else."""
    if each.how == "python":
        return [each.given] if isinstance(each.given, str) else []
    if each.text.startswith("[") and each.text.endswith("]"):
        return []
    several = sweep_parts(each.text) if multirun else [each.text]
    return [_bare(name) for name in several]


def _quoted(text: str, names: list[str], multirun: bool) -> str:
    """The names of models as they are, whatever they would mean to hydra."""
    if names:
        return ",".join(map(quote, names))
    return "[" + ",".join(quote(_bare(name)) for name in split_list(text[1:-1])) + "]"


def _bare(name: str) -> str:
    return name.strip().strip("'\"")
