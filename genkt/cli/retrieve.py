"""``genkt retrieve``."""

from __future__ import annotations

import shlex

from genkt.cli.app import run_command
from genkt.config.set_command_settings import RetrieveConfig
from genkt.execution.tasks import processes_of


def run(words: list[str]) -> None:
    """Retrieve the set, print what became of it and where it is."""
    command = shlex.join(["genkt", "retrieve", *words])

    def task(config: RetrieveConfig) -> None:
        from genkt.retrieval.prepare_retrieval import estimate, retrieve
        from genkt.runs.set_card import describe

        text = estimate(config) if config.dry_run else describe(retrieve(config, command))
        if processes_of(config.executor).rank == 0:  # one process of a launch speaks
            print(text)

    run_command(RetrieveConfig, "retrieve", words, task)
