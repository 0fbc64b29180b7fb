"""Slow weights: the formula by hand, no shared memory, buffers, shared weights, continuing."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from training_cases import SETTINGS, TRANSFORM, assert_same, tiny_net, tiny_resnet

from genkt.models.backbone import Backbone
from genkt.training.averages import SlowWeights
from genkt.types import UserError


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
def test_it_is_the_formula(decay: float, every: int) -> None:
    student = tiny_resnet()
    slow = SlowWeights(student, decay, every)
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
    before, slow = state_of(student), SlowWeights(student, 0.9, 1)
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
    slow = SlowWeights(tiny_resnet(), 0.9, 1)
    before = state_of(slow.model)
    slow.model.train()
    slow.model(torch.rand(4, 3, 16, 16))
    assert not any(p.requires_grad for p in slow.model.parameters())
    assert_same(slow.model.state_dict(), before)


def test_integer_buffers_are_copied_and_statistics_are_averaged() -> None:
    student = tiny_resnet()
    slow = SlowWeights(student, 0.5, 2)
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
    slow = SlowWeights(student, 0.7, 1)
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
    slow = SlowWeights(student, 0.5, 1)
    start = student.model.first.weight.detach().clone()  # type: ignore[union-attr, operator]
    with torch.no_grad():
        student.model.first.weight.add_(1)  # type: ignore[union-attr, operator]
    slow.update(student)
    for name in ("first", "head"):
        weight = slow.model.get_parameter(f"model.{name}.weight")
        torch.testing.assert_close(weight.detach(), start + 0.5)


@pytest.mark.parametrize("stop", [2, 3])
def test_it_goes_on_where_it_stopped(stop: int) -> None:
    student, twin = tiny_resnet(), tiny_resnet()
    whole, part = SlowWeights(student, 0.9, 2), SlowWeights(twin, 0.9, 2)
    for step in range(6):
        if step == stop:
            state = copy.deepcopy(part.state_dict())
            part = SlowWeights(twin, 0.9, 2)
            part.load_state_dict(state)
        for model, slow in ((student, whole), (twin, part)):
            move(model, step)
            slow.update(model)
    assert_same(part.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_is_none_is_refused_with_the_settings(decay: float) -> None:
    with pytest.raises(UserError, match=r"train\.ema: expected a number from 0 to below 1, got"):
        dataclasses.replace(SETTINGS, ema=decay)


def test_a_new_copy_starts_at_the_student() -> None:
    student = tiny_net(4)
    assert_same(SlowWeights(student, 0.9, 3).model.state_dict(), student.state_dict())
