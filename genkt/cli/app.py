"""What every command shares: compose, check everything, run once or as a hydra sweep."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from genkt.cli.compose import compose, hydra_engine, without_defaults
from genkt.cli.values import parse_override, quote, sweep_parts
from genkt.cli.words import MODEL_GROUPS, NOT_TIMM, Words, hydra_words, sort_words, split_word
from genkt.config.transfer_settings import IN_PYTHON
from genkt.io import did_you_mean, home_path, nearby, shown
from genkt.runs.transfer_rows import OWN_PARTS
from genkt.settings.faults import Fault, SettingsError, refuse
from genkt.settings.schema import parse
from genkt.settings.written import as_texts, as_values, kept

Config = TypeVar("Config")


def read_config(kind: type[Config], command: str, words: list[str]) -> Config:
    """The typed settings a command line stands for.

    Raises:
        UserError: one line a fault, all faults at once.
    """
    return _checked(kind, command, sort_words(words, command))


def _checked(kind: type[Config], command: str, words: Words) -> Config:
    faults: list[Fault] = []
    plain = compose(command, words, faults, kind)
    missing = {fault.key for fault in faults if fault.kind == "missing"}
    found: list[Fault] = []
    config = parse(kind, plain, "", found) if plain else None
    faults += [fault for fault in found if fault.key not in missing]
    texts = as_texts(plain)
    faults += _model_faults(texts, words)
    faults += [] if as_values(plain).get("smoke") is True else _path_faults(texts)
    if texts.get("device") == "cuda" and not _has_cuda():
        text = "cuda asked for, but torch sees no CUDA device here; give device=cpu"
        faults.append(Fault("device", text))
    refuse(_with_sweep_hint(fault, words) for fault in faults)
    assert isinstance(config, kind)
    return config


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """Settings with some of them changed, without another look at the YAML files.

    Args:
        values: dotted key -> value.

    Raises:
        UserError: one line a fault.
    """
    plain = asdict(config)  # type: ignore[call-overload]
    for key, value in values.items():
        *groups, last = key.split(".")
        group = plain
        for name in groups:
            group = group.get(name) if isinstance(group.get(name), dict) else {}
        if last not in group:
            text = f"unknown setting.{did_you_mean(last, group)}"
            raise SettingsError([Fault(key, text, "unknown")])
        group[last] = value
    faults: list[Fault] = []
    changed = parse(type(config), plain, "", faults)
    refuse(faults)
    assert isinstance(changed, type(config))
    return changed


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _with_sweep_hint(fault: Fault, words: Words) -> Fault:
    """``train.lr=1e-3,2e-3`` without -m is one text: say what was probably meant."""
    if words.multirun or fault.kind != "value":
        return fault
    for word in words.overrides:
        pair = split_word(word)
        several = pair is not None and "," in pair[1] and pair[1][0] not in "[{"
        if pair and several and fault.key == pair[0]:
            hint = " (a list is written [a,b]; to run each value, add -m)"
            return replace(fault, text=fault.text + hint)
    return fault


def _model_faults(plain: dict[str, Any], words: Words) -> list[Fault]:
    """What is wrong with the names of models, before anything is built."""
    faults = []
    for group in MODEL_GROUPS:
        settings = plain.get(group)
        names = settings.get("model") if isinstance(settings, dict) else None
        for name in names if isinstance(names, list) else [names]:
            from genkt.models.load import name_fault

            if group == "encoder" and str(name).startswith(NOT_TIMM):
                continue
            if isinstance(name, str) and (fault := name_fault(name)):
                hint = did_you_mean(name, words.choices(group), most=1)
                hint = hint.replace("mean ", f"mean {group}=")
                faults.append(Fault(group, f"{fault}{hint}"))
    return faults


_FILES = ("data.label_list", "data.train", "data.validation", "data.test")
_WEIGHTS = ("student.weights", "teacher.weights", "weights")
"""Files, or folders that hold one as Hugging Face lays it out."""
_PLACES = ("transfer_set.root", "transfer_set.parts")
_FOLDERS = ("data.root", "data.unlabelled", *_PLACES, "recipe.upstream")
_NO_FOLDERS = (IN_PYTHON, "auto", "glyphs")
_OTHER_PLACE = re.compile(r"^\w{2,}:|[*?\[{]|\.tar$")
"""Places of images that are no folder: hf:NAME, torchvision:NAME:ROOT, patterns, tars."""


def _path_faults(plain: dict[str, Any]) -> list[Fault]:
    """Files and folders that the settings name and that are not there."""
    faults = []
    for key in (*_WEIGHTS, *_FILES, *_FOLDERS):
        given = _select(plain, key)
        for path in given if isinstance(given, list) else [given]:
            if not isinstance(path, str) or path in _NO_FOLDERS:
                continue
            if key == "data.root" and "dataset" in plain["data"]:
                continue  # torchvision may make it
            if key in _PLACES and (path in OWN_PARTS or _OTHER_PLACE.search(path)):
                continue  # no folder: opened, and its faults told, with the data
            found = home_path(path)
            if key == "data.unlabelled" and "train" in plain["data"] and found.is_file():
                continue  # a list of files
            if not found.exists():
                own = OWN_PARTS if key == "transfer_set.parts" else ()
                meant = did_you_mean(path, own, most=1)
                hint = f".{meant}" if meant else nearby(found)
                faults.append(Fault(key, f"no such {_kind(key)}: {shown(path)}{hint}"))
            elif key not in _WEIGHTS and found.is_dir() != (key in _FOLDERS):
                faults.append(Fault(key, f"expected a {_kind(key)}: {shown(path)}"))
    return faults


def _kind(key: str) -> str:
    return "folder" if key in _FOLDERS else "file"


def _select(plain: Any, key: str) -> Any:
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, dict) else None
    return plain


def run_command(
    kind: type[Config], command: str, words: list[str], task: Callable[[Config], float | None]
) -> None:
    """Run ``task`` on the settings the words stand for; with -m, on each of a sweep's.

    Everything is composed and checked here, before any folder is made. A sweep goes through
    hydra, so that its sweepers and launchers work; ``task`` returns the metric they read.
    """
    sorted_words = sort_words(words, command)
    if sorted_words.multirun:
        _sweep(kind, command, sorted_words, task)
    else:
        task(_checked(kind, command, sorted_words))


def _sweep(
    kind: type[Config], command: str, words: Words, task: Callable[[Config], float | None]
) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    failed: list[Exception] = []

    def application(config: DictConfig) -> float | None:
        """One job of the sweep; its folder is a numbered one inside ``out``."""
        try:
            plain: Any = kept(OmegaConf.to_container(config, resolve=True))
            plain.pop("experiment", None)
            if "out" in plain:
                plain["out"] = HydraConfig.get().runtime.output_dir
            faults: list[Fault] = []
            typed = parse(kind, plain, "", faults)
            refuse(faults)
            return task(typed)
        except Exception as error:  # hydra would swallow it; raised again below
            failed.append(error)
            return None

    _check_jobs(kind, command, words)
    # hydra's own log file would make a job's folder look taken
    overrides = without_defaults(command, words, hydra_words(words, quote_sweeps=False, kind=kind))
    overrides = ["hydra/job_logging=none", *overrides]
    with tempfile.TemporaryDirectory() as unused:
        if "out" not in {field.name for field in fields(kind)}:  # type: ignore[arg-type]
            overrides.append(f"hydra.sweep.dir={quote(unused)}")
        hydra_engine(words).multirun(words.config_name or command, application, overrides)
    if failed:
        raise failed[0]


def _check_jobs(kind: type[Any], command: str, words: Words) -> None:
    """Check the first job and, one at a time, every other value of every swept setting."""
    faults = list(words.faults)
    try:
        hydra_words(words, quote_sweeps=False, kind=kind)
    except SettingsError as error:
        faults += error.faults
    values = [] if faults else [_values(word) for word in words.overrides]
    first = [options[0] for options in values]
    jobs = [first] if first or not faults else []
    for place, options in enumerate(values):
        jobs += [[*first[:place], other, *first[place + 1 :]] for other in options[1:]]
    for job in jobs:
        try:
            _checked(kind, command, replace(words, overrides=job, faults=[], multirun=False))
        except SettingsError as error:
            faults += error.faults
    refuse(faults)


def _values(word: str) -> list[str]:
    """The single overrides that a swept one stands for; a sampled interval stands for itself."""
    pair = split_word(word)
    if pair and len(parts := sweep_parts(pair[1])) > 1:
        return [word[: len(word) - len(pair[1])] + part for part in parts]
    override = parse_override(word)
    if override is None or not override.is_sweep_override() or not override.is_discrete_sweep():
        return [word]
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
