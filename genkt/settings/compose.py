"""From sorted words to one plain configuration: hydra makes the choices, each setting is put in."""

from __future__ import annotations

import copy
import functools
import os
from pathlib import Path
from typing import Any

from genkt.earlier import new_key
from genkt.io import did_you_mean, shown
from genkt.settings.assignments import Assignment
from genkt.settings.faults import Fault, SettingsError, faults_of, renamed
from genkt.settings.key_faults import choice_fault, choice_of, is_choice, key_fault
from genkt.settings.kinds import kinds_of
from genkt.settings.shorthands import make_room
from genkt.settings.values import quote
from genkt.settings.words import Words, with_models
from genkt.settings.written import kept
from genkt.types import UserError

_MADE_UP = "data."
"""What a smoke run brings along."""


def compose(command: str, words: Words, faults: list[Fault], kind: Any) -> dict[str, Any]:
    """The plain configuration of a command; every fault found is appended to ``faults``.

    Args:
        kind: the dataclass of its settings.

    Returns:
        The configuration, or {} where none can be made of these words.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    faults.extend(words.faults)
    primary = words.config_name or command
    if fault := _primary_fault(primary, words):
        faults.append(fault)
        return {}
    objects: list[Any] = []
    try:
        settings = [each for one in words.settings for each in with_models(one, words)]
        config, rest = _chosen(primary, words, settings, faults)
        groups = list(config.pop("hydra").runtime.choices)
        make_room(config, [(each.key, _value(each, kind, [])) for each in rest])
        for each in rest:
            if fault := key_fault(each, config, groups, kind):
                faults.append(fault)
            else:
                _put(config, each, kind, objects)
        found = _resolved(config, faults)
    except UserError as error:  # also of a file that is no YAML
        faults.extend(faults_of(error))
        return {}
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        faults.append(_described(error))
        return {}
    if found.pop("experiment", None):
        text = 'its file must start with the line "# @package _global_"'
        faults.append(Fault("experiment", text))
    return dict(kept(found, objects))


def _primary_fault(primary: str, words: Words) -> Fault | None:
    if any(os.path.isfile(home / f"{primary}.yaml") for home in words.homes):
        return None
    known = sorted({path.stem for home in words.homes for path in home.glob("*.yaml")})
    text = (
        f"no {shown(primary)}.yaml in {words.homes[0]} (known: {', '.join(known)})"
        f"{did_you_mean(primary, known)}"
    )
    return Fault(f"--config-name {shown(primary)}", text)


def _chosen(
    primary: str, words: Words, settings: list[Assignment], faults: list[Fault]
) -> tuple[Any, list[Assignment]]:
    """The configuration that the choices give, and the settings that are to be put into it."""
    from omegaconf import OmegaConf

    groups = dict(_base(primary, words, ()).hydra.runtime.choices)
    faults += [
        Fault(shown(word), "hydra has no such setting or value")
        for word in words.hydra
        if _refused_by_hydra(primary, words, word)
    ]
    choices: dict[str, str] = {}
    rest, lost = [], set()
    for each in settings:
        if not is_choice(each, groups, words):
            rest.append(each)
        elif fault := choice_fault(each, groups, words):
            faults.append(fault)
            lost.add(each.key)  # settings of a group whose choice is not known cannot be judged
        else:
            choices[each.key] = choice_of(each)
    overrides = [f"{group}={quote(name)}" for group, name in choices.items() if name != "null"]
    config = copy.deepcopy(_base(primary, words, tuple(overrides)))
    OmegaConf.set_struct(config, False)
    return config, [each for each in rest if each.key.partition(".")[0] not in lost]


def _refused_by_hydra(primary: str, words: Words, word: str) -> bool:
    """Whether hydra's own settings do not take a word that sets one of them."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from genkt.settings.yaml_files import hydra_compose

    try:
        hydra_compose(primary, words.homes, [word])
    except (HydraException, OmegaConfBaseException, ValueError):
        return True
    return False


def _base(primary: str, words: Words, choosing: tuple[str, ...]) -> Any:
    """The configuration that choices give, only to be read; of genkt's own files composed once."""
    from genkt.settings.yaml_files import hydra_compose

    if words.config_dir:
        return hydra_compose(primary, words.homes, choosing)
    return _own_base(primary, choosing, tuple(words.homes))


@functools.lru_cache(maxsize=256)  # a comparison reads a hundred settings of a few choices
def _own_base(primary: str, choosing: tuple[str, ...], homes: tuple[Path, ...]) -> Any:
    from genkt.settings.yaml_files import hydra_compose

    return hydra_compose(primary, homes, choosing)


def _put(config: Any, each: Assignment, kind: Any, objects: list[Any]) -> None:
    """Set one key, or take it away; a mapping is merged into the one that is there."""
    from omegaconf import OmegaConf

    parent, _, last = each.key.rpartition(".")
    if each.removes:
        (OmegaConf.select(config, parent) if parent else config).pop(last, None)
        return
    value = _value(each, kind, objects)
    merges = isinstance(value, dict) and OmegaConf.is_dict(OmegaConf.select(config, each.key))
    OmegaConf.update(config, each.key, value, merge=merges)


def _value(each: Assignment, kind: Any, objects: list[Any]) -> Any:
    """What a key is set to, as OmegaConf takes it; None where it is taken away."""
    return None if each.removes else each.value(kinds_of(kind, each.key), objects)


def _resolved(config: Any, faults: list[Fault]) -> dict[str, Any]:
    """The configuration in plain values: every reference by what it stands for, nothing missing.

    Raises:
        SettingsError: a reference to something else than a setting.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError

    from genkt.settings.yaml_files import reference_faults

    if found := reference_faults(config):
        raise SettingsError(found)
    for key in sorted(OmegaConf.missing_keys(config)):
        if config.get("smoke") is True and key.startswith(_MADE_UP):
            OmegaConf.update(config, key, "made up")
            continue
        faults.append(Fault(key, f"required; give {key}=...", "missing"))
        OmegaConf.update(config, key, None)
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        text = "expected ${KEY} with the key of a setting, got one that is not there"
        raise SettingsError([Fault(str(error.full_key or ""), text)]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _described(error: Exception) -> Fault:
    """What hydra or OmegaConf say of a file of the user's that no check here knows."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

    if isinstance(error, MissingConfigException):
        name = shown(str(error.missing_cfg_file))
        text = f"expected a file of settings {name}.yaml{did_you_mean(name, error.options or [])}"
        return Fault("defaults", text)
    known = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    key = str(getattr(known, "full_key", None) or "")
    if key and (new := new_key(key)) is not None:
        return renamed(key, new)
    if key and isinstance(known, (ConfigKeyError, ConfigAttributeError)):
        return Fault(key, "unknown setting.", "unknown")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Fault(key, (lines or [type(error).__name__])[0])
