"""``method=auto``: settings chosen from the data, behind those that the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genkt.cli.app import read_config
from genkt.cli.words import split_word
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.models.backbone import Backbone
from genkt.types import UserError

AUTO = "method=auto"


@dataclass(frozen=True)
class Decided:
    """A command line without ``method=auto``.

    Args:
        words: what stands for it, and the user's other words.
        splits: the data, already read; None where nothing was to be decided.
        told: lines for the user.
    """

    words: list[str]
    splits: Splits | None = None
    told: tuple[str, ...] = ()


def decided(
    words: list[str],
    splits: Splits | None = None,
    student: Backbone | None = None,
    teachers: Sequence[Backbone] | None = None,
) -> Decided:
    """Look at the data where the words ask for it; the user's own words have the last say.

    Args:
        splits, student, teachers: given in Python.

    Raises:
        UserError: every fault of the other words.
    """
    if AUTO not in words:
        return Decided(words)
    if "-m" in words or "--multirun" in words:
        raise UserError("method=auto: looks at one run's data, not at a sweep's; name methods")
    from genkt.runs.pool import load_splits
    from genkt.transfers.auto_method import choose, facts_of

    rest = [word for word in words if word != AUTO]
    config = read_config(TransferConfig, "transfer", rest)
    if config.smoke:
        raise UserError("method=auto: looks at the data, which smoke=true leaves alone; name one")
    splits = load_splits(config.data, config.seed, splits)
    choice = choose(facts_of(config, splits, student, teachers))
    own = {pair[0] for word in rest if (pair := split_word(word))}
    chosen = [word for word in choice.words if _key(word) not in own]
    kept = [word for word in choice.words if word not in chosen]
    told = [f"method=auto: {choice.what} ({' '.join(chosen)})", f"  because {choice.why}"]
    if kept:
        told.append(f"  your own settings stay, in place of {' '.join(kept)}")
    return Decided([*chosen, *rest], splits, tuple(told))


def _key(word: str) -> str:
    pair = split_word(word)
    assert pair is not None
    return pair[0]
