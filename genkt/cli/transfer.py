"""``genkt transfer``."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict

from genkt.cli.app import run_command
from genkt.recipes.config import TransferConfig


def run(words: list[str]) -> None:
    """Read the words, run the transfer, print the table and the snippet."""
    command = shlex.join(["genkt", "transfer", *words])

    def task(config: TransferConfig) -> float:
        from genkt.recipes.transfer import describe, run_transfer

        if config.dry_run:
            from genkt.recipes.dry_run import estimate

            print(estimate(config, asdict(config)))
            return 0.0
        result = run_transfer(config, asdict(config), command=command)
        if os.environ.get("RANK", "0") == "0":  # one process of a torchrun speaks
            print(describe(result))
        return result.accuracy

    run_command(TransferConfig, "transfer", words, task)
