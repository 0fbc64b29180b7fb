"""``genkt compare``: its own words, and words of ``genkt transfer`` for all arms."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from genkt.cli.auto import OFF, ROOM, decided, plan_in
from genkt.comparison.arm_task import arm_folder
from genkt.comparison.plan_arms import ArmSettings, Option
from genkt.config.compare_settings import (
    Arm,
    CompareConfig,
    TuningSettings,
    arms_of,
    as_settings,
    candidates_of,
)
from genkt.config.read_config import read_config, with_settings
from genkt.config.transfer_settings import TransferConfig
from genkt.io import did_you_mean
from genkt.settings.assignments import Said, key_of, keys_of, read_word
from genkt.settings.faults import Fault, SettingsError, faults_of, refuse
from genkt.transfers.plan_rules import Derived
from genkt.types import UserError

_FLAGS = ("--config-dir", "-cd")
_LISTS = {f"{key}s": key for key in ("method", "transfer_set", "teacher", "student")}
"""``methods=[a,b]`` and the like: lists whose product are the arms."""


@dataclass(frozen=True)
class CheckedComparison:
    """A comparison that has been read and checked: its own settings, and every arm's."""

    config: CompareConfig
    arms: tuple[ArmSettings, ...]
    words: tuple[str, ...]


def run(words: list[str]) -> None:
    """Train the arms, print the table and where the report is."""
    found = read_comparison(words)
    command = shlex.join(["genkt", "compare", *words])
    from genkt.comparison.compare_arms import describe, planned, run_compare

    if found.config.dry_run:
        print(planned(found.config, found.arms))
        return
    result = run_compare(found.config, found.arms, command=command, words=found.words)
    print(describe(result))
    if result.data.failed:
        lines = [f"arm {name}: {reason}" for name, reason in result.data.failed]
        raise UserError("\n".join([*lines, "the same command tries these arms again"]))


def read_comparison(words: Sequence[Said]) -> CheckedComparison:
    """The comparison that a command line describes.

    Raises:
        UserError: every fault of the comparison, then of all arms; one line each.
    """
    own, shared, folder = sort_out(words)
    config = read_config(CompareConfig, "compare", [*folder, *own])
    shared = merged(shared)
    arms, heard = [], set[str]()
    faults: dict[Arm, tuple[Fault, ...]] = {}
    for arm in arms_of(config.study):
        told = merged(config.study.words, shared, arm.words)
        try:
            room = [] if plan_in(told) == OFF else list(ROOM)
            settings, told = _read_arm(arm, told, shared, [*folder, *room])
            out = f"out={config.out}-{arm.name}"
            heard |= set(map(str, told))
            settings, told, plan = _planned(
                settings, told, folder, arm_folder(config.out, arm.name)
            )
            options = _candidates(arm, settings, told, folder, config.study.tuning, out)
            _refuse_said_twice(options, [*shared, *arm.words])
        except UserError as error:
            faults[arm] = faults_of(error)
            continue
        chosen = options[0].config if options else settings
        arms.append(ArmSettings(arm, chosen, _command(folder, told, out), options, plan=plan))
    if faults:
        raise SettingsError(_told(faults, len(faults) + len(arms)))
    if any(each.config.smoke for each in arms):
        text = "expected false; only genkt transfer makes a smoke run"
        raise SettingsError([Fault("smoke", text)])
    refuse(_grid_faults(config, arms))
    why = "no arm takes this setting: each has its own of the key, or none"
    refuse(Fault(str(word), why) for word in shared if str(word) not in heard)
    words_of_all = tuple(map(str, merged(config.study.words, shared)))
    return CheckedComparison(config, tuple(arms), words_of_all)


def _planned(
    settings: TransferConfig, told: list[Said], folder: list[str], out: Path
) -> tuple[TransferConfig, list[Said], tuple[Derived, ...]]:
    """An arm's settings, its words and what was derived, where it has ``plan=``.

    Args:
        out: the arm's folder, which may hold its plan already.
    """
    if plan_in(told) == OFF:
        return settings, told, ()
    found = decided([*folder, *told, "baseline=false", f"out={out}"])
    words = found.words[: len(found.plan)] + told
    return read_config(TransferConfig, "transfer", [*folder, *words]), words, found.plan


def _candidates(
    arm: Arm, settings: TransferConfig, told: Sequence[Said], folder: list[str],
    tuning: TuningSettings | None, out: str,
) -> tuple[Option, ...]:  # fmt: skip
    """What an arm's settings are chosen from."""
    found = []
    grid = tuning.grids.get(_grid(arm, settings, tuning), {}) if tuning else {}
    for values in candidates_of(grid):
        own = as_settings(values)
        command = _command(folder, merged(told, own), out)
        found.append(Option(own, with_settings(settings, values), command))
    return tuple(found)


def _refuse_said_twice(options: Sequence[Option], words: Sequence[Said]) -> None:
    """A grid must not take the place of what the user or the arm says. Raises: UserError."""
    said = {key_of(word): word for word in words}
    keys = dict.fromkeys(word.partition("=")[0] for option in options for word in option.words)
    if clash := [said[key] for key in keys if key in said]:
        text = f"{clash[0]} is given already; drop it or its grid"
        raise SettingsError([Fault("study.tuning.grids", text)])


def _grid(arm: Arm, settings: TransferConfig, tuning: TuningSettings) -> str:
    """The arm's own grid, or that of its method or recipe."""
    return arm.name if arm.name in tuning.grids else settings.main_arm


def _grid_faults(config: CompareConfig, arms: Sequence[ArmSettings]) -> list[Fault]:
    """Grids that belong to no arm."""
    tuning = config.study.tuning
    if tuning is None:
        return []
    used = {_grid(each.arm, each.config, tuning) for each in arms}
    known = sorted({each.arm.name for each in arms} | {each.config.main_arm for each in arms})
    return [
        Fault(
            "study.tuning.grids",
            f'"{name}": neither an arm nor the method or recipe of one.'
            + (did_you_mean(name, known) or f" Known here: {', '.join(known)}."),
        )
        for name in tuning.grids
        if name not in used
    ]


def _command(folder: list[str], told: Sequence[Said], out: str) -> str:
    return shlex.join(["genkt", "transfer", *folder, *map(str, told), "baseline=false", out])


def _read_arm(
    arm: Arm, told: list[Said], shared: Sequence[Said], folder: list[str]
) -> tuple[TransferConfig, list[Said]]:
    """An arm's settings, and the words that were applied to it.

    A common setting is not applied to an arm whose choice does not have it: method.beta=3
    is for methods that have a beta, and the baseline has none.
    """
    chosen = {key for key in keys_of(arm.words) if "." not in key}
    try:
        return read_config(TransferConfig, "transfer", [*folder, *told]), told
    except SettingsError as error:
        unknown = {fault.key for fault in error.faults if fault.kind == "unknown"}
        foreign = [
            word
            for word in shared
            if (key := key_of(word)) and key.partition(".")[0] in chosen and key in unknown
        ]
        if not foreign:
            raise
    told = [word for word in told if word not in foreign]
    return read_config(TransferConfig, "transfer", [*folder, *told]), told


def _told(faults: dict[Arm, tuple[Fault, ...]], num_arms: int) -> list[Fault]:
    """Every fault once, with its arms unless it is that of all."""
    told: dict[Fault, list[str]] = {}
    for arm, found in faults.items():
        for fault in found:
            told.setdefault(fault, []).append(arm.name)
    return [
        fault if len(names) == num_arms else Fault(f"arm {', '.join(names)}", str(fault))
        for fault, names in told.items()
    ]


def sort_out(words: Sequence[Said]) -> tuple[list[Said], list[Said], list[str]]:
    """(words of the comparison itself, words of all its arms, the folder of YAML files).

    >>> own, shared, folder = sort_out(["methods=[aft,stl]", "train.steps=9", "study.title=T"])
    >>> [str(word) for word in own]
    ['study=product', 'study.product.method=[aft,stl]', 'study.title=T']
    >>> shared, folder
    (['train.steps=9'], [])
    """
    known = {field.name for field in fields(CompareConfig)}
    own: list[Said] = []
    shared: list[Said] = []
    folder: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, _ = str(word).partition("=")
        found, key = read_word(word), key_of(word)
        if flag in _FLAGS:
            folder = [flag if not equals else str(word)]
            folder += [] if equals or not rest else [str(rest.pop(0))]
        elif word in ("-m", "--multirun"):
            raise UserError("-m: arms take the place of a sweep here: methods=[a,b], or a study")
        elif found and key in _LISTS:
            own.append(found.under(f"study.product.{_LISTS[key]}"))
        elif key is None or key.split(".")[0] in known:
            own.append(word)  # an unknown setting is reported once, as one of the comparison
        else:
            shared.append(word)
    keys = keys_of(own)
    if any(key.startswith("study.product.") for key in keys) and "study" not in keys:
        own.insert(0, "study=product")
    return own, shared, folder


def merged(*groups: Sequence[Said]) -> list[Said]:
    """The words of several places, later ones in the place of earlier ones of the same key.

    >>> merged(["data=digits", "draws=5"], ["method=aft"], ["draws=2"])
    ['data=digits', 'draws=2', 'method=aft']
    """
    found: dict[str, Said] = {}
    for word in (word for group in groups for word in group):
        found[key_of(word) or str(word)] = word
    return list(found.values())
