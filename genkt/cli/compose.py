"""From the words of a command line to one plain configuration, with every fault at once.

hydra composes; this module looks at the words first, so that a typo is answered by a suggestion
and all mistakes are reported together.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genkt.io import did_you_mean, resource

MODEL_GROUPS = ("student", "teacher")
_OPEN = re.compile(r"^(student|teacher)\.(args|transform)[.=]")
_OVERRIDE = re.compile(r"^[~+]{0,2}([A-Za-z_][\w@/.]*)=(.*)$", re.DOTALL)


@dataclass
class Words:
    """A command line, sorted: hydra's own flags, overrides and what is neither."""

    overrides: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    multirun: bool = False
    faults: list[str] = field(default_factory=list)


def sort_words(words: list[str], command: str) -> Words:
    """Split the words of a command; anything not understood becomes a fault with a remedy."""
    result = Words()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-m", "--multirun"):
            result.multirun = True
        elif word.split("=")[0] in ("--config-dir", "--config-name", "-cd", "-cn"):
            flag, _, value = word.partition("=")
            value = value or (rest.pop(0) if rest else "")
            if not value:
                result.faults.append(f"{flag}: expected a value after it")
            elif flag in ("--config-dir", "-cd"):
                result.config_dir = value
            else:
                result.config_name = value
        elif word.startswith("-"):
            key = word.lstrip("-").partition("=")[0].replace("-", "_") or "key"
            result.faults.append(f"{word}: settings are written key=value, e.g. {key}=...")
        elif _OVERRIDE.match(word) or word.startswith("~"):
            result.overrides.append(word)
        else:
            result.faults.append(
                f'"{word}": expected key=value; genkt {command} --help lists the keys'
            )
    return result


def compose(command: str, words: Words, faults: list[str]) -> dict[str, Any]:
    """The plain configuration of a command; every fault found is appended to ``faults``."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    faults.extend(words.faults)
    primary = words.config_name or command
    homes = config_homes(words.config_dir)
    directory = next((home for home in homes if (home / f"{primary}.yaml").is_file()), None)
    if directory is None:
        known = sorted(path.stem for path in homes[0].glob("*.yaml"))
        hint = ", ".join(known) or "no YAML file"
        faults.append(f"--config-name {primary}: not in {homes[0]} (there: {hint})")
        return {}
    overrides = hydra_words(words.overrides)
    choosing = [word for word in overrides if _is_choice(word)]
    setting = [word for word in overrides if not _is_choice(word)]
    choosing = [word for word in choosing if not _choice_fault(word, words.config_dir, faults)]
    search = search_path(homes, directory)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(directory), version_base="1.3"):
        try:
            base = hydra_compose(primary, overrides=search + choosing)
            setting = [word for word in setting if not _key_fault(word, base, faults)]
            config = hydra_compose(primary, overrides=search + choosing + setting)
        except (HydraException, OmegaConfBaseException) as error:
            faults.append(_first_line(error))
            return {}
    for key in sorted(OmegaConf.missing_keys(config)):
        faults.append(f"{key}: required; give {key}=...")
        OmegaConf.update(config, key, None)  # ``read_config`` says no more about this key
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        faults.append(_first_line(error))
        return {}
    assert isinstance(plain, dict)
    plain.pop("experiment", None)
    return {str(key): value for key, value in plain.items()}


def config_homes(config_dir: str | None) -> list[Path]:
    """The user's folder of YAML files, where given, before genkt's own."""
    own = [resource("configs")]
    return [Path(config_dir).resolve(), *own] if config_dir else own


def search_path(homes: list[Path], directory: Path) -> list[str]:
    """The override that lets hydra look in the folders beside that of the primary config."""
    others = [f"'file://{home}'" for home in homes if home != directory]
    return [f"hydra.searchpath=[{','.join(others)}]"] if others else []


def hydra_words(words: list[str]) -> list[str]:
    """Overrides in hydra's grammar: model names spelled out, odd values quoted, open mappings."""
    return [_quoted(_open(part)) for word in words for part in model_word(word)]


def _open(word: str) -> str:
    """``student.args`` and the like take any entries: hydra wants ``++`` for that."""
    return f"++{word}" if _OPEN.match(word) else word


def _quoted(word: str) -> str:
    """Quote a value that hydra's grammar would trip over, such as a path with "=" or a space."""
    match = _OVERRIDE.match(word)
    if (
        not match
        or match[2][:1] in ("[", "{", "'", '"', "$")
        or not set(match[2]) & set("= ()#@&;")
    ):
        return word
    value = match[2].replace("\\", "\\\\").replace('"', '\\"')
    return f'{word[: match.start(2)]}"{value}"'


def model_word(word: str) -> list[str]:
    """``student=resnet18`` and ``teacher=[a,b]`` name timm models where no file is so called."""
    match = _OVERRIDE.match(word)
    if not match or match[1] not in MODEL_GROUPS:
        return [word]
    group, value = match[1], match[2]
    if (resource("configs") / group / f"{value}.yaml").is_file() or not value:
        return [word]
    if not value.startswith(("[", "'", '"')):
        value = f'"{value}"'
    elif value.startswith("["):
        names = [name.strip().strip("'\"") for name in value.strip("[]").split(",")]
        value = "[" + ",".join(f'"{name}"' for name in names) + "]"
    return [f"{group}=timm", f"{group}.model={value}"]


def groups() -> list[str]:
    """The config groups: folders of alternatives in ``configs/``."""
    return sorted(path.name for path in resource("configs").iterdir() if path.is_dir())


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """The alternatives of a group, the user's own folder included."""
    homes = config_homes(config_dir)
    return sorted({path.stem for home in homes for path in (home / group).rglob("*.yaml")})


def _is_choice(word: str) -> bool:
    match = _OVERRIDE.match(word)
    return bool(match and "." not in match[1] and match[1].split("@")[0] in groups())


def _choice_fault(word: str, config_dir: str | None, faults: list[str]) -> bool:
    match = _OVERRIDE.match(word)
    assert match
    group, value = match[1], match[2]
    known = choices(group, config_dir)
    wanted = value.split(",") if "," in value else [value]
    unknown = [name for name in wanted if name not in known]
    for name in unknown:
        ordered = difflib.get_close_matches(name, known, n=len(known), cutoff=0.0)
        hint = did_you_mean(name, known)
        faults.append(f"{group}={name}: expected one of {', '.join(ordered)}.{hint}")
    return bool(unknown)


def _key_fault(word: str, base: Any, faults: list[str]) -> bool:
    """Whether a word sets a key that does not exist (then a fault says so)."""
    from omegaconf import DictConfig, OmegaConf

    match = _OVERRIDE.match(word)
    if not match or word.startswith(("~", "+")) or match[1].startswith("hydra."):
        return False
    key = match[1]
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    if isinstance(node, DictConfig) and last in list(node.keys()):
        return False
    known = _keys(OmegaConf.to_container(base, resolve=False, throw_on_missing=False))
    same = [name for name in known if name.split(".")[-1] == last]
    close = difflib.get_close_matches(key, known + groups(), n=3, cutoff=0.75)
    close = close or difflib.get_close_matches(key, known + groups(), n=1, cutoff=0.5)
    hint = f" Did you mean {', '.join(same[:3] or close)}?" if same or close else ""
    faults.append(f"{key}: unknown setting.{hint}")
    return True


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [prefix.rstrip(".")]
    return [key for name, item in value.items() for key in _keys(item, f"{prefix}{name}.")]


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
