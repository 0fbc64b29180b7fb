"""``pilot.json``: what a run has measured before it started, and the numbers that it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from genkt.config.transfer_settings import TransferConfig
from genkt.files import discard, read_or_forget, read_signed, write_signed
from genkt.io import reading
from genkt.settings.faults import Fault
from genkt.settings.schema import parse
from genkt.types import Cost

PILOT = "pilot.json"
"""The file of a run with its pilot."""

HOME = "pilot"
"""The folder of what a pilot trains; removed when it ends."""

_MEASURED = "measured.json"
_EXPECTED = "what a pilot has measured"

Values = dict[str, float | int]

Read = TypeVar("Read")


@dataclass(frozen=True)
class Pilot:
    """What a pilot has decided.

    Args:
        values: dotted key -> number, for every setting that was open.
        reasons: one line a setting, for the reader.
        rising: what to type where more steps would still have paid; None: they would not.
        held_out: transfer images that the student was judged on.
        rates: [rate, agreement with the teacher] of the student's trials.
        curve: [steps, agreement] with the rate that was chosen.
        student, baseline: what the trials of each cost.
        labels: whether validation labels chose the baseline's rate.
    """

    values: Values
    reasons: tuple[str, ...] = ()
    rising: str | None = None
    held_out: int = 0
    rates: tuple[tuple[float, float], ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    student: Cost = field(default_factory=Cost)
    baseline: Cost = field(default_factory=Cost)
    labels: bool = False

    def notes(self) -> list[str]:
        """For the report, and for the screen when the pilot has ended."""
        return [f"Pilot: {reason}" for reason in [*self.reasons, self.rising] if reason]

    def decided(self, config: TransferConfig) -> TransferConfig:
        """The settings with numbers in place of what was open."""
        return with_values(config, self.values)

    def recorded(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """The same for plain settings."""
        found = {**plain, "minutes": None} if self.values else dict(plain)
        for key, value in self.values.items():
            group, _, name = key.rpartition(".")
            if group:
                found[group] = {**found[group], name: value}
            else:
                found[name] = value
        return found


def with_values(config: TransferConfig, values: Values) -> TransferConfig:
    """Settings with numbers in place of "auto"; of the others none changes."""
    train, plain = config.train, config.plain
    if "train.steps" in values:
        train = replace(train, steps=int(values["train.steps"]), epochs=None)
    if "train.lr" in values:
        train = replace(train, lr=float(values["train.lr"]))
    if "plain.lr" in values:
        plain = replace(plain, lr=float(values["plain.lr"]))
    draws = int(values["draws"]) if "draws" in values else config.draws
    return replace(config, train=train, plain=plain, draws=draws, minutes=None)


def write_pilot(folder: Path, pilot: Pilot) -> None:
    """Write ``pilot.json``."""
    write_signed(folder / PILOT, asdict(pilot))


def read_pilot(folder: Path) -> Pilot | None:
    """The pilot of a run; None: there is none yet. A damaged one is removed, and that is told."""
    path = folder / PILOT

    def read() -> Pilot:
        found = read_signed(path, _EXPECTED)
        with reading(path, _EXPECTED):
            return _typed(Pilot, found)

    return read_or_forget(path, read, "the pilot is run again") if path.exists() else None


def _typed(kind: type[Read], value: Any) -> Read:
    """What a file says, as a dataclass. Raises: ValueError: it does not fit."""
    faults: list[Fault] = []
    found = parse(kind, value, "", faults)
    if faults:
        raise ValueError(f"{faults[0].key}: {faults[0].text}")
    assert isinstance(found, kind)
    return found


@dataclass(frozen=True)
class Measurement:
    """One trial: the cost so far, and one score for each image."""

    cost: Cost
    scores: tuple[float, ...]


class Measured:
    """The trials of a pilot that have ended, on disk, so that none is run twice.

    Args:
        folder: of the run.  enabled: False for processes that do not write.
    """

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._path, self._enabled = folder / HOME / _MEASURED, enabled
        self.known: dict[str, Measurement] = {}
        if enabled and self._path.exists():
            found = read_or_forget(self._path, self._read, "the pilot is run again")
            if found is None:  # a training may have gone on beyond what is measured again
                discard(self._path.parent)
            self.known = found or {}

    def _read(self) -> dict[str, Measurement]:
        found = read_signed(self._path, _EXPECTED)
        with reading(self._path, _EXPECTED):
            return {name: _typed(Measurement, one) for name, one in found.items()}

    def add(self, name: str, measurement: Measurement) -> None:
        """Keep one."""
        self.known[name] = measurement
        if self._enabled:
            write_signed(self._path, {key: asdict(one) for key, one in self.known.items()})
