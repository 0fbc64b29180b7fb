"""Runs a command once, or as a hydra sweep; everything is checked before any folder is made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from genkt.config.read_config import Config, read_config, read_sorted
from genkt.settings.assignments import Assignment, Said, read_word
from genkt.settings.faults import Fault, SettingsError, refuse
from genkt.settings.kinds import is_open, kinds_of
from genkt.settings.values import parse_override, quote, sweep_parts
from genkt.settings.words import Words, sort_words, with_models
from genkt.types import UserError

__all__ = ["read_config", "run_command"]


def run_command(
    kind: type[Config],
    command: str,
    words: Sequence[Said],
    task: Callable[[Config], float | None],
) -> None:
    """Run ``task`` on the settings of the words; with -m, on each setting of a sweep.

    A sweep goes through hydra, so that its sweepers and launchers work; ``task`` returns the
    metric they read.
    """
    sorted_words = sort_words(words, command)
    if sorted_words.multirun:
        check_jobs(kind, command, sorted_words)
        _sweep(kind, command, sorted_words, task)
    else:
        task(read_sorted(kind, command, sorted_words))


def _sweep(
    kind: type[Config], command: str, words: Words, task: Callable[[Config], float | None]
) -> None:
    from hydra.core.hydra_config import HydraConfig

    from genkt.settings.yaml_files import hydra_sweep

    failed: list[Exception] = []
    settings = [each for one in words.settings for each in with_models(one, words)]
    has_folder = "out" in {field.name for field in fields(kind)}  # type: ignore[arg-type]

    def job(_: Any) -> float | None:
        """One job of the sweep; its folder is a numbered one inside ``out``."""
        try:
            hydra = HydraConfig.get()
            said = _of_job(settings, hydra.overrides.task)
            own = replace(words, settings=said, hydra=[], multirun=False)
            fixed = {"out": str(hydra.runtime.output_dir)} if has_folder else {}
            return task(read_sorted(kind, command, own, fixed))
        except Exception as error:  # hydra would swallow it; raised again below
            failed.append(error)
            return None

    with tempfile.TemporaryDirectory() as unused:
        # hydra's own log file would make a job's folder look taken
        overrides = ["hydra/job_logging=none", *words.hydra, *swept_words(words, kind)]
        if not has_folder:
            overrides.append(f"hydra.sweep.dir={quote(unused)}")
        try:
            hydra_sweep(words.config_name or command, words.homes, overrides, job)
        except SystemExit as error:
            raise UserError("-m: hydra ended the sweep, as said above") from error
    if failed:
        raise failed[0]


def _of_job(settings: Sequence[Assignment], overrides: Sequence[str]) -> list[Assignment]:
    """The settings of one job: those that are swept as hydra hands them back."""
    found = [each for word in overrides if (each := read_word(word))]
    chosen = {each.key: replace(each, prefix="", how="carried") for each in found}
    return [chosen.get(each.key, each) if each.how == "typed" else each for each in settings]


def swept_words(words: Words, kind: Any) -> list[str]:
    """What hydra must know of the settings: what is swept, its choices, and the folder."""
    settings = [each for one in words.settings for each in with_models(one, words)]
    found = [_swept(each, words, kind) for each in settings]
    return [word for word in found if word is not None]


def _swept(each: Assignment, words: Words, kind: Any) -> str | None:
    is_choice = "." not in each.key and bool(words.choices(each.key))
    if each.removes or _chooses_nothing(each, words):
        return None
    value = each.in_hydras_grammar(() if is_choice else kinds_of(kind, each.key), sweep=True)
    override = parse_override(f"key={value}")
    is_swept = override is not None and override.is_sweep_override()
    if not (is_swept or is_choice or each.key == "out"):
        return None
    prefix = "++" if is_open(kind, f"{each.key}.") else each.prefix  # hydra wants it for new keys
    return f"{prefix}{each.key}={value}"


def _chooses_nothing(each: Assignment, words: Words) -> bool:
    """``experiment=null``, as the help page prints the default: hydra refuses it."""
    return each.text == "null" and "." not in each.key and bool(words.choices(each.key))


def check_jobs(kind: type[Any], command: str, words: Words) -> None:
    """Check the first job and, one at a time, every other value of every swept setting.

    Raises:
        SettingsError: all faults at once.
    """
    faults: list[Fault] = list(words.faults)
    try:
        swept_words(words, kind)
    except SettingsError as error:
        faults += error.faults
    values = [] if faults else [values_of(each) for each in words.settings]
    first = [options[0] for options in values]
    jobs = [first] if first or not faults else []
    for place, options in enumerate(values):
        jobs += [[*first[:place], other, *first[place + 1 :]] for other in options[1:]]
    for job in jobs:
        try:
            read_sorted(kind, command, replace(words, settings=job, faults=[], multirun=False))
        except SettingsError as error:
            faults += error.faults
    refuse(faults)


def values_of(each: Assignment) -> list[Assignment]:
    """The single settings that a swept one stands for; a sampled interval stands for itself."""
    if each.removes or each.how != "typed":
        return [each]
    if len(parts := sweep_parts(each.text)) > 1:
        return [replace(each, text=part) for part in parts]
    override = parse_override(str(each))
    if override is None or not override.is_sweep_override() or not override.is_discrete_sweep():
        return [each]
    return [replace(each, text=value, how="carried") for value in override.sweep_string_iterator()]
