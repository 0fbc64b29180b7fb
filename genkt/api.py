"""The Python API: the same words and settings as the command line, plus your own objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from genkt.cli.app import read_config
from genkt.cli.evaluate import EvaluateConfig
from genkt.data.splits import Splits
from genkt.models.backbone import Backbone, transform_of
from genkt.recipes.config import TransferConfig
from genkt.recipes.evaluation import Evaluation
from genkt.recipes.evaluation import evaluate as run_evaluation
from genkt.recipes.transfer import Given, TransferResult, run_transfer

Model = Backbone | nn.Module


def transfer(
    *words: str,
    data: Splits | str | dict[str, Any] | None = None,
    student: Model | str | dict[str, Any] | None = None,
    teacher: Model | Sequence[Model] | str | dict[str, Any] | None = None,
    **settings: Any,
) -> TransferResult:
    """What ``genkt transfer`` does, returning the student and the report as objects.

    Args:
        words: settings as on the command line, e.g. ``"train.steps=200"``.
        data: a name of ``configs/data``, a dict with such a name and its settings, or ``Splits``.
        student: a timm name, a dict of settings, or a module whose head fits the task.
        teacher: the same, or a list of modules.
        settings: any other top-level key; dicts set inner keys: ``train={"steps": 200}``.

    Returns:
        The student (a ``Backbone``), the report, and the run folder.

    Raises:
        UserError: every fault of the settings at once, one line each.

    Example:
        >>> import tempfile, genkt
        >>> result = genkt.transfer(
        ...     "finetune.steps=0", data="digits", method="stl", draws=1,
        ...     train={"steps": 2, "batch_size": 20}, device="cpu",
        ...     out=tempfile.mkdtemp() + "/run")
        >>> result.student.num_classes, result.report.method
        (10, 'stl')
    """
    given = Given(
        data=data if isinstance(data, Splits) else None,
        student=as_backbone(student) if isinstance(student, nn.Module) else None,
        teachers=_modules(teacher),
    )
    named = {"data": data, "student": student, "teacher": teacher, **settings}
    if given.student is not None:
        named.pop("student")
    if given.teachers is not None:
        named.pop("teacher")
    if given.data is not None:
        named.pop("data")
    all_words = [word for key, value in named.items() for word in as_words(key, value)]
    config = read_config(TransferConfig, "transfer", all_words + list(words))
    arguments = ", ".join([*map(repr, words), *(f"{k}={v!r}" for k, v in named.items() if v)])
    command = f"genkt.transfer({arguments})"
    return run_transfer(config, asdict(config), command=command, given=given)


def evaluate(model: str, *words: str, **settings: Any) -> Evaluation:
    """What ``genkt evaluate`` does: accuracy of a model on a labelled part of a data set.

    Example:
        >>> import genkt
        >>> genkt.evaluate("genkt:digits_teacher", data="digits").accuracy > 0.1
        True
    """
    all_words = [word for key, value in settings.items() for word in as_words(key, value)]
    model_word = f"model={json.dumps(model)}"
    config = read_config(EvaluateConfig, "evaluate", [model_word, *all_words, *words])
    return run_evaluation(config)


def as_backbone(model: Model) -> Backbone:
    """A module given in Python, seen as a ``Backbone``; timm models bring their transform.

    Raises:
        UserError: a module that declares no input transform (wrap it in ``genkt.Backbone``).
    """
    from genkt.types import UserError

    if isinstance(model, Backbone):
        return model
    name = type(model).__name__
    if not hasattr(model, "pretrained_cfg"):
        raise UserError(
            f"model {name}: declares no input transform; give genkt.Backbone(model, transform, name)"
        )
    return Backbone(model, transform_of(model), name)


def as_words(key: str, value: Any) -> list[str]:
    """A keyword argument as command-line words.

    >>> as_words("train", {"steps": 5, "ema": None})
    ['train.steps=5', 'train.ema=null']
    >>> as_words("data", {"name": "folder", "root": "my images"})
    ['data=folder', 'data.root="my images"']
    """
    if value is None and key in ("data", "student", "teacher"):
        return []
    if isinstance(value, dict):
        named = [f"{key}={value['name']}"] if "name" in value else []
        rest = {name: item for name, item in value.items() if name != "name"}
        if not named and key in ("student", "teacher") and "model" in rest:
            named = [f"{key}=timm"]
        return named + [word for n, item in rest.items() for word in as_words(f"{key}.{n}", item)]
    return [f"{key}={_text(value)}"]


def _text(value: Any) -> str:
    if isinstance(value, str) and value.replace("_", "").isalnum():
        return value
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return json.dumps(value, default=str, ensure_ascii=False)


def _modules(teacher: Any) -> list[Backbone] | None:
    if isinstance(teacher, nn.Module):
        return [as_backbone(teacher)]
    if isinstance(teacher, (list, tuple)) and any(isinstance(t, nn.Module) for t in teacher):
        return [as_backbone(module) for module in teacher]
    return None
