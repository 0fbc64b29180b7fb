"""``genkt inspect DIR``."""

from __future__ import annotations

from genkt.cli.app import read_config
from genkt.cli.positional import with_positionals
from genkt.config.command_settings import InspectConfig
from genkt.types import UserError


def run(words: list[str]) -> None:
    """Print what is there; what is wrong with it ends in exit code 2."""
    config = read_config(InspectConfig, "inspect", with_positionals(words, "set"))
    from genkt.inference.inspect_images import inspect

    found = inspect(config.set, out=config.out, check=config.check, examples=config.examples)
    print(found.text(), flush=True)
    if found.faults:
        raise UserError("\n".join(found.faults))
