from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.factors import factor_distance


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_factor_distance(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        a, b = math.hypot(*ours) or 1.0, math.hypot(*theirs) or 1.0
        total += sum(abs(x / a - y / b) for x, y in zip(ours, theirs, strict=True))
    return total / len(student)


def test_equals_the_slow_one() -> None:
    student, teacher = 7 * draw(5, 4), draw(5, 4, seed=1)
    value = factor_distance(student, teacher).item()
    assert value == pytest.approx(slow_factor_distance(student, teacher), abs=1e-9)
    student[2], teacher[3] = 0.0, 0.0
    value = factor_distance(student, teacher).item()
    assert value == pytest.approx(slow_factor_distance(student, teacher), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 5), width=st.integers(1, 6), seed=st.integers(0, 999))
def test_directions_alone_matter(rows: int, width: int, seed: int) -> None:
    student, teacher = draw(rows, width, seed=seed), draw(rows, width, seed=seed + 1)
    factors = torch.rand(rows, 1, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    assert factor_distance(factors * teacher, teacher).item() < 1e-14
    value = factor_distance(student, teacher).item()
    assert value == pytest.approx(factor_distance(factors * student, teacher).item(), abs=1e-12)
    assert value == pytest.approx(factor_distance(teacher, student).item(), abs=1e-12)
    assert value <= 2 * math.sqrt(width) + 1e-12
    opposite = factor_distance(-teacher, teacher).item()
    unit = teacher / teacher.norm(dim=1, keepdim=True)
    assert opposite == pytest.approx(2 * unit.abs().sum(dim=1).mean().item(), abs=1e-12)
    assert opposite >= 2 - 1e-12


def test_gradients() -> None:
    teacher = draw(4, 3, seed=1)
    assert torch.autograd.gradcheck(
        lambda student: factor_distance(student, teacher), draw(4, 3).requires_grad_()
    )
    student = torch.zeros(4, 3, requires_grad=True)
    factor_distance(student, teacher.float()).backward()
    assert student.grad is not None and not student.grad.any()


def test_autocast_does_not_narrow() -> None:
    student, teacher = draw(5, 3).bfloat16(), draw(5, 3, seed=1).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = factor_distance(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, factor_distance(student.float(), teacher.float()))


def test_nan_is_never_hidden() -> None:
    broken = draw(3, 2)
    broken[1, 1] = torch.nan
    assert factor_distance(broken, draw(3, 2)).isnan()
    assert factor_distance(draw(3, 2), broken).isnan()


def test_errors() -> None:
    with refused(key="teacher factors", got=[3, 4]):
        factor_distance(draw(3, 2), draw(3, 4))
    with refused(key="teacher factors", got=[2, 2]):
        factor_distance(draw(3, 2), draw(2, 2))
    with refused(key="student factors", got=0):
        factor_distance(draw(0, 2), draw(0, 2))
    with refused(key="teacher factors", got="shape [3]"):
        factor_distance(draw(3, 2), draw(3))
