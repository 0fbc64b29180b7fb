"""``genkt synthesize``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from genkt.cli.app import run_command
from genkt.config.set_command_settings import SynthesizeConfig
from genkt.execution.tasks import processes_of
from genkt.settings.assignments import Said, key_of, read_word


def run(words: list[str]) -> None:
    """Make the set, print what became of it and where it is."""
    command = shlex.join(["genkt", "synthesize", *words])

    def task(config: SynthesizeConfig) -> None:
        from genkt.runs.set_card import describe
        from genkt.synthesis.prepare_synthesis import estimate, synthesize

        text = estimate(config) if config.dry_run else describe(synthesize(config, command))
        if processes_of(config.executor).rank == 0:  # one process of a launch speaks
            print(text)

    run_command(SynthesizeConfig, "synthesize", as_synthesis(words), task)


def as_synthesis(words: Sequence[Said]) -> list[Said]:
    """``method=digg`` said in the words of the settings, where ``method`` is a student's.

    >>> [str(word) for word in as_synthesis(["method=irf", "method.num_masks=2", "seed=1"])]
    ['synthesis=irf', 'synthesis.num_masks=2', 'seed=1']
    """
    return [_as_synthesis(word) for word in words]


def _as_synthesis(word: Said) -> Said:
    key, found = key_of(word), read_word(word)
    if found is None or key is None or key.partition(".")[0] != "method":
        return word
    return found.under("synthesis" + key.removeprefix("method"))
