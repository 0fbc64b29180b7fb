"""``genkt prime``."""

from __future__ import annotations

import json
import shlex

from genkt.cli.app import run_command
from genkt.config.prime_settings import PrimeConfig
from genkt.upstream.generator.prime_generator import prime


def run(words: list[str]) -> None:
    """Train, measure, and say where the generator is."""
    command = shlex.join(["genkt", "prime", *words])

    def task(config: PrimeConfig) -> None:
        print(json.dumps(prime(config, command), indent=2))
        print(f"next: genkt synthesize generator={config.out}/generator data=folder data.root=...")

    run_command(PrimeConfig, "prime", words, task)
