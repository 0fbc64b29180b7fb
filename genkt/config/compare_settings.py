"""Settings of a comparison, and the arms that a study spells out."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from genkt.execution.tasks import ExecutorSettings
from genkt.io import did_you_mean
from genkt.settings.bounds import Repeats
from genkt.settings.faults import Fault, refuse
from genkt.types import Range

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class SweepSettings:
    """One arm per value of one setting; shown as a line over the values.

    Args:
        name: of the line.
        setting: the key that takes the values.
        words: further settings of every arm of the sweep.
    """

    name: str
    setting: str
    values: list[Annotated[int | float, Range(-(10**15), 10**15)]]
    words: list[str]


@dataclass(frozen=True)
class TuningSettings:
    """``study.tuning``: settings of arms that are chosen, as ``validation`` says.

    Args:
        draws: label draws that a candidate is judged on; they follow those of the comparison, so
            that settings are not chosen on the draws that arms are compared on.
        grids: arm, or method or recipe of several arms -> setting -> values; every combination is a
            candidate. All have as many: a method must not win by a longer search.
    """

    draws: Repeats
    grids: dict[str, Any]


@dataclass(frozen=True)
class StudySettings:
    """``study``: what is compared; see ``configs/study``.

    Args:
        name: of the study.  title: what the report calls it.
        words: settings of ``genkt transfer`` for every arm.
        baseline: the arm that all others are compared with.
        reference: a second arm that all others are compared with, or None.
        arms: arm -> its own settings of ``genkt transfer``.
        names: arm -> its name for the reader, if different.
        product: setting -> values; every combination is an additional arm.
        sweeps: arms that differ in one number.
        pairs: [a, b] arms whose difference a - b is a question of the study.
        tuning: how settings of arms are chosen, or None.
    """

    name: str
    title: str
    words: list[str]
    baseline: str
    reference: str | None
    arms: dict[str, Any]
    names: dict[str, Any]
    product: dict[str, Any]
    sweeps: list[SweepSettings]
    pairs: list[list[str]]
    tuning: TuningSettings | None = None

    def __post_init__(self) -> None:
        """Refuse arms with equal names, and names of arms that do not exist.

        Raises:
            UserError: one line per fault.
        """
        refuse(_shape_faults(self) or [*_name_faults(self), *_tuning_faults(self)])


@dataclass(frozen=True)
class CompareConfig:
    """All settings of ``genkt compare`` except those of its arms."""

    study: StudySettings
    out: str
    executor: ExecutorSettings
    overwrite: bool
    dry_run: bool


@dataclass(frozen=True)
class SweepPoint:
    """The place of an arm on a line.

    Args:
        sweep: the line.  setting: what varies.  value: of this arm.
    """

    sweep: str
    setting: str
    value: float


@dataclass(frozen=True)
class Arm:
    """One transfer of a study.

    Args:
        name: its folder.  title: what the reader calls it.
        words: its own settings of ``genkt transfer``.
        point: its place in a sweep, None for the arms of the table.
    """

    name: str
    title: str
    words: tuple[str, ...]
    point: SweepPoint | None = None


def arms_of(study: StudySettings) -> list[Arm]:
    """The arms of a study: those it names, the combinations of its product, its sweeps.

    >>> study = StudySettings(
    ...     "s", "S", [], "stl", None, {"stl": ["method=stl"]}, {},
    ...     {"method": ["aft", "logit_kd"], "train.lr": [0.1, 0.2], "teacher": []}, [], [])
    >>> [arm.name for arm in arms_of(study)]
    ['stl', 'aft-0.1', 'aft-0.2', 'logit_kd-0.1', 'logit_kd-0.2']
    """
    found = [(name, tuple(words), None) for name, words in study.arms.items()]
    for combination in _combinations(study.product):
        name = "-".join(_part(value) for _, value in combination)
        found.append((name, tuple(f"{key}={_shown(v)}" for key, v in combination), None))
    arms = [Arm(name, str(study.names.get(name, name)), words) for name, words, _ in found]
    for sweep in study.sweeps:
        for value in sweep.values:
            words = (*sweep.words, f"{sweep.setting}={value}")
            point = SweepPoint(sweep.name, sweep.setting, float(value))
            name = f"{_part(sweep.name)}-{value}"
            arms.append(Arm(name, f"{sweep.name}, {value:,}", words, point))
    return arms


def candidates_of(grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of a grid, the first values first.

    >>> candidates_of({"train.lr": [0.1, 0.2], "method.beta": [1]})
    [{'train.lr': 0.1, 'method.beta': 1}, {'train.lr': 0.2, 'method.beta': 1}]
    """
    return [dict(combination) for combination in _combinations(grid)]


def as_settings(values: dict[str, Any]) -> tuple[str, ...]:
    """Settings as words of the command line."""
    return tuple(f"{key}={_shown(value)}" for key, value in values.items())


def _combinations(product: dict[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
    factors = [[(key, value) for value in values] for key, values in product.items() if values]
    return list(itertools.product(*factors)) if factors else []


def _part(value: Any) -> str:
    """A value as a part of a folder's name."""
    items = value if isinstance(value, list) else [value]
    parts = [re.sub(r"[^A-Za-z0-9.]+", "_", str(item)).strip("_.") for item in items]
    return "+".join(part or "none" for part in parts)


def _shown(value: Any) -> str:
    """A value as a word of the command line."""
    if isinstance(value, list):
        return "[" + ",".join(map(_shown, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _shape_faults(study: StudySettings) -> list[Fault]:
    """Entries of the open mappings that are not allowed."""
    faults = [
        Fault(f"arms.{name}", f"expected a list of settings of genkt transfer, got {words!r}")
        for name, words in study.arms.items()
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words)
    ]
    faults += [
        Fault(f"product.{key}", f"expected a list of values, got {values!r}")
        for key, values in study.product.items()
        if not isinstance(values, list)
    ]
    pairs = [pair for pair in study.pairs if len(pair) != 2]
    return faults + [Fault("pairs", f"expected two arms [a, b], got {pair}") for pair in pairs]


def _tuning_faults(study: StudySettings) -> list[Fault]:
    """Grids of another shape, or of another number of candidates than the others."""
    if study.tuning is None:
        return []
    grids = study.tuning.grids
    faults = [
        Fault(
            f"tuning.grids.{name}",
            f"expected settings such as train.lr, each with a list of values, got {grid!r}",
        )
        for name, grid in grids.items()
        if not isinstance(grid, dict)
        or not grid
        or not all("." in key and isinstance(v, list) and v for key, v in grid.items())
    ]
    if faults:
        return faults
    counts = {name: len(set(map(as_settings, candidates_of(grid)))) for name, grid in grids.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        text = f"expected as many candidates for all, got {shown}"
        faults.append(Fault("tuning.grids", text, "together"))
    return faults


def _name_faults(study: StudySettings) -> list[Fault]:
    names = [arm.name for arm in arms_of(study)]
    faults = [
        Fault("arms", f'"{name}": expected letters, digits and any of _ . + - (it names a folder)')
        for name in names
        if not _NAME.fullmatch(name)
    ]
    faults += [
        Fault("arms", f"{name}: there are {count} arms of this name; each needs its own")
        for name, count in Counter(names).items()
        if count > 1
    ]
    known = f" Arms: {', '.join(names)}."
    asked = [("baseline", study.baseline), ("reference", study.reference)]
    asked += [("names", name) for name in study.names]
    asked += [("pairs", name) for pair in study.pairs for name in pair]
    faults += [
        Fault(key, f'"{name}": not an arm.{did_you_mean(name, names) or known}', "together")
        for key, name in dict.fromkeys(asked)
        if name is not None and name not in names
    ]
    return faults
