"""Turns the arms of a study into transfers: each runs once, and all are comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from genkt.comparison.arm_task import ArmTask, as_arm
from genkt.config.compare_settings import Arm, StudySettings
from genkt.config.transfer_settings import TransferConfig
from genkt.report.compare.compare_data import Sweep
from genkt.transfers.plan_rules import Derived
from genkt.types import UserError


@dataclass(frozen=True)
class Option:
    """Settings that an arm may run with.

    Args:
        words: those that differ from the arm's other options.
        config, command: as of an arm.
    """

    words: tuple[str, ...]
    config: TransferConfig
    command: str


@dataclass(frozen=True)
class ArmSettings:
    """One arm with its checked settings, and the command that runs it alone.

    Args:
        candidates: options for the arm's settings, chosen by ``study.tuning``; until then the first
        counts.
        tuned: whether the choice was made; such an arm may end up equal to another one.
        plan: settings that were derived for it, and are in ``config``.
    """

    arm: Arm
    config: TransferConfig
    command: str
    candidates: tuple[Option, ...] = ()
    tuned: bool = False
    plan: tuple[Derived, ...] = ()


@dataclass(frozen=True)
class ArmsPlan:
    """The transfers of a comparison.

    Args:
        tasks: in the order of the study.  arms: the arm of each.
        sweeps: lines over them; a point whose settings are those of another arm is that arm.
    """

    tasks: tuple[ArmTask, ...]
    arms: tuple[Arm, ...]
    sweeps: tuple[Sweep, ...]


def make_plan(study: StudySettings, settings: Sequence[ArmSettings], home: Path) -> ArmsPlan:
    """The transfers to run, arms of equal settings once.

    Raises:
        UserError: arms that do not share label draws and data; one line per fault.
    """
    by_name = {each.arm.name: each for each in settings}
    if faults := _not_comparable(by_name[study.baseline], settings):
        raise UserError("\n".join(faults))
    chosen: dict[str, ArmSettings] = {}
    stands_for: dict[str, str] = {}
    for each in settings:
        fixed = [other for other in chosen.values() if not _is_open(other)]
        twins = (other.arm.name for other in fixed if same_training(other.config, each.config))
        twin = None if _is_open(each) else next(twins, None)
        stands_for[each.arm.name] = twin or each.arm.name
        if twin is None:
            chosen[each.arm.name] = each
    for name, other in stands_for.items():
        if name != other and by_name[name].arm.point is None:
            raise UserError(f"study.arms: {other} and {name} have the same settings: drop one")
    tasks = tuple(
        ArmTask(name, str(home), as_arm(each.config, home, name), each.command, each.plan)
        for name, each in chosen.items()
    )
    sweeps = tuple(
        _sweep(sweep.name, sweep.setting, settings, stands_for) for sweep in study.sweeps
    )
    return ArmsPlan(tasks, tuple(each.arm for each in chosen.values()), sweeps)


def _is_open(settings: ArmSettings) -> bool:
    """Whether an arm's settings are, or were, to be chosen."""
    return bool(settings.candidates) or settings.tuned


def same_training(a: TransferConfig, b: TransferConfig) -> bool:
    """Whether two transfers differ only in their folder."""
    return replace(a, out="") == replace(b, out="")


def _sweep(
    name: str, setting: str, settings: Sequence[ArmSettings], stands_for: dict[str, str]
) -> Sweep:
    points = [
        (each.arm.point.value, stands_for[each.arm.name])
        for each in settings
        if each.arm.point is not None and each.arm.point.sweep == name
    ]
    points.sort(key=lambda point: point[0])
    return Sweep(name, setting, [value for value, _ in points], [arm for _, arm in points])


def _not_comparable(baseline: ArmSettings, settings: Sequence[ArmSettings]) -> list[str]:
    """Arms whose label draws are not those of the baseline: their differences mean nothing."""
    if baseline.config.draws == "auto":
        return [str(UserError.of("draws", "a number, which all arms share", "auto"))]
    faults = []
    wanted = _shared(baseline.config)
    for each in settings:
        faults += [
            f"arm {each.arm.name}: {key}={value}, the baseline {baseline.arm.name} has "
            f"{wanted.get(key)}; all arms share seed, draws, seeds_per_draw, validation, folds and "
            "data"
            for key, value in _shared(each.config).items()
            if wanted.get(key) != value
        ]
    return faults


def _shared(config: TransferConfig) -> dict[str, object]:
    """The settings that decide the label draws, the first weights, and what arms are judged on."""
    data = asdict(config.data)
    del data["views"]  # arms may differ in how a student sees the images
    return {
        "seed": config.seed,
        "draws": config.draws,
        "first_draw": config.first_draw,
        "seeds_per_draw": config.seeds_per_draw,
        "validation": config.validation,  # decides which arm leads
        "folds": config.folds,
        **{f"data.{key}": value for key, value in data.items()},
    }
