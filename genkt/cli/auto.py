"""``method=auto``: settings chosen from the data, behind those that the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.settings.assignments import Said, key_of, keys_of, text_of
from genkt.types import UserError


@dataclass(frozen=True)
class Decided:
    """A command line without ``method=auto``.

    Args:
        words: its replacement, and the user's other words.
        splits: the data, already read; None where nothing was to be decided.
        told: lines for the user.
    """

    words: list[Said]
    splits: Splits | None = None
    told: tuple[str, ...] = ()


def decided(words: Sequence[Said]) -> Decided:
    """Choose from the data if the words ask for it; the user's own words take priority.

    Raises:
        UserError: every fault of the other words.
    """
    rest = [word for word in words if not _is_auto(word)]
    if len(rest) == len(words):
        return Decided(rest)
    if "-m" in words or "--multirun" in words:
        raise UserError("method=auto: looks at one run's data, not at a sweep's; name methods")
    from genkt.runs.pool import load_splits
    from genkt.transfers.auto_method import choose, facts_of

    config = read_config(TransferConfig, "transfer", rest)
    if config.smoke:
        raise UserError("method=auto: reads the data, which smoke=true does not; name a method")
    splits = load_splits(config.data, config.seed)
    choice = choose(facts_of(config, splits))
    own = set(keys_of(rest))
    chosen = [word for word in choice.words if key_of(word) not in own]
    kept = [word for word in choice.words if word not in chosen]
    told = [f"method=auto: {choice.what} ({' '.join(chosen)})", f"  because {choice.why}"]
    if kept:
        told.append(f"  your own settings stay, in place of {' '.join(kept)}")
    return Decided([*chosen, *rest], splits, tuple(told))


def _is_auto(word: Said) -> bool:
    return key_of(word) == "method" and text_of(word) == "auto"
