"""``genkt.evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genkt.api.objects import given_settings
from genkt.cli.evaluate import EvaluateConfig
from genkt.config.read_config import read_config
from genkt.inference.evaluate_model import Evaluation
from genkt.inference.evaluate_model import evaluate as run_evaluation
from genkt.settings.assignments import Said


def evaluate(model: str | Path, *words: str, **settings: Any) -> Evaluation:
    """What ``genkt evaluate`` does: accuracy of a model on a labelled part of a data set.

    Example:
        >>> import genkt
        >>> genkt.evaluate("genkt:digits_teacher", data="digits").accuracy > 0.1
        True
    """
    said: list[Said] = [*given_settings({"model": model, **settings}), *words]
    return run_evaluation(read_config(EvaluateConfig, "evaluate", said))
