"""``genkt evaluate model=... data=...``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from genkt.cli.app import run_command
from genkt.config.data_settings import DataSettings
from genkt.settings.bounds import BatchSize, Seed


@dataclass(frozen=True)
class EvaluateConfig:
    """See ``configs/evaluate.yaml``."""

    data: DataSettings
    model: str
    weights: str | None
    split: Literal["train", "validation", "test"]
    output: str | None
    seed: Seed
    batch_size: BatchSize
    device: Literal["auto", "cpu", "cuda"]


def run(words: list[str]) -> None:
    """Print the accuracy with its interval, by class too."""
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
