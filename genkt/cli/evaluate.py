"""``genkt evaluate model=... data=...``."""

from __future__ import annotations

from typing import Any

from genkt.cli.app import run_command
from genkt.config.command_settings import EvaluateConfig


def run(words: list[str]) -> None:
    """Print the accuracy and other figures with their intervals, by class too."""
    run_command(EvaluateConfig, "evaluate", words, _task)


def _task(config: EvaluateConfig) -> float:
    from genkt.disk import output_file
    from genkt.inference.evaluate_model import evaluate
    from genkt.io import write_json

    output = output_file(config.output) if config.output else None
    result = evaluate(config)
    print(result.text())
    if output is not None:
        facts: dict[str, Any] = result.as_dict()
        print(write_json(output, facts))
    return result.accuracy
