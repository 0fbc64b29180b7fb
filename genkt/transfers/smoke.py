"""``smoke=true``: one step of every stage on made-up images, with random weights, on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genkt.config.data_settings import DataSettings, FolderData
from genkt.config.model_settings import StudentSettings, TeacherSettings
from genkt.config.transfer_settings import TransferConfig
from genkt.methods.base import MethodOptions
from genkt.methods.build import beta_candidates
from genkt.models.load import SHIPPED_PREFIX
from genkt.settings.objects import name_in
from genkt.transfers.decide_run import provisional
from genkt.types import UserError

CLASSES = ("first", "second", "third")
PER_CLASS = 8
SIZE = 64
"""Side in pixels of the made-up images and of every model's input."""

BATCH = 6
_LABELLED = 2
_HERE = (SHIPPED_PREFIX, "local-dir:")
"""Prefixes of models on this disk, which are used unchanged."""
_GENERATOR = "genkt:digits_generator"
_LARGE = 100_000_000
"""A model with more parameters is too slow on a CPU."""
_SHORT: tuple[dict[str, Any], ...] = (
    {"depth": 1}, {"layers": [1, 1, 1, 1]}, {"depths": [1, 1, 1, 1]}, {"depth": [1, 1, 1]},
    {"num_blocks": 1},
)  # fmt: skip
"""How one or another of timm's families is told to have one block, or one of each stage."""


@dataclass(frozen=True)
class Smoke:
    """A smoke run.

    Args:
        config: its settings.
        told: lines for the user on changed settings.
    """

    config: TransferConfig
    told: tuple[str, ...]


@contextmanager
def smoke_of(config: TransferConfig) -> Iterator[Smoke]:
    """The same stages, method and architectures in seconds. Its images are removed at the end of
    the block.

    Weights are random (those of models on this disk stay), images are noise of three classes, a
    model of more than 100 M parameters keeps one of its blocks, every stage takes one step and a
    search tries one value. The run goes to ``OUT-smoke``, in place of an earlier smoke run there.
    """
    with tempfile.TemporaryDirectory(prefix="genkt-smoke-") as home:
        write_images(Path(home) / "images")
        yield _in_small(config, Path(home))


def write_images(root: Path) -> None:
    """``root/CLASS/n.png``: noise whose mean colour tells the class."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = generator.integers(0, 160, (SIZE, SIZE, 3))
            pixels[..., label] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")


def _in_small(config: TransferConfig, home: Path) -> Smoke:
    config = provisional(config)
    told = [
        f"smoke=true: {len(CLASSES)} classes of made-up images of {SIZE} pixels, random weights, "
        "one step of every stage, on the CPU; the figures mean nothing"
    ]
    student = _small_student(config.student, told)
    teacher = _small_teacher(config.teacher, told)
    small_set, changed = config.transfer_set.in_small(BATCH, _GENERATOR)
    if changed:
        told.append(f"  {changed}")
    parts = [part.name for part in small_set.set_parts]
    out = f"{config.out.rstrip('/')}-smoke"
    told.append(f"  out={out}, in place of an earlier smoke run")
    small = replace(
        config,
        smoke=False,
        data=_made_up(config.data, home / "images", "unlabelled" in parts),
        student=student,
        teacher=teacher,
        transfer_set=small_set,
        recipe=config.recipe.in_small(BATCH, _LABELLED),
        method=_first_beta(config.method),
        out=out,
        draws=1,
        seeds_per_draw=1,
        overwrite=True,
        device="cpu",
        cache=str(home / "cache"),
        train=replace(
            config.train, steps=1, epochs=None, batch_size=BATCH,
            labelled_per_batch=min(_LABELLED, config.train.labelled_per_batch), precision="fp32",
            accumulate=1, compile=False, eval_every=0, log_every=1, num_workers=0,
        ),
        finetune=replace(config.finetune, steps=min(1, config.finetune.steps)),
        adapt=replace(config.adapt, steps=min(2, config.adapt.steps), batch_size=BATCH),
        irf=replace(config.irf, generator=_GENERATOR),
    )  # fmt: skip
    return Smoke(small, tuple(told))


def _first_beta(method: MethodOptions) -> MethodOptions:
    """A search tries only one value."""
    tried: dict[str, Any] = {"beta_grid": beta_candidates(method)[:1]}
    return replace(method, **tried) if tried["beta_grid"] else method


def _made_up(data: DataSettings, root: Path, needs_others: bool) -> FolderData:
    """A folder that replaces the data, with few labels if the data have few.

    Args:
        needs_others: some images must be left without a label.
    """
    share = data.label_fraction is not None or data.label_list is not None
    few = data.labels_per_class is not None or (needs_others and not share)
    return FolderData(
        labels_per_class=_LABELLED if few else None,
        label_fraction=0.5 if share else None,
        label_list=None,
        views=replace(data.views, num_views=min(2, data.views.num_views)),
        root=str(root),
        validation_fraction=0.25,
        test_fraction=0.25,
        max_skipped=0,
        name="folder",
        group=None,
        unlabelled=[],
    )


def _small_student(settings: StudentSettings, told: list[str]) -> StudentSettings:
    name = name_in(settings.model)
    if name.startswith(_HERE):
        return settings
    transform = _small_transform(settings.transform)
    args = _small_args("student", name, settings.args, transform, told)
    return replace(settings, pretrained=False, weights=None, args=args, transform=transform)


def _small_teacher(settings: TeacherSettings, told: list[str]) -> TeacherSettings:
    names = settings.names
    here = [name.startswith(_HERE) for name in names]
    if all(here):
        return settings
    if any(here):
        raise UserError(
            "smoke=true: expected teachers of one kind, all from this disk (genkt:, local-dir:) or "
            f"all from timm, got {', '.join(names)}; name one of them"
        )
    transform = _small_transform(settings.transform)
    args = [
        _small_args("teacher", name, own, transform, told) | {"num_classes": len(CLASSES)}
        for name, own in zip(names, settings.args_of(names), strict=True)
    ]
    return replace(settings, pretrained=False, weights=None, args=args, transform=transform)


def _small_transform(transform: dict[str, Any]) -> dict[str, Any]:
    given = transform.get("input_size", [SIZE, SIZE])
    return {**transform, "input_size": [min(SIZE, side) for side in given]}


def _small_args(
    role: str, name: str, args: dict[str, Any], transform: dict[str, Any], told: list[str]
) -> dict[str, Any]:
    """Arguments that make a timm model small enough for a CPU; a line reports them."""
    from timm.models import get_pretrained_cfg

    declared, size = get_pretrained_cfg(name), transform["input_size"]
    small = dict(args)
    if declared is not None and declared.fixed_input_size:
        small["img_size"] = size[0]
    changes = [f"{size[0]} pixels", "random weights"]
    count = _num_parameters(name, small)
    if count is not None and count > _LARGE:
        whole = f"{count / 1e6:.0f} M parameters"
        short = next((each for each in _SHORT if _num_parameters(name, small | each)), None)
        if short is None:
            changes.append(f"all {whole}, which is slow here: timm cannot shorten it")
        else:
            small |= short
            (change,) = (f"{key}={value}" for key, value in short.items())
            changes.append(f"{change}, as all of it ({whole}) is too large for a CPU")
    told.append(f"  {role} {name}: {', '.join(changes)}")
    return small


def _num_parameters(name: str, args: dict[str, Any]) -> int | None:
    """Count parameters without memory for them; None if timm rejects the arguments."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, **args)
    except (OSError, TypeError, RuntimeError, ValueError, NotImplementedError):
        return None
    return sum(parameter.numel() for parameter in model.parameters())
