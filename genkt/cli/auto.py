"""Settings that follow from the data, behind those that the user gave: a method, or a whole plan.

``method=auto`` chooses a method and what goes with it, for any data. A plan derives more
(``genkt.transfers.plan_rules``) for data that are not built in, unless ``plan=off`` says otherwise;
its values are written into the run folder at the first start and followed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.runs.run_folder import CLAIM
from genkt.settings.assignments import Said, key_of, keys_of, text_of
from genkt.settings.faults import SettingsError
from genkt.transfers.plan_file import PLAN, read_plan
from genkt.transfers.plan_rules import Derived, derived
from genkt.types import UserError

ROOM = ("train.labelled_per_batch=1",)
"""Fits into every batch, until the rule for it is asked."""

OFF, AUTO = "off", "auto"
"""Values of ``plan`` that are no file."""

_FILES = ("--config-name", "-cn")
"""Options that name a file with all settings: there is nothing to derive for it."""


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
    by_method, said = len(rest) < len(words), plan_in(rest)
    several = "-m" in words or "--multirun" in words
    whole = any(str(word).partition("=")[0] in _FILES for word in words)
    if said not in (OFF, AUTO, ""):
        _refuse_several(several, f"plan={said}", "leave it out")
        return _followed(rest, said)
    config = None
    if said == AUTO or not (said or several or whole):
        config = read_config(TransferConfig, "transfer", [*ROOM, *rest])
        said = said or _usual(config)
        if said not in (OFF, AUTO):
            return _followed(rest, said)
    if said == AUTO:
        _refuse_several(several, "plan=auto", "leave it out")
        assert config is not None
        _refuse_smoke(config, "plan=auto", "leave it out")
        if (stored := Path(config.out) / PLAN).is_file() and not config.overwrite:
            return _followed(rest, str(stored))
        return _planned(config, rest)
    if not by_method:
        return Decided(rest)
    _refuse_several(several, "method=auto", "name methods")
    config = read_config(TransferConfig, "transfer", rest)
    _refuse_smoke(config, "method=auto", "name a method")
    return _chosen(config, rest)


def _usual(config: TransferConfig) -> str:
    """The plan of a command that names none: one is made for the user's own data.

    A run that was begun without one goes on without. A file of the user's may say otherwise.
    """
    out = Path(config.out)
    begun = (out / CLAIM).is_file() and not (out / PLAN).is_file() and not config.overwrite
    return OFF if config.data.built_in or config.smoke or begun else config.plan


def _refuse_several(several: bool, what: str, instead: str) -> None:
    if several:
        raise UserError(f"{what}: is for one run and its data, not for a sweep; {instead}")


def _refuse_smoke(config: TransferConfig, what: str, instead: str) -> None:
    if config.smoke:
        raise UserError(f"{what}: reads the data, which smoke=true does not; {instead}")


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
            first, why = choice.words[0], f"{choice.what}: {choice.why}"
            settings = [
                Derived(word.partition("=")[0], word.partition("=")[2], reason)
                for word in choice.words
                for reason in [why if word == first else f"goes with {first}"]
            ]
            settings = [each for each in settings if not given(each.key)]
        planned = read_config(TransferConfig, "transfer", [*ROOM, *_words(settings), *rest])
        settings += derived(planned, plan_facts_of(config, splits), given)
    path = Path(config.out) / PLAN
    return Decided(
        [*_words(settings), *rest],
        splits,
        _told(config, settings, "plan=auto", path, asked=bool(plan_in(rest))),
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
    config: TransferConfig, settings: Sequence[Derived], source: str, path: str | Path,
    *, asked: bool = True,
) -> tuple[str, ...]:  # fmt: skip
    """One line for a run; each setting with its reason for an estimate.

    Args:
        asked: the user named a plan; else nothing is said where nothing was derived.
    """
    if not settings and not asked:
        return ()
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
    """The plan that the words ask for, the last one if several do; "": they say nothing of it."""
    asked = [text_of(word) for word in words if key_of(word) == "plan"]
    return asked[-1] or OFF if asked else ""


def _is_auto(word: Said) -> bool:
    return key_of(word) == "method" and text_of(word) == "auto"
