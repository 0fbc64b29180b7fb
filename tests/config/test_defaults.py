"""A default that stands in Python and in YAML is the same in both.

The settings of commands have theirs in ``configs/`` alone: a call in Python is read over the same
files. What can be used on its own (a method, masks, sampling, ...) has defaults in Python too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from genkt.config.read_config import read_config
from genkt.config.set_command_settings import SynthesizeConfig
from genkt.config.transfer_settings import TransferConfig
from genkt.settings.assignments import assignments
from genkt.settings.words import Words

COMPONENTS = {
    **{("transfer", "method", name): TransferConfig for name in Words().choices("method")},
    **{
        ("synthesize", "synthesis", name): SynthesizeConfig for name in Words().choices("synthesis")
    },
}
PER_RECIPE = {"recipe", "study"}
"""Settings whose YAML says something else than the default on purpose."""


def in_both_places(value: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(key, value of YAML, default of Python) of every setting below."""
    for field in dataclasses.fields(value):
        found, key = getattr(value, field.name), f"{path}.{field.name}"
        if field.default is not dataclasses.MISSING and field.name not in PER_RECIPE:
            yield key, found, field.default
        if dataclasses.is_dataclass(found) and field.name not in PER_RECIPE:
            yield from in_both_places(found, key)


@pytest.mark.parametrize(("command", "group", "name"), COMPONENTS)
def test_yaml_and_python_agree(command: str, group: str, name: str) -> None:
    config = read_config(COMPONENTS[command, group, name], command, [f"{group}={name}"])
    differ = [
        (key, yaml, python) for key, yaml, python in in_both_places(config, "") if yaml != python
    ]
    assert not differ


def test_python_reads_the_same_files() -> None:
    words = ["data=digits", "method=aft", "train.lr=1e-3", "data.views.scale=[0.5,2]", "seed=7"]
    arguments = {
        "data": {"name": "digits", "views": {"scale": (0.5, 2)}},
        "method": "aft", "train": {"lr": 1e-3}, "seed": 7,
    }  # fmt: skip
    typed = read_config(TransferConfig, "transfer", words)
    assert read_config(TransferConfig, "transfer", assignments(arguments)) == typed
    assert typed.train.lr == 1e-3 and typed.data.views.scale == (0.5, 2.0)
