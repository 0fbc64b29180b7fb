"""``genkt.transfer`` and ``genkt.estimate``: the settings of the command line, and own objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from genkt.api.objects import (
    Model,
    ModelSetting,
    call_text,
    given_settings,
    named_arguments,
)
from genkt.cli.auto import Decided, decided
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.splits import Splits
from genkt.execution.tasks import INLINE
from genkt.settings.assignments import Said, keys_of
from genkt.transfer_set.composition import TransferSet
from genkt.transfers.run_transfer import TransferResult, run_transfer
from genkt.transfers.unused import unused
from genkt.types import UserError


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
    named = named_arguments(
        settings, data=data, student=student, teacher=teacher, transfer_set=transfer_set
    )
    config, found = _read(words, named)
    if config.dry_run:
        raise UserError(
            "dry_run: estimates are made by genkt.estimate(...), with the same arguments"
        )
    command = call_text("transfer", words, named)
    return run_transfer(
        config, asdict(config), command=command, splits=found.splits, plan=found.plan
    )


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

    named = named_arguments(
        settings | {"dry_run": True},
        data=data, student=student, teacher=teacher, transfer_set=transfer_set,
    )  # fmt: skip
    config, found = _read(words, named)
    return run_estimate(config, asdict(config), found.splits)


def _read(words: Sequence[str], named: Mapping[str, Any]) -> tuple[TransferConfig, Decided]:
    """The settings, and what was decided for them."""
    said: list[Said] = [*given_settings(named), *words]
    found = decided(said)
    config = read_config(TransferConfig, "transfer", found.words)
    keys = keys_of(said)
    for line in [*found.told, *unused(config, keys)]:
        logging.getLogger("genkt").warning(line)
    if not any(key.partition(".")[0] == "executor" for key in keys):
        config = replace(config, executor=INLINE)  # a script need not guard itself
    return config, found
