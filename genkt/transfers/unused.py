"""Settings that are valid but have no effect in this run."""

from __future__ import annotations

from collections.abc import Iterable

from genkt.config.irf_settings import BASELINE
from genkt.config.transfer_settings import TransferConfig
from genkt.settings.objects import object_in

_OF_NAMES = ("pretrained", "weights", "args", "transform", "size", "channels_last")
"""Settings of a model that is built by its name."""


def unused(config: TransferConfig, keys: Iterable[str]) -> list[str]:
    """One line for each setting that this run does not read.

    Args:
        keys: the dotted keys that the user gave.
    """
    reasons = _reasons(config)
    return [
        f"{key}: not used: {why}"
        for key in dict.fromkeys(keys)
        for prefix, why in reasons.items()
        if f"{key}.".startswith(f"{prefix}.")
    ]


def _reasons(config: TransferConfig) -> dict[str, str]:
    """The keys, or the first parts of keys, that are not read, each with the reason."""
    train, found = config.train, {}
    if config.adaptation == "none":
        found["adapt"] = "no teacher is trained on the labels; teacher.adapt=fine_tune would"
    if not config.re_represents:
        found["irf"] = "no stage trains on re-represented images"
    if not config.reads_transfer_set:
        found["transfer_set"] = "no stage trains on transfer images"
    if train.optimizer != "sgd":
        found["train.momentum"] = f"only train.optimizer=sgd reads it, not {train.optimizer}"
    if train.ema is None:
        found["train.ema_every"] = "train.ema is null: there are no slow weights"
    if config.minutes is not None:
        found["train.steps"] = found["train.epochs"] = "minutes is in its place"
    if not config.undecided:
        found["pilot"] = "no setting is auto, and minutes is null"
    if not config.ends_on_labels and config.finetune.keep != "always":
        found["finetune.keep"] = "no stage on labels comes last, after one that taught to answer"
    for name, models in (("student", [config.student.model]), ("teacher", config.teacher.models)):
        if any(object_in(model) is not None for model in models):
            for key in _OF_NAMES:
                found[f"{name}.{key}"] = "a module is used as it is"
    if BASELINE not in config.arms:
        found["plain"] = "the run has no baseline"
    return found
