"""Keys and choices that are not there, each with what was probably meant."""

from __future__ import annotations

import difflib
from typing import Any

from genkt.earlier import new_key
from genkt.io import did_you_mean, shown
from genkt.settings.assignments import Assignment
from genkt.settings.faults import Fault, renamed
from genkt.settings.kinds import is_open
from genkt.settings.words import MODEL_GROUPS, Words
from genkt.settings.written import as_texts, kept
from genkt.synonyms import means_same


def is_choice(each: Assignment, groups: dict[str, Any], words: Words) -> bool:
    """Whether a setting chooses a file of a group."""
    if "." in each.key or each.removes:
        return False
    return each.key in groups or each.key in MODEL_GROUPS or bool(words.choices(each.key))


def choice_of(each: Assignment) -> str:
    """The name that a choice gives; "null" where nothing is chosen."""
    objects: list[Any] = []
    name = as_texts(kept(each.value((str,), objects), objects))
    return "null" if name is None else str(name)


def choice_fault(each: Assignment, groups: dict[str, Any], words: Words) -> Fault | None:
    """What is wrong with a choice, if anything."""
    if (new := new_key(each.key)) is not None:
        return renamed(each.key, new)
    group, known = each.key, words.choices(each.key)
    if each.prefix:
        return Fault(
            shown(str(each)), f"a choice is written {shown(f'{group}={each.text}')}", "form"
        )
    if group not in groups:
        return _not_open(group, words)
    name = choice_of(each)
    if name in known or (name == "null" and groups[group] is None):
        return None
    if not known:
        home = words.homes[0] if words.config_dir else "a folder given by --config-dir"
        text = f"expected a file {group}/{shown(name)}.yaml in {home}"
        return Fault(f"{group}={shown(name)}", text)
    if "/" in name and group == "data":
        hint = f" For images in a folder: data=folder data.root={shown(name)}"
    else:
        hint = did_you_mean(name, known)
    text = f"expected one of {', '.join(_closest_first(name, known))}.{hint}"
    return Fault(f"{group}={shown(name)}", text)


def _not_open(group: str, words: Words) -> Fault:
    if words.config_name:
        text = (
            f"{words.config_name}.yaml has no choice of it; set its keys by "
            f"{group}.KEY=..., or start from the command's own file"
        )
        return Fault(group, text)
    return Fault(group, "unknown setting of this command.", "unknown")


def _closest_first(word: str, choices: list[str]) -> list[str]:
    """All choices, the most similar ones first."""
    ratio = {name: difflib.SequenceMatcher(None, word, name).ratio() for name in choices}
    return sorted(choices, key=lambda name: -ratio[name])


def key_fault(each: Assignment, config: Any, groups: list[str], kind: Any) -> Fault | None:
    """What is wrong with the key of a setting, if anything.

    Args:
        config: what it is put into.
        groups: keys that are choices.
        kind: the dataclass of all settings.
    """
    from omegaconf import DictConfig, ListConfig, OmegaConf

    key, typed = each.key, shown(str(each))
    if (new := new_key(key)) is not None:
        return renamed(key, new)
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, ListConfig):
        return Fault(key, f"{parent} is a list; give all of it: {parent}=[...]")
    if isinstance(node, DictConfig) and last in list(node.keys()):
        if each.prefix == "+":
            return Fault(typed, f"is a setting already; write {typed[1:]}", "form")
        if each.text.strip() == "{}" and node[last]:
            return Fault(typed, "changes nothing; expected what is to change")
        return None
    if is_open(kind, key) and not each.removes:
        return None
    plain = OmegaConf.to_container(config)
    known = [*_keys(plain), *(name for name in groups if not name.startswith("hydra"))]
    return Fault(shown(key), f"unknown setting.{_key_hint(key, known, node)}", "unknown")


def _key_hint(key: str, known: list[str], node: Any) -> str:
    (parent, _, last), known = key.rpartition("."), list(dict.fromkeys(known))
    same = [name for name in known if name.split(".")[-1] == last]
    if not same:
        same = [name for name in known if means_same(last, name.split(".")[-1])]
        same = [name for name in same if name.rpartition(".")[0] == parent] or same
    ends = [name for name in known if f"_{last}" in f"_{name.split('.')[-1]}"]  # labels_per_class
    same = same or (ends if len(last) > 3 else [])
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.75)
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if same or close:
        return f" Did you mean {', '.join(same[:3] or close)}?"
    beside = list(node.keys()) if hasattr(node, "keys") else []
    names = [str(name) for name in beside if name not in ("hydra", "name")]
    return f" Known here: {', '.join(names)}." if names else ""


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [prefix.rstrip(".")]
    inner = [key for name, item in value.items() for key in _keys(item, f"{prefix}{name}.")]
    return [*([prefix.rstrip(".")] if prefix else []), *inner]
