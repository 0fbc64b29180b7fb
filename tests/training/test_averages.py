"""Slow weights: both formulas by hand, no shared memory, buffers, shared weights, continuing."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from training_cases import SETTINGS, TRANSFORM, assert_same, tiny_net, tiny_resnet

from genkt.models.backbone import Backbone
from genkt.training.averages import (
    AveragedWeights,
    MomentumWeights,
    SlowWeights,
    average_lists,
    newest_share,
    start_left,
)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def move(student: Backbone, seed: int) -> None:
    """One step of training, as far as weights and buffers go."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in student.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
            else:
                value.add_(1)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.75, 0.9999])
def test_momentum_is_the_formula_of_the_paper(decay: float, every: int) -> None:
    student = tiny_resnet()
    slow = MomentumWeights(student, decay, every)
    expected = {name: value.double() for name, value in state_of(student).items()}
    for step in range(1, 8):
        move(student, step)
        slow.update(student)
        if step % every == 0:
            for name, fast in student.state_dict().items():
                if fast.is_floating_point():
                    expected[name] = decay * expected[name] + (1 - decay) * fast.double()
                else:
                    expected[name] = fast.double()
        for name, value in slow.model.state_dict().items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)


def test_nothing_is_shared_and_the_student_is_only_read() -> None:
    student = tiny_resnet()
    before, slow = state_of(student), MomentumWeights(student, 0.9, 1)
    assert all(p.requires_grad for p in student.parameters()) and student.training
    assert not student.frozen
    move(student, 0)
    assert_same(slow.model.state_dict(), before)
    moved = state_of(student)
    slow.update(student)
    assert_same(student.state_dict(), moved)
    addresses = {value.data_ptr() for value in student.state_dict().values()}
    assert addresses.isdisjoint(value.data_ptr() for value in slow.model.state_dict().values())


def test_the_slow_copy_is_frozen() -> None:
    slow = MomentumWeights(tiny_resnet(), 0.9, 1)
    before = state_of(slow.model)
    slow.model.train()
    slow.model(torch.rand(4, 3, 16, 16))
    assert not any(p.requires_grad for p in slow.model.parameters())
    assert_same(slow.model.state_dict(), before)


def test_integer_buffers_are_copied_and_statistics_are_averaged() -> None:
    student = tiny_resnet()
    slow = MomentumWeights(student, 0.5, 2)
    for step in range(3):
        with torch.no_grad():
            student.model.bn1.running_mean.add_(4)  # type: ignore[union-attr, operator]
            student.model.bn1.num_batches_tracked.add_(5)  # type: ignore[union-attr, operator]
        slow.update(student)
        layer = slow.model.model.bn1
        assert layer.num_batches_tracked.item() == (0 if step == 0 else 10)  # type: ignore[union-attr, operator]
        assert layer.running_mean[0].item() == (0 if step == 0 else 4)  # type: ignore[union-attr, index]


def test_weights_that_did_not_move_keep_their_bits() -> None:
    student = tiny_resnet()
    before = state_of(student)
    slow = MomentumWeights(student, 0.7, 1)
    for _ in range(5):
        with torch.no_grad():
            student.model.fc.weight.add_(1)  # type: ignore[union-attr, operator]
        slow.update(student)
    after = slow.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"model.fc.weight"}


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 3), nn.Linear(3, 3)
        self.head.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.first(images.mean(dim=(2, 3))))  # type: ignore[no-any-return]


def test_a_weight_that_two_layers_share_moves_once() -> None:
    student = Backbone(Tied(), TRANSFORM, "tied")
    slow = MomentumWeights(student, 0.5, 1)
    start = student.model.first.weight.detach().clone()  # type: ignore[union-attr, operator]
    with torch.no_grad():
        student.model.first.weight.add_(1)  # type: ignore[union-attr, operator]
    slow.update(student)
    for name in ("first", "head"):
        weight = slow.model.get_parameter(f"model.{name}.weight")
        torch.testing.assert_close(weight.detach(), start + 0.5)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("kind", [AveragedWeights, MomentumWeights])
def test_it_goes_on_where_it_stopped(kind: type[SlowWeights], stop: int) -> None:
    student, twin = tiny_resnet(), tiny_resnet()
    whole, part = kind(student, 0.9, 2), kind(twin, 0.9, 2)
    for step in range(6):
        if step == stop:
            state = copy.deepcopy(part.state_dict())
            part = kind(twin, 0.9, 2)
            part.load_state_dict(state)
        for model, slow in ((student, whole), (twin, part)):
            move(model, step)
            slow.update(model)
    assert_same(part.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_is_none_is_refused_with_the_settings(decay: float) -> None:
    with refused(key="ema"):
        dataclasses.replace(SETTINGS, ema=decay)


def test_a_new_copy_starts_at_the_student() -> None:
    student = tiny_net(4)
    assert_same(MomentumWeights(student, 0.9, 3).model.state_dict(), student.state_dict())


class Line(nn.Module):
    """One weight of float64, so that a formula can be followed to the last digits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean(dim=(2, 3)).double())  # type: ignore[no-any-return]


def line() -> tuple[Backbone, Tensor]:
    model = Line()
    return Backbone(model, TRANSFORM, "line"), model.head.weight


def explicit_shares(decay: float, num_updates: int) -> list[float]:
    """Share of every update in the average after the last one, the first update's first."""
    shares: list[float] = []
    for number in range(1, num_updates + 1):
        newest = max(1 - decay, 9 / (number + 8))
        shares = [share * (1 - newest) for share in shares] + [newest]
    return shares


@settings(max_examples=30, deadline=None)
@given(
    decay=st.floats(0, 0.9999999), every=st.integers(1, 7), num_steps=st.integers(1, 150),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_average_is_the_explicit_mean(
    decay: float, every: int, num_steps: int, seed: int
) -> None:
    student, weight = line()
    slow, rng = AveragedWeights(student, decay, every), np.random.default_rng(seed)
    values = rng.normal(size=(num_steps, *weight.shape))
    for value in values:
        with torch.no_grad():
            weight.copy_(torch.from_numpy(value))
        slow.update(student)
    read = values[every - 1 :: every]
    if not len(read):  # no update yet: the trained weights
        read = values[-1:]
    shares = explicit_shares(decay, len(read))
    assert sum(shares) == pytest.approx(1, abs=1e-9) and min(shares) >= 0
    expected = np.tensordot(shares, read, axes=1)
    found = slow.model.get_parameter("model.head.weight").detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 0.9999999])
def test_shares_start_at_one_and_end_at_those_of_the_decay(decay: float) -> None:
    assert newest_share(1, decay) == 1.0  # so nothing of the start is left, whatever the decay
    falling = [newest_share(n, decay) for n in range(1, 300)]
    assert falling == sorted(falling, reverse=True)
    assert newest_share(10**9, decay) == pytest.approx(1 - decay, abs=1e-7)


def test_a_weight_that_stands_still_keeps_its_bits_under_the_average() -> None:
    student = tiny_resnet()
    with torch.no_grad():
        student.model.conv1.weight.mul_(1e-3).add_(1 / 3)  # type: ignore[union-attr, operator]
    before, slow = state_of(student), AveragedWeights(student, 0.999, 2)
    for _ in range(9):
        slow.update(student)
    assert_same(slow.model.state_dict(), before)


@pytest.mark.parametrize(("num_steps", "most"), [(1, 0.0), (10, 0.2), (240, 0.12), (20_000, 0.06)])
def test_after_any_number_of_steps_it_is_near_the_trained_weights(
    num_steps: int, most: float
) -> None:
    student, weight = line()
    slow = AveragedWeights(student, 0.999, 1)
    torch.nn.init.zeros_(weight)
    for step in range(1, num_steps + 1):
        torch.nn.init.constant_(weight, (step / num_steps) ** 0.5)  # from 0 at the start to 1
        slow.update(student)
    found = slow.model.get_parameter("model.head.weight").detach()
    assert (1 - found).abs().max().item() <= most


def test_torch_averages_by_the_same_rule() -> None:
    student = tiny_resnet()
    averaged = AveragedModel(student, multi_avg_fn=average_lists(0.9), use_buffers=True)
    slow = AveragedWeights(student, 0.9, 1)
    for step in range(20):
        move(student, step)
        averaged.update_parameters(student)
        slow.update(student)
    assert_same(dict(averaged.module.state_dict()), slow.model.state_dict())


def test_what_momentum_keeps_of_its_start() -> None:
    student, weight = line()
    torch.nn.init.ones_(weight)
    slow = MomentumWeights(student, 0.75, 3)
    torch.nn.init.zeros_(weight)
    for _ in range(11):
        slow.update(student)
    left = slow.model.get_parameter("model.head.weight")[0, 0].item()
    assert left == pytest.approx(start_left(0.75, 3, 11)) == pytest.approx(0.75**3)
