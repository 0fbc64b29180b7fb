"""What batch norm needs of a micro-batch: found by torch itself, told before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from tiny import run, transfer_words
from training_cases import SETTINGS, TRANSFORM, Case, assert_same, tiny_net, tiny_resnet

from genkt.models.backbone import Backbone
from genkt.training.batch_parts import split_batch
from genkt.training.rows import rows_fault, rows_for_batch_norm
from genkt.types import Batch


def large(size: int) -> Backbone:
    """A network whose last maps have more than one pixel from 64 pixels on."""
    return Backbone(tiny_resnet().model, replace(TRANSFORM, input_size=(size, size)), "large")


@pytest.mark.parametrize(
    ("model", "expected"),
    [(tiny_resnet, 2), (lambda: large(32), 2), (lambda: large(64), 1), (tiny_net, 1)],
)
def test_it_is_what_torch_refuses(model: Callable[[], Backbone], expected: int) -> None:
    net = model().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert rows_for_batch_norm(net) == expected
    assert net.training and net.model.training
    assert_same(dict(net.state_dict()), before)
    one = torch.zeros(1, 3, *net.transform.input_size)
    if expected == 1:
        net(one)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            net(one)


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_smallest_micro_batch_is_the_whole_part(rows: int, parts: int) -> None:
    if parts > rows:
        return
    numbers = torch.arange(rows)
    whole = Batch(numbers, numbers, tuple(map(str, range(rows))), numbers, (), ())
    sizes = [len(part.labels) for part in split_batch(whole, parts)]
    assert min(sizes) == rows // parts and sum(sizes) == rows


@pytest.mark.parametrize(
    ("batch_size", "world_size", "num_parts", "least"),
    [(1, 1, 1, 2), (12, 1, 12, 24), (5, 1, 3, 6), (4, 4, 1, 8), (12, 2, 4, 16), (2, 1, 3, 6)],
)
def test_single_rows_are_told_with_what_would_do(
    batch_size: int, world_size: int, num_parts: int, least: int
) -> None:
    settings, model = replace(SETTINGS, batch_size=batch_size), tiny_resnet()
    fault = rows_fault("train.batch_size", model, settings, world_size, num_parts)
    assert fault.startswith("train.batch_size: ") and f"give at least {least}" in fault
    enough = replace(settings, batch_size=least)
    assert not rows_fault("train.batch_size", model, enough, world_size, num_parts)
    assert not rows_fault("train.batch_size", tiny_net(), settings, world_size, num_parts)


def test_the_loop_refuses_single_rows_for_batch_norm_alone(tmp_path: Path) -> None:
    single = Case(tmp_path / "norm", student=tiny_resnet).with_settings(accumulate=12)
    with refused("train.accumulate", 12, 1):
        single.run()
    replace(single, directory=tmp_path / "head", head_only=True).run()  # its norm stands still
    Case(tmp_path / "none").with_settings(accumulate=12).run()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["train.accumulate=7"], "train.batch_size: the batch norm of resnet18"),
        (["recipe.stages.finetune.batch_size=1"], "recipe.stages.finetune.batch_size: the batch n"),
        (
            ["teacher.adapt=fine_tune", "adapt.batch_size=1"],
            "adapt.batch_size: the batch norm of resnet18",
        ),
    ],
)
def test_a_run_refuses_them_before_anything_is_trained(
    words: list[str], fault: str, tmp_path: Path
) -> None:
    ran = run(*transfer_words(tmp_path, *words))
    assert ran.code == 2 and len(ran.lines) == 1 and fault in ran.err, ran.err
    assert not (tmp_path / "run").exists()
