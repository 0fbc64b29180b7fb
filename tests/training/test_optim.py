"""Optimizers, weight decay groups and the schedule."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from torch import nn
from training_cases import SETTINGS

from genkt.training.optim import build_optimizer, lr_factor, set_lr_factor


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


@given(st.integers(1, 300), st.floats(0, 1))
def test_the_rate_rises_then_falls_and_stays_in_range(num_steps: int, warmup: float) -> None:
    factors = [lr_factor(step, num_steps, warmup) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = round(warmup * num_steps)
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    if top < num_steps:
        assert factors[top] == 1.0


def test_reference_values_of_the_schedule() -> None:
    assert [lr_factor(step, 12, 0.25) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert lr_factor(6, 12, 0.0) == pytest.approx(0.5)
    assert lr_factor(11, 12, 0.0) == pytest.approx(0.5 * (1 + math.cos(math.pi * 11 / 12)))


def test_a_steady_rate_stays_after_its_warm_up() -> None:
    assert [lr_factor(step, 12, 0.25, steady=True) for step in range(3)] == [0.25, 0.5, 0.75]
    assert {lr_factor(step, 12, 0.25, steady=True) for step in range(3, 12)} == {1.0}


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=0.1, foreach=False)),
        ("adam", lambda groups: torch.optim.Adam(groups, lr=0.1, foreach=False)),
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)),
    ],
)
def test_steps_equal_torchs_plain_loops_and_spare_vectors_from_decay(
    name: str, reference: object
) -> None:
    settings = dataclasses.replace(SETTINGS, optimizer=name, lr=0.1, weight_decay=0.3)
    ours, plain = layer(), layer()
    matrices = [p for p in plain.parameters() if p.dim() > 1]
    vectors = [p for p in plain.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizers = [build_optimizer(ours.parameters(), settings), reference(groups)]  # type: ignore[operator]
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        for model, optimizer in zip((ours, plain), optimizers, strict=True):
            model(inputs).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for left, right in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_every_optimizer_keeps_its_own_base_rate_through_a_saved_state() -> None:
    first = build_optimizer(layer().parameters(), SETTINGS)
    own = torch.optim.Adam(layer().parameters(), lr=0.5)
    for factor in (0.5, 0.25):
        set_lr_factor([first, own], factor)
    assert [group["lr"] for group in first.param_groups] == [SETTINGS.lr / 4] * 2
    assert own.param_groups[0]["lr"] == 0.125
    again = build_optimizer(layer().parameters(), SETTINGS)
    again.load_state_dict(first.state_dict())
    set_lr_factor([again], 1.0)
    assert again.param_groups[0]["lr"] == SETTINGS.lr


def test_frozen_weights_take_no_part() -> None:
    model = layer()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model.parameters(), SETTINGS)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    with refused("student", "frozen"):
        build_optimizer(model[0].parameters(), SETTINGS)
