"""``genkt.evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from genkt.api.objects import given_settings
from genkt.config.command_settings import EvaluateConfig
from genkt.config.read_config import read_config
from genkt.inference.evaluate_model import Evaluation
from genkt.inference.evaluate_model import evaluate as run_evaluation
from genkt.settings.assignments import Said

Name = str | Path


@overload
def evaluate(model: Name, *words: str, **settings: Any) -> Evaluation: ...


@overload
def evaluate(model: Sequence[Name], *words: str, **settings: Any) -> list[Evaluation]: ...


def evaluate(
    model: Name | Sequence[Name], *words: str, **settings: Any
) -> Evaluation | list[Evaluation]:
    """What ``genkt evaluate`` does: accuracy of a model on a labelled part of a data set.

    Its other figures are in ``metrics``, ``intervals`` and ``majority`` of what is returned.

    Args:
        model: a run, a model by its name, or a list of these.
        words, settings: as ``genkt evaluate`` takes them.

    Returns:
        An evaluation, or one for each model of the list, in its order.

    Raises:
        UserError: every fault of the settings at once, one line per fault; a model that is not
            there, or data that it does not fit.

    Example:
        >>> import genkt
        >>> genkt.evaluate("genkt:digits_teacher", data="digits").accuracy > 0.1
        True
    """
    if not isinstance(model, (str, Path)):
        return [evaluate(each, *words, **settings) for each in model]
    said: list[Said] = [*given_settings({"model": model, **settings}), *words]
    return run_evaluation(read_config(EvaluateConfig, "evaluate", said))
