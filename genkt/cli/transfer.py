"""``genkt transfer``."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from dataclasses import asdict

from genkt.cli.app import run_command
from genkt.cli.auto import decided
from genkt.config.transfer_settings import TransferConfig
from genkt.settings.assignments import keys_of
from genkt.transfers.unused import unused


def run(words: list[str]) -> None:
    """Read the words, run the transfer, print the table and the snippet."""
    command = shlex.join(["genkt", "transfer", *words])
    found = decided(words)
    speaks = os.environ.get("RANK", "0") == "0"  # one process of a torchrun
    for line in found.told if speaks else ():
        print(line, file=sys.stderr)

    def task(config: TransferConfig) -> float:
        for line in unused(config, keys_of(words)) if speaks else ():
            logging.getLogger("genkt").warning(line)
        if not config.smoke:
            return train(config)
        from genkt.transfers.smoke import smoke_of

        with smoke_of(config) as smoke:
            for line in smoke.told if speaks else ():
                print(f"genkt transfer: {line}", file=sys.stderr)
            return train(smoke.config)

    def train(config: TransferConfig) -> float:
        from genkt.transfers.run_transfer import describe, run_transfer

        if config.dry_run:
            from genkt.transfers.dry_run import estimate

            print(estimate(config, asdict(config), found.splits))
            return 0.0
        result = run_transfer(
            config, asdict(config), command=command, splits=found.splits, plan=found.plan
        )
        if speaks:
            print(describe(result))
        return result.accuracy

    run_command(TransferConfig, "transfer", found.words, task)
