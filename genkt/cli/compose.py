"""From sorted words to one plain configuration, composed by hydra, with every fault at once."""

from __future__ import annotations

import copy
import difflib
import functools
import os
from typing import Any

from genkt.cli.values import parse_override
from genkt.cli.words import MODEL_GROUPS, Words, hydra_words, is_mapping_entry, split_word
from genkt.io import did_you_mean, shown
from genkt.settings.faults import Fault, SettingsError, faults_of
from genkt.settings.written import kept
from genkt.synonyms import means_same
from genkt.types import UserError

_INTERNAL = ("hydra.", "hydra/")
_MADE_UP = "data."
"""What a smoke run brings along."""
_OPEN = "recipe.stages."
"""Keys below it are checked by the types of the stages."""


def compose(command: str, words: Words, faults: list[Fault], kind: Any = None) -> dict[str, Any]:
    """The plain configuration of a command; every fault found is appended to ``faults``.

    Args:
        kind: the dataclass of its settings; None: not known.

    Returns:
        The configuration, or {} where none can be made of these words.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from genkt.cli.hydra_files import resolver_faults

    faults.extend(words.faults)
    primary = words.config_name or command
    if fault := _primary_fault(primary, words):
        faults.append(fault)
        return {}
    try:
        overrides = hydra_words(words, kind=kind)
    except SettingsError as error:
        faults.extend(error.faults)
        return {}
    config = _compose(primary, words, overrides, faults)
    if config is None:
        return {}
    faults.extend(found := resolver_faults(config))
    if found:
        return {}
    try:
        for key in sorted(OmegaConf.missing_keys(config)):
            if config.get("smoke") is True and key.startswith(_MADE_UP):
                OmegaConf.update(config, key, "made up")
                continue
            faults.append(Fault(key, f"required; give {key}=...", "missing"))
            OmegaConf.update(config, key, None)  # ``read_config`` says no more about this key
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        faults.append(_described(error))
        return {}
    assert isinstance(plain, dict)
    if plain.pop("experiment", None):
        text = 'its file must start with the line "# @package _global_"'
        faults.append(Fault("experiment", text))
    return {str(key): value for key, value in kept(plain).items()}


def _primary_fault(primary: str, words: Words) -> Fault | None:
    if any(os.path.isfile(home / f"{primary}.yaml") for home in words.homes):
        return None
    known = sorted({path.stem for home in words.homes for path in home.glob("*.yaml")})
    text = (
        f"no {shown(primary)}.yaml in {words.homes[0]} (known: {', '.join(known)})"
        f"{did_you_mean(primary, known)}"
    )
    return Fault(f"--config-name {shown(primary)}", text)


def _compose(primary: str, words: Words, overrides: list[str], faults: list[Fault]) -> Any:
    """Hydra's configuration without the overrides that are at fault; None where there is none."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        groups = dict(_base(primary, words, []).hydra.runtime.choices)
        told = [(word, _choice_fault(word, groups, words)) for word in overrides]
        faults += [fault[1] for _, fault in told if fault]
        # settings of a group whose choice is not known cannot be judged
        lost = {fault[0] for _, fault in told if fault}
        good = [w for w, fault in told if not fault and not _is_default(w, groups)]
        refused = [word for word in good if _refused_by_hydra(primary, words, word)]
        faults += [Fault(shown(word), "hydra has no such setting or value") for word in refused]
        good = [word for word in good if word not in refused]
        choosing = [word for word in good if _group_of(word) in groups]
        base = _base(primary, words, choosing)
        setting = [w for w in good if _group_of(w) not in groups and _group_of(w) not in lost]
        setting = [word for word in setting if not _key_fault(word, base, groups, faults)]
        config = _hydra_config(primary, words, [*choosing, *map(_opened, setting)])
    except UserError as error:  # a file that is no YAML
        faults.extend(faults_of(error))
        return None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        faults.append(_described(error))
        return None
    return _without_hydra(config)


def _refused_by_hydra(primary: str, words: Words, word: str) -> bool:
    """Whether hydra's own settings do not take a word that sets one of them."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not word.lstrip("+~").startswith(_INTERNAL):
        return False
    try:
        _hydra_config(primary, words, [word])
    except (HydraException, OmegaConfBaseException, ValueError):
        return True
    return False


def without_defaults(command: str, words: Words, overrides: list[str]) -> list[str]:
    """The overrides but those that choose nothing where nothing is chosen, which hydra refuses."""
    groups = dict(_base(words.config_name or command, words, []).hydra.runtime.choices)
    return [word for word in overrides if not _is_default(word, groups)]


def _is_default(word: str, groups: dict[str, Any]) -> bool:
    """Whether a word is ``experiment=null``, as the help page prints the default."""
    group, equals, value = word.partition("=")
    return bool(equals) and value == "null" and group in groups and groups[group] is None


def _opened(word: str) -> str:
    """A setting of a stage may be one that its YAML does not spell out."""
    return f"++{word.lstrip('+')}" if _is_open(word) else word


def _is_open(word: str) -> bool:
    return word.lstrip("+").startswith(_OPEN)


def hydra_engine(words: Words) -> Any:
    """Hydra over the user's folder of YAML files and genkt's own, in this order.

    The public entry points take one folder and look for the primary file there alone.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    from genkt.cli.hydra_files import folder_address

    homes = words.homes
    search = create_config_search_path(folder_address(homes[0]))
    for home in homes[1:]:
        search.append(
            provider="genkt", path=folder_address(home), anchor=SearchPathQuery(provider="main")
        )
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2("genkt", search)


def _base(primary: str, words: Words, choosing: list[str]) -> Any:
    """The configuration that choices give, only to be read; of genkt's own files composed once."""
    if len(words.homes) > 1:
        return _hydra_config(primary, words, choosing)
    return _own_base(primary, tuple(choosing))


@functools.lru_cache(maxsize=256)  # a comparison reads a hundred settings of a few choices
def _own_base(primary: str, choosing: tuple[str, ...]) -> Any:
    return _hydra_config(primary, Words(), list(choosing))


def _hydra_config(primary: str, words: Words, overrides: list[str]) -> Any:
    from hydra.types import RunMode

    engine = hydra_engine(words)
    return engine.compose_config(primary, overrides, run_mode=RunMode.RUN, from_shell=False)


def _without_hydra(config: Any) -> Any:
    from omegaconf import open_dict

    with open_dict(config):
        config.pop("hydra", None)
    return config


def _group_of(word: str) -> str:
    """The first part of the key: a group's name where the word chooses or sets one's keys."""
    pair = split_word(word)
    key = pair[0] if pair else word.lstrip("~+")
    is_choice = pair is not None and "." not in key
    return key if is_choice else key.partition(".")[0] + "."


def _choice_fault(word: str, groups: dict[str, Any], words: Words) -> tuple[str, Fault] | None:
    """(what the word's settings would start with, the fault) where it chooses what is not there."""
    pair = split_word(word)
    if pair is None or "." in pair[0] or pair[0].startswith(_INTERNAL):
        return None
    group = pair[0]
    known = words.choices(group)
    if word.startswith("+") and (group in groups or known):
        text = f"a choice is written {shown(word.lstrip('+'))}"
        return f"{group}.", Fault(shown(word), text, "form")
    override = parse_override(word)
    name = str(override.value()) if override else pair[1]
    if group not in groups:
        if group not in MODEL_GROUPS and not known:
            return None  # no group at all: a setting
        return f"{group}.", _not_open(group, words)
    if name in known or (name == "None" and groups[group] is None):
        return None
    if not known:
        home = words.homes[0] if words.config_dir else "a folder given by --config-dir"
        name = shown(name)
        return f"{group}.", Fault(
            f"{group}={name}", f"expected a file {group}/{name}.yaml in {home}"
        )
    if "/" in name and group == "data":
        hint = f" For images in a folder: data=folder data.root={shown(name)}"
    else:
        hint = did_you_mean(name, known)
    ordered = ", ".join(closest_first(name, known))
    return f"{group}.", Fault(f"{group}={shown(name)}", f"expected one of {ordered}.{hint}")


def _not_open(group: str, words: Words) -> Fault:
    if words.config_name:
        text = (
            f"{words.config_name}.yaml has no choice of it; set its keys by "
            f"{group}.KEY=..., or start from the command's own file"
        )
        return Fault(group, text)
    return Fault(group, "unknown setting of this command.", "unknown")


def closest_first(word: str, choices: list[str]) -> list[str]:
    """All choices, the most similar ones first."""
    ratio = {name: difflib.SequenceMatcher(None, word, name).ratio() for name in choices}
    return sorted(choices, key=lambda name: -ratio[name])


def _key_fault(word: str, base: Any, groups: dict[str, Any], faults: list[Fault]) -> bool:
    """Whether a word sets a key that does not exist (then a fault says so)."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    key = pair[0] if (pair := split_word(word)) else word.lstrip("~")
    if _is_open(word) or is_mapping_entry(word) or key.startswith(_INTERNAL):
        return False
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    if isinstance(node, ListConfig):
        faults.append(Fault(key, f"{parent} is a list; give all of it: {parent}=[...]"))
        return True
    if isinstance(node, DictConfig) and last in list(node.keys()):
        if word.startswith("+") and not word.startswith("++"):
            text = f"is a setting already; write {shown(word[1:])}"
            faults.append(Fault(shown(word), text, "form"))
            return True
        if pair and pair[1].strip() == "{}" and node[last]:
            faults.append(Fault(shown(word), "changes nothing; expected what is to change"))
            return True
        return False
    plain = OmegaConf.to_container(_without_hydra(copy.deepcopy(base)))
    known = [*_keys(plain), *(name for name in groups if not name.startswith("hydra"))]
    text = f"unknown setting.{_key_hint(key, known, node)}"
    faults.append(Fault(shown(key), text, "unknown"))
    return True


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


def _described(error: Exception) -> Fault:
    """One line of hydra's or OmegaConf's about what no check here knows, with the key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    key = getattr(error, "full_key", None)
    return Fault(key or "", text)
