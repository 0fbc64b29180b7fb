"""Settings that follow from the data, behind those that the user gave: a method, or a whole plan.

``method=auto`` chooses a method and what goes with it, for any data. ``plan=auto`` derives more
(``genkt.transfers.plan_rules``) for data that are not built in; its values are written into the run
folder at the first start and followed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.settings.assignments import Said, key_of, keys_of, text_of
from genkt.settings.faults import SettingsError
from genkt.transfers.plan_file import PLAN, read_plan
from genkt.transfers.plan_rules import Derived, derived
from genkt.types import UserError

ROOM = ("train.labelled_per_batch=1",)
"""Fits into every batch, until the rule for it is asked."""

OFF, AUTO = "off", "auto"
"""Values of ``plan`` that are no file."""


@dataclass(frozen=True)
class Decided:
    """A command line without ``method=auto``, and with the words of its plan.

    Args:
        words: what was chosen, and the user's other words.
        splits: the data, already read; None where nothing was to be decided.
        told: lines for the user.
        plan: the settings that were derived.
    """

    words: list[Said]
    splits: Splits | None = None
    told: tuple[str, ...] = ()
    plan: tuple[Derived, ...] = ()


def decided(words: Sequence[Said]) -> Decided:
    """Choose from the data if the words ask for it; the user's own words take priority.

    Raises:
        UserError: every fault of the other words; a plan that cannot be read.
    """
    rest = [word for word in words if not _is_auto(word)]
    by_method, plan = len(rest) < len(words), plan_in(rest)
    if plan == OFF and not by_method:
        return Decided(rest)
    what = f"plan={plan}" if plan != OFF else "method=auto"
    if "-m" in words or "--multirun" in words:
        instead = "leave it out" if plan != OFF else "name methods"
        raise UserError(f"{what}: is for one run and its data, not for a sweep; {instead}")
    if plan not in (OFF, AUTO):
        return _followed(rest, plan)
    config = read_config(TransferConfig, "transfer", [*ROOM, *rest] if plan == AUTO else rest)
    if config.smoke:
        instead = "leave it out" if plan != OFF else "name a method"
        raise UserError(f"{what}: reads the data, which smoke=true does not; {instead}")
    if plan == OFF:
        return _chosen(config, rest)
    if (stored := Path(config.out) / PLAN).is_file() and not config.overwrite:
        return _followed(rest, str(stored))
    return _planned(config, rest)


def _chosen(config: TransferConfig, rest: list[Said]) -> Decided:
    """The method, and what goes with it."""
    from genkt.runs.pool import load_splits
    from genkt.transfers.auto_method import choose, facts_of

    splits = load_splits(config.data, config.seed)
    choice = choose(facts_of(config, splits))
    own = set(keys_of(rest))
    chosen = [word for word in choice.words if key_of(word) not in own]
    kept = [word for word in choice.words if word not in chosen]
    told = [f"method=auto: {choice.what} ({' '.join(chosen)})", f"  because {choice.why}"]
    if kept:
        told.append(f"  your own settings stay, in place of {' '.join(kept)}")
    return Decided([*chosen, *rest], splits, tuple(told))


def _planned(config: TransferConfig, rest: list[Said]) -> Decided:
    """The method, unless the user names one, then what the rules derive for it."""
    from genkt.runs.pool import load_splits
    from genkt.transfers.auto_method import choose, facts_of, plan_facts_of

    given = _given(rest)
    settings: list[Derived] = []
    splits = load_splits(config.data, config.seed)
    if not config.data.built_in and not given("experiment"):
        if not (given("method") or given("recipe")):
            choice = choose(facts_of(config, splits))
            pairs = (word.split("=", 1) for word in choice.words)
            settings = [Derived(key, value, f"{choice.what}: {choice.why}") for key, value in pairs]
            settings = [each for each in settings if not given(each.key)]
        planned = read_config(TransferConfig, "transfer", [*ROOM, *_words(settings), *rest])
        settings += derived(planned, plan_facts_of(config, splits), given)
    path = Path(config.out) / PLAN
    return Decided(
        [*_words(settings), *rest],
        splits,
        _told(config, settings, "plan=auto", path),
        tuple(settings),
    )


def _followed(rest: list[Said], path: str) -> Decided:
    """The settings of a plan that is written down, as far as the user's own choices have them."""
    given = _given(rest)
    settings = [each for each in read_plan(Path(path)) if not given(each.key)]
    foreign = _foreign(settings, rest)
    kept = [each for each in settings if each.key not in foreign]
    config = read_config(TransferConfig, "transfer", [*ROOM, *_words(kept), *rest])
    told = list(_told(config, kept, f"plan={path}", path))
    if foreign:
        told.append(f"  left out, as your own choices do not have them: {', '.join(foreign)}")
    return Decided([*_words(kept), *rest], None, tuple(told), tuple(kept))


def _foreign(settings: Sequence[Derived], rest: list[Said]) -> list[str]:
    """Keys of a plan that belong to another choice than the user's: a temperature, without one.

    Any other fault is left to the next reading, which reports all.
    """
    try:
        read_config(TransferConfig, "transfer", [*ROOM, *_words(settings), *rest])
    except SettingsError as error:
        unknown = {fault.key for fault in error.faults if fault.kind == "unknown"}
        own = set(keys_of(rest))
        keys = [each.key for each in settings if each.key in unknown]
        return [key for key in keys if key.partition(".")[0] in own]
    return []


def _told(
    config: TransferConfig, settings: Sequence[Derived], source: str, path: str | Path
) -> tuple[str, ...]:
    """One line for a run; each setting with its reason for an estimate."""
    if not settings:
        why = "built-in data, experiments and plain fine-tuning have fixed settings"
        return (f"{source}: nothing to derive: {why}, or you gave all",)
    if not config.dry_run:
        return (f"{source}: {' '.join(_words(settings))} (why: {path})",)
    width = max(len(each.word) for each in settings)
    lines = [f"  {each.word.ljust(width)}  {each.why}".rstrip() for each in settings]
    return (f"{source}: derived for these data, behind your own settings:", *lines)


def _words(settings: Sequence[Derived]) -> list[str]:
    return [each.word for each in settings]


def _given(words: Sequence[Said]) -> Callable[[str], bool]:
    """Whether the user has set a key, as a whole or in part."""
    own = keys_of(words)

    def given(key: str) -> bool:
        return any(f"{each}.".startswith(f"{key}.") for each in own)

    return given


def plan_in(words: Sequence[Said]) -> str:
    """The plan that the words ask for, the last one if several do."""
    asked = [text_of(word) for word in words if key_of(word) == "plan"]
    return asked[-1] or OFF if asked else OFF


def _is_auto(word: Said) -> bool:
    return key_of(word) == "method" and text_of(word) == "auto"
