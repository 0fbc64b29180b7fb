"""Slow weights in the training loop: what is evaluated, saved and returned."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_cases import (
    Case,
    weights,
)

from genkt.methods.base import WeightRule
from genkt.models.backbone import Backbone
from genkt.training.fabric import make_fabric
from genkt.training.loop import train
from genkt.training.stage import Stage


@pytest.mark.parametrize("every", [1, 2, 4])
def test_slow_weights_are_evaluated_saved_and_returned(tmp_path: Path, every: int) -> None:
    """The average of w_t, every so many steps; w_t comes from a run without slow weights."""

    def keep(seen: list[Tensor], model: Backbone) -> float:
        seen.append(model.state_dict()["model.head.weight"].clone())
        return 0.5

    raw: list[Tensor] = []
    slow: list[Tensor] = []
    plain = Case(tmp_path / "raw", evaluate=functools.partial(keep, raw))
    plain.with_settings(eval_every=1).run()
    case = Case(tmp_path / "ema", evaluate=functools.partial(keep, slow))
    stage, _ = case.with_settings(eval_every=1, ema=0.9, ema_every=every).run()
    expected = case.stage().student.state_dict()["model.head.weight"]
    for step, weight in enumerate(raw, start=1):
        updates, rest = divmod(step, every)
        if not updates:
            expected = weight
        elif not rest:
            share = max(0.1, 9 / (updates + 8))
            expected = (1 - share) * expected + share * weight
        torch.testing.assert_close(slow[step - 1], expected)
    assert torch.equal(weights(stage)["model.head.weight"], slow[-1])
    saved = load_file(tmp_path / "ema" / "stage" / "last.safetensors")
    assert torch.equal(saved["head.weight"], slow[-1])
    # What is trained is trained as without them.
    state = torch.load(tmp_path / "ema" / "stage" / "state.pt", weights_only=True)
    assert torch.equal(state["distiller"]["student.model.head.weight"], raw[-1])


@pytest.mark.parametrize("num_steps", [1, 10])
def test_a_long_average_of_a_short_training_is_near_what_was_trained(
    tmp_path: Path, num_steps: int
) -> None:
    def head(stage: Stage) -> Tensor:
        return weights(stage)["model.head.weight"]

    case = Case(tmp_path / "raw").with_settings(steps=num_steps)
    start, trained = head(case.stage()), head(case.run()[0])
    case = Case(tmp_path / "ema").with_settings(steps=num_steps, ema=0.999)
    averaged = head(case.run()[0])
    assert (averaged - trained).norm() <= 0.3 * (trained - start).norm()


def test_the_method_s_own_momentum_starts_at_the_first_weights(tmp_path: Path) -> None:
    raw: list[Tensor] = []

    def keep(model: Backbone) -> float:
        raw.append(model.state_dict()["model.head.weight"].clone())
        return 0.5

    Case(tmp_path / "raw", evaluate=keep).with_settings(eval_every=1).run()
    stage = Case(tmp_path / "slow").stage()
    stage.momentum = WeightRule(0.75, 2)
    expected = stage.student.state_dict()["model.head.weight"].clone()
    for weight in raw[1::2]:
        expected = 0.75 * expected + 0.25 * weight
    train(make_fabric("fp32", "cpu"), stage)
    torch.testing.assert_close(stage.student.state_dict()["model.head.weight"], expected)
