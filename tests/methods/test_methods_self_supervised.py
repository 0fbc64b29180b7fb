"""SimCLR's loss against the paper's formula, written out in loops; the head of other classes."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.methods.self_supervised import SimCLR
from genkt.methods.source_classes import SourceClasses
from genkt.types import ModelOutput

D, C = 5, 3
LABELS = torch.tensor([0, 1, -1, 2])


def simclr(temperature: float = 0.5, seed: int = 0) -> SimCLR:
    return SimCLR(student_width=D, temperature=temperature, projection=4, seed=seed).double()


def features(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, D, dtype=torch.float64, generator=generator)


def loss_of(objective: SimCLR, rows: Tensor) -> Tensor:
    return objective(ModelOutput(rows), (), torch.full((len(rows),), -1))["total"]


def dot(a: list[float], b: list[float]) -> float:
    return sum(one * other for one, other in zip(a, b, strict=True))


def affine(weight: Tensor, bias: Tensor, row: list[float]) -> list[float]:
    return [dot(w, row) + b for w, b in zip(weight.tolist(), bias.tolist(), strict=True)]


def reference(objective: SimCLR, rows: Tensor, temperature: float) -> float:
    """Eq. 1 of the paper, row by row: l(i, j) over both orders of every pair."""
    z = []
    for row in rows.tolist():
        hidden = affine(objective.hidden_weight, objective.hidden_bias, row)
        z.append(affine(objective.weight, objective.bias, [max(0.0, value) for value in hidden]))

    def similarity(i: int, k: int) -> float:
        return dot(z[i], z[k]) / math.sqrt(dot(z[i], z[i])) / math.sqrt(dot(z[k], z[k]))

    total = 0.0
    for i in range(len(z)):
        j = i + 1 if i % 2 == 0 else i - 1
        scores = [math.exp(similarity(i, k) / temperature) for k in range(len(z)) if k != i]
        total -= math.log(math.exp(similarity(i, j) / temperature) / sum(scores))
    return total / len(z)


@settings(max_examples=25, deadline=None)
@given(pairs=st.integers(2, 5), seed=st.integers(0, 99), temperature=st.floats(0.1, 2.0))
def test_simclr_is_the_papers(pairs: int, seed: int, temperature: float) -> None:
    objective, rows = simclr(temperature, seed), features(2 * pairs, seed)
    expected = reference(objective, rows, temperature)
    assert loss_of(objective, rows).item() == pytest.approx(expected, abs=1e-9)


def test_simclr_gradients() -> None:
    objective, rows = simclr(), features(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss_of(objective, values), rows)
    loss_of(objective, rows).backward()
    for parameter in objective.parameter_groups():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


@given(st.integers(0, 99))
def test_simclr_of_equal_pairs_is_smaller_than_of_others(seed: int) -> None:
    rows = features(8, seed)
    equal = rows[0::2].repeat_interleave(2, dim=0)
    shifted = torch.stack([equal[0::2], equal[0::2].roll(1, 0)], dim=1).flatten(0, 1)
    assert loss_of(simclr(), equal) < loss_of(simclr(), shifted)


def test_simclr_does_not_mind_the_order_of_pairs_and_of_views() -> None:
    rows = features(8)
    swapped = rows.view(4, 2, D).flip(1).view(8, D)
    turned = rows.view(4, 2, D).roll(1, 0).view(8, D)
    for other in (swapped, turned):
        torch.testing.assert_close(loss_of(simclr(), other), loss_of(simclr(), rows))


def test_simclr_in_16_bits_is_computed_in_32() -> None:
    objective, rows = simclr().float(), features(4).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(objective, rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss_of(objective, rows).item(), abs=0.05)


@pytest.mark.parametrize("rows", [2, 5])
def test_simclr_needs_two_pairs(rows: int) -> None:
    with refused(key="simclr", got=f"{rows} rows"):
        loss_of(simclr(), features(rows))


def test_the_seed_decides_the_projection() -> None:
    first, again, other = (simclr(seed=seed).weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_lightly_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    with refused("genkt[ssl]"):
        simclr()


def test_a_head_of_its_own_learns_the_classes_of_the_source() -> None:
    objective = SourceClasses(student_width=D, num_classes=C, seed=0).double()
    student = ModelOutput(features(4).requires_grad_(), torch.full((4, 7), math.nan))
    found = objective(student, (), LABELS)
    scores = student.features @ objective.weight.T + objective.bias
    rows = [-scores[row].log_softmax(0)[label] for row, label in enumerate(LABELS) if label >= 0]
    assert found["total"].item() == pytest.approx(sum(row.item() for row in rows) / 3, abs=1e-9)
    assert found["cross_entropy"].item() == found["total"].item()
    found["total"].backward()
    assert all(p.grad is not None for p in objective.parameter_groups())
    assert torch.autograd.gradcheck(
        lambda values: objective(ModelOutput(values), (), LABELS)["total"], student.features
    )


def test_a_head_of_one_class_is_refused() -> None:
    with refused(2, 1):
        SourceClasses(student_width=D, num_classes=1)
