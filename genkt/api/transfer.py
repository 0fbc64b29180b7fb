"""The Python API: the same words and settings as the command line, plus your own objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from genkt.analysis.analyze_models import Analysis, run_analysis
from genkt.cli.app import read_config
from genkt.cli.auto import decided
from genkt.cli.evaluate import EvaluateConfig
from genkt.cli.values import quote
from genkt.cli.words import keys_of
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.config.data_settings import IN_PYTHON
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.execution.tasks import INLINE
from genkt.inference.evaluate_model import Evaluation
from genkt.inference.evaluate_model import evaluate as run_evaluation
from genkt.models.backbone import Backbone, transform_of
from genkt.transfer_set.composition import TransferSet
from genkt.transfers.open_run import Given
from genkt.transfers.run_transfer import TransferResult, run_transfer
from genkt.transfers.unused import unused
from genkt.types import UserError

Model = Backbone | nn.Module
ModelSetting = Model | str | dict[str, Any]

GIVEN_SPLITS = ["data=folder", f"data.root={quote(IN_PYTHON)}"]
"""What stands in the settings for ``Splits`` given in Python."""


def transfer(
    *words: str,
    data: Splits | str | dict[str, Any] | None = None,
    student: ModelSetting | None = None,
    teacher: ModelSetting | Sequence[str] | Sequence[Model] | None = None,
    transfer_set: TransferSet | str | dict[str, Any] | None = None,
    **settings: Any,
) -> TransferResult:
    """What ``genkt transfer`` does, returning the student and the report as objects.

    Args:
        words: settings as on the command line, e.g. ``"train.steps=200"``.
        data: a name of ``configs/data``, a dict with such a name and its settings, or ``Splits``;
            of ``Splits`` all labels are used and the views are those of ``data=folder``, unless
            ``"data.labels_per_class=2"`` and the like say otherwise.
        student: a timm name, a dict of settings, or a module whose head fits the task.
        teacher: the same, or a list of names or modules.
        transfer_set: a name of ``configs/transfer_set``, a dict with such a name and its settings,
            or a ``TransferSet``; the parts of a mix share every batch, labels are not read.
        settings: any other top-level key; dicts set inner keys: ``train={"steps": 200}``. All work
            is done in this process unless ``executor="auto"`` or ``"pool"`` is given; a script
            that does so must start under ``if __name__ == "__main__"``.

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
    named = {"data": data, "student": student, "teacher": teacher, "transfer_set": transfer_set}
    named |= settings
    named = {key: value for key, value in named.items() if value is not None or key in settings}
    config, given = _read(words, named)
    if config.dry_run:
        raise UserError(
            "dry_run: estimates are made by genkt.estimate(...), with the same arguments"
        )
    return run_transfer(config, asdict(config), command=_shown(words, named), given=given)


def estimate(
    *words: str,
    data: Splits | str | dict[str, Any] | None = None,
    student: ModelSetting | None = None,
    teacher: ModelSetting | Sequence[str] | Sequence[Model] | None = None,
    transfer_set: TransferSet | str | dict[str, Any] | None = None,
    **settings: Any,
) -> str:
    """What ``transfer`` with the same arguments would cost: time, memory, disk; writes nothing.

    Raises:
        UserError: whatever would stop ``transfer`` at its start.
    """
    from genkt.transfers.dry_run import estimate as run_estimate

    named = {"data": data, "student": student, "teacher": teacher, "transfer_set": transfer_set}
    named |= settings | {"dry_run": True}
    named = {key: value for key, value in named.items() if value is not None or key in settings}
    config, given = _read(words, named)
    return run_estimate(config, asdict(config), given)


def evaluate(model: str | Path, *words: str, **settings: Any) -> Evaluation:
    """What ``genkt evaluate`` does: accuracy of a model on a labelled part of a data set.

    Example:
        >>> import genkt
        >>> genkt.evaluate("genkt:digits_teacher", data="digits").accuracy > 0.1
        True
    """
    all_words = [word for key, value in settings.items() for word in as_words(key, value)]
    model_word = f"model={quote(str(model))}"
    config = read_config(EvaluateConfig, "evaluate", [model_word, *all_words, *words])
    return run_evaluation(config)


def analyze(models: str | Path | Sequence[str | Path], *words: str, **settings: Any) -> Analysis:
    """What ``genkt analyze`` does, returning every number; ``out=None`` writes nothing.

    Args:
        models: run folders, timm names, ``local-dir:PATH`` or ``genkt:NAME``.
        words: settings as on the command line, e.g. ``"transfer.before=runs/a"``.

    Raises:
        UserError: every fault of the settings at once, or models and data that do not fit.

    Example:
        >>> import genkt
        >>> found = genkt.analyze(["genkt:digits_teacher"], data="digits", out=None, device="cpu")
        >>> found.data.models[0].probe.value > 0.9
        True
    """
    several = [models] if isinstance(models, (str, Path)) else list(models)
    named = {"models": several, **settings}
    all_words = [word for key, value in named.items() for word in as_words(key, value)]
    config = read_config(AnalyzeConfig, "analyze", [*all_words, *words])
    return run_analysis(config, _shown(words, named, "analyze"))


def as_backbone(model: Model) -> Backbone:
    """A module given in Python, seen as a ``Backbone``; timm models bring their transform.

    Raises:
        UserError: a module that declares no input transform (wrap it in ``genkt.Backbone``).
    """
    if isinstance(model, Backbone):
        return model
    name = type(model).__name__
    if not hasattr(model, "pretrained_cfg"):
        raise UserError(
            f"model {name}: declares no input transform; give "
            "genkt.Backbone(model, genkt.ImageTransform(...), name)"
        )
    return Backbone(model, transform_of(model), name)


def as_words(key: str, value: Any) -> list[str]:
    """A keyword argument as command-line words.

    >>> as_words("train", {"steps": 5, "ema": None})
    ['train.steps=5', 'train.ema=null']
    >>> as_words("data", {"name": "folder", "root": "my images"})
    ['data=folder', 'data.root="my images"']
    """
    if isinstance(value, dict):
        named = [f"{key}={_text(value['name'])}"] if "name" in value else []
        rest = {name: item for name, item in value.items() if name != "name"}
        if not named and key in ("student", "teacher") and "model" in rest:
            named = [f"{key}=timm"]
        return named + [word for n, item in rest.items() for word in as_words(f"{key}.{n}", item)]
    return [f"{key}={_text(value)}"]


def _text(value: Any) -> str:
    """A value in hydra's grammar."""
    if isinstance(value, (str, Path)):
        text = str(value)
        plain = text.replace("_", "").isalnum() and text.isascii() and not text[0].isdigit()
        keyword = text.lower() in ("null", "true", "false", "nan", "inf")
        return text if plain and not keyword else quote(text)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, default=str)


def _read(words: Sequence[str], named: dict[str, Any]) -> tuple[TransferConfig, Given]:
    """The settings, and the objects that stand for some of them."""
    data, student, found = named.get("data"), named.get("student"), named.get("transfer_set")
    given = Given(
        data=data if isinstance(data, Splits) else None,
        student=as_backbone(student) if isinstance(student, nn.Module) else None,
        teachers=_modules(named.get("teacher")),
        transfer_set=found if isinstance(found, TransferSet) else None,
    )
    objects = {
        "data": given.data, "student": given.student, "teacher": given.teachers,
        "transfer_set": given.transfer_set,
    }  # fmt: skip
    settings = {key: value for key, value in named.items() if objects.get(key) is None}
    all_words = [word for key, value in settings.items() for word in as_words(key, value)]
    if given.data is not None:
        all_words = GIVEN_SPLITS + all_words
    if given.transfer_set is not None:
        all_words += ["transfer_set=saved", f"transfer_set.root={quote(IN_PYTHON)}"]
    all_words += words
    found = decided(all_words, given.data, given.student, given.teachers)
    for line in found.told:
        logging.getLogger("genkt").warning(line)
    given = replace(given, data=given.data or found.splits)
    config = read_config(TransferConfig, "transfer", found.words)
    for line in unused(config, keys_of(all_words)):
        logging.getLogger("genkt").warning(line)
    if not any(word.startswith(("executor=", "executor.")) for word in all_words):
        config = replace(config, executor=INLINE)  # a script need not guard itself
    return config, given


def _shown(words: Sequence[str], named: dict[str, Any], function: str = "transfer") -> str:
    """The call as the report shows it; a module by its class."""
    arguments = [repr(word) for word in words]
    for key, value in named.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(item, nn.Module) for item in several):
            value = " + ".join(getattr(item, "name", type(item).__name__) for item in several)
            arguments.append(f"{key}=<{value}>")
        else:
            arguments.append(f"{key}={'<Splits>' if isinstance(value, Splits) else repr(value)}")
    return f"genkt.{function}({', '.join(arguments)})"


def _modules(teacher: Any) -> list[Backbone] | None:
    if isinstance(teacher, nn.Module):
        return [as_backbone(teacher)]
    if isinstance(teacher, (list, tuple)) and any(isinstance(t, nn.Module) for t in teacher):
        if not all(isinstance(module, nn.Module) for module in teacher):
            raise UserError("teacher: expected a list of names or a list of modules, got both")
        return [as_backbone(module) for module in teacher]
    return None
