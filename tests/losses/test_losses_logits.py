from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.logits import (
    cross_entropy,
    kl_distillation,
    soft_target_cross_entropy,
    top_k_distillation,
)


def random_logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def slow_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    losses = [
        -math.log(slow_softmax(row, 1.0)[label])
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        if label >= 0
    ]
    return sum(losses) / len(losses) if losses else 0.0


def slow_kl(student: Tensor, teachers: list[Tensor], temperature: float) -> float:
    total = 0.0
    for index, row in enumerate(student.tolist()):
        q = slow_softmax(row, temperature)
        targets = [slow_softmax(t[index].tolist(), temperature) for t in teachers]
        for c in range(len(row)):
            p = sum(target[c] for target in targets) / len(targets)
            total += p * (math.log(p) - math.log(q[c]))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], [2, -1, -1, 1], [-1, -1, -1, -1]])
def test_cross_entropy_equals_the_slow_one(labels: list[int]) -> None:
    logits, targets = random_logits(4, 3), torch.tensor(labels)
    expected = slow_cross_entropy(logits, targets)
    assert cross_entropy(logits, targets).item() == pytest.approx(expected, abs=1e-9)


def test_unlabelled_rows_do_not_change_cross_entropy() -> None:
    logits, labels = random_logits(6, 3), torch.tensor([0, 2, -1, 1, -1, -1])
    assert torch.equal(
        cross_entropy(logits, labels), cross_entropy(logits[labels >= 0], labels[labels >= 0])
    )


def test_cross_entropy_without_labels_is_zero_with_zero_gradient() -> None:
    logits = random_logits(3, 4).requires_grad_()
    loss = cross_entropy(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros(3, 4).double())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("num_teachers", [1, 2, 3])
def test_kl_equals_the_slow_one(temperature: float, num_teachers: int) -> None:
    student = random_logits(5, 4, seed=1)
    teachers = [random_logits(5, 4, seed=2 + k) for k in range(num_teachers)]
    value = kl_distillation(student, teachers, temperature=temperature)
    assert value.item() == pytest.approx(slow_kl(student, teachers, temperature), abs=1e-9)


def test_kl_puts_the_teacher_first() -> None:
    student, teacher = torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
    p, q = 0.5, math.exp(3) / (math.exp(3) + 1)
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    value = kl_distillation(student, teacher, temperature=1.0)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    assert value.item() != pytest.approx(slow_kl(teacher, [student], 1.0), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(1, 6),
    num_classes=st.integers(2, 50),
    temperature=st.floats(0.1, 20),
    seed=st.integers(0, 2**31),
)
def test_kl_properties(num_rows: int, num_classes: int, temperature: float, seed: int) -> None:
    student = random_logits(num_rows, num_classes, seed=seed)
    teacher = random_logits(num_rows, num_classes, seed=seed + 1)
    value = kl_distillation(student, teacher, temperature=temperature)
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
    assert value >= -1e-12
    assert kl_distillation(student, student.clone(), temperature=temperature).item() == 0
    permuted = kl_distillation(student[order], teacher[order], temperature=temperature)
    assert torch.allclose(permuted, value, rtol=1e-12, atol=1e-12)
    shifted = kl_distillation(student, teacher + 7.0, temperature=temperature)
    assert torch.allclose(shifted, value, rtol=1e-9, atol=1e-9)


def slow_mean(teachers: list[Tensor], row: int, temperature: float) -> list[float]:
    targets = [slow_softmax(teacher[row].tolist(), temperature) for teacher in teachers]
    return [sum(values) / len(teachers) for values in zip(*targets, strict=True)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("num_teachers", [1, 3])
@pytest.mark.parametrize("top_k", [2, 4, 5])
def test_top_k_equals_the_slow_one(temperature: float, num_teachers: int, top_k: int) -> None:
    student = random_logits(6, 5, seed=1)
    teachers = [random_logits(6, 5, seed=2 + n) for n in range(num_teachers)]
    total = 0.0
    for row in range(6):
        mean = slow_mean(teachers, row, temperature)
        best = sorted(range(5), key=lambda c: -mean[c])[:top_k]
        p = [mean[c] / sum(mean[other] for other in best) for c in best]
        q = slow_softmax([student[row, c].item() for c in best], temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = top_k_distillation(student, teachers, temperature=temperature, top_k=top_k)
    assert found.item() == pytest.approx(temperature**2 * total / 6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.floats(0.2, 10), st.integers(0, 10**6))
def test_top_k_properties(num_classes: int, temperature: float, seed: int) -> None:
    student = random_logits(4, num_classes, seed=seed)
    teachers = [random_logits(4, num_classes, seed=seed + n) for n in (1, 2)]
    whole = top_k_distillation(student, teachers, temperature=temperature, top_k=num_classes)
    plain = kl_distillation(student, teachers, temperature=temperature)
    assert torch.allclose(whole, plain, rtol=1e-9, atol=1e-9)
    top_k = 2 + seed % (num_classes - 1)
    value = top_k_distillation(student, teachers, temperature=temperature, top_k=top_k)
    assert value >= -1e-12
    same = top_k_distillation(student, [student], temperature=temperature, top_k=top_k)
    assert abs(same) < 1e-12
    # What the student says of the other classes does not count.
    mean = torch.stack([torch.softmax(z / temperature, 1) for z in teachers]).mean(0)
    others = mean < mean.topk(top_k).values[:, -1:]
    moved = torch.where(others, student + 3, student)
    again = top_k_distillation(moved, teachers, temperature=temperature, top_k=top_k)
    assert torch.allclose(again, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("num_teachers", [1, 3])
def test_soft_targets_equal_the_slow_ones(temperature: float, num_teachers: int) -> None:
    student = random_logits(6, 5, seed=1)
    teachers = [random_logits(6, 5, seed=2 + n) for n in range(num_teachers)]
    total = 0.0
    for row in range(6):
        p = slow_mean(teachers, row, temperature)
        q = slow_softmax(student[row].tolist(), temperature)
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    found = soft_target_cross_entropy(student, teachers, temperature=temperature)
    assert found.item() == pytest.approx(temperature**2 * total / 6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.floats(0.2, 10), st.integers(0, 10**6))
def test_soft_targets_are_kl_plus_a_constant(
    num_classes: int, temperature: float, seed: int
) -> None:
    teachers = [random_logits(4, num_classes, seed=seed + n) for n in (1, 2)]
    differences, gradients = [], []
    for own in (3, 4):
        student = random_logits(4, num_classes, seed=seed + own).requires_grad_()
        losses = [
            loss(student, teachers, temperature=temperature)
            for loss in (soft_target_cross_entropy, kl_distillation)
        ]
        differences.append((losses[0] - losses[1]).item())
        gradients += [torch.autograd.grad(loss, student)[0] for loss in losses]
    assert differences[0] == pytest.approx(differences[1], rel=1e-9, abs=1e-9)
    assert differences[0] > 0
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
    assert torch.allclose(gradients[2], gradients[3], rtol=1e-9, atol=1e-12)


def test_extreme_logits_stay_finite() -> None:
    teachers = [torch.tensor([[-1e4, 1e4, 0.0]]), torch.zeros(1, 3)]
    for loss in (
        functools.partial(kl_distillation, temperature=1.0),
        functools.partial(soft_target_cross_entropy, temperature=1.0),
        functools.partial(top_k_distillation, temperature=1.0, top_k=2),
    ):
        student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
        value = loss(student, teachers)
        value.backward()
        assert torch.isfinite(value) and student.grad is not None
        assert torch.isfinite(student.grad).all()


def test_gradients() -> None:
    student = random_logits(3, 4).requires_grad_()
    teachers = [random_logits(3, 4, seed=5), random_logits(3, 4, seed=6)]
    labels = torch.tensor([3, -1, 0])
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, labels), student)
    assert torch.autograd.gradcheck(
        lambda z: kl_distillation(z, teachers, temperature=3.0), student
    )
    assert torch.autograd.gradcheck(
        lambda z: soft_target_cross_entropy(z, teachers, temperature=3.0), student
    )
    assert torch.autograd.gradcheck(
        lambda z: top_k_distillation(z, teachers, temperature=3.0, top_k=2), student
    )


def test_the_factor_keeps_gradients_comparable_over_temperatures() -> None:
    teacher = 0.01 * random_logits(4, 5, seed=3)
    norms = []
    for temperature in (10.0, 100.0):
        student = (0.01 * random_logits(4, 5)).requires_grad_()
        kl_distillation(student, teacher, temperature=temperature).backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_logits_are_widened(dtype: torch.dtype) -> None:
    student, teacher = random_logits(4, 6).to(dtype), random_logits(4, 6, seed=1).to(dtype)
    labels = torch.tensor([0, 1, -1, 5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kl = kl_distillation(student, teacher, temperature=2.0)
        ce = cross_entropy(student, labels)
        soft = soft_target_cross_entropy(student, [teacher], temperature=2.0)
        best = top_k_distillation(student, [teacher], temperature=2.0, top_k=3)
    assert kl.dtype == ce.dtype == soft.dtype == best.dtype == torch.float32
    assert torch.equal(kl, kl_distillation(student.float(), teacher.float(), temperature=2.0))
    assert torch.equal(ce, cross_entropy(student.float(), labels))


def test_nan_is_never_hidden() -> None:
    logits = random_logits(2, 3)
    broken = logits.clone()
    broken[0, 0] = math.nan
    assert cross_entropy(broken, torch.tensor([0, 1])).isnan()
    assert kl_distillation(broken, logits, temperature=1.0).isnan()
    assert kl_distillation(logits, broken, temperature=1.0).isnan()
    assert soft_target_cross_entropy(logits, [broken], temperature=1.0).isnan()
    assert soft_target_cross_entropy(broken, [logits], temperature=1.0).isnan()
    assert top_k_distillation(logits, [broken], temperature=1.0, top_k=2).isnan()


def test_errors() -> None:
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with refused(key="student logits", got=1):
        cross_entropy(torch.zeros(2, 1), labels)
    with refused(key="student logits", got=0):
        cross_entropy(torch.zeros(0, 3), labels[:0])
    with refused(key="labels", got="[2] float32"):
        cross_entropy(logits, labels.float())
    with refused(key="labels", got=1):
        cross_entropy(logits, labels[:1])
    with refused(key="student logits", got="shape [3]"):
        kl_distillation(torch.zeros(3), torch.zeros(3), temperature=1.0)
    with refused("torch.int64", key="student logits"):
        kl_distillation(torch.zeros(1, 3).long(), torch.zeros(1, 3), temperature=1.0)
    with refused(key="logits of teacher 0", got=[2, 4]):
        kl_distillation(logits, torch.zeros(2, 4), temperature=1.0)
    for top_k in (1, 4):
        with refused(key="top_k", got=top_k):
            top_k_distillation(logits, [logits], temperature=1.0, top_k=top_k)
    with refused(key="logits of teacher 1", got=[2, 4]):
        soft_target_cross_entropy(logits, [logits, torch.zeros(2, 4)], temperature=1.0)
    with refused(key="teacher logits"):
        kl_distillation(logits, [], temperature=1.0)
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with refused(key="temperature"):
            kl_distillation(logits, logits, temperature=temperature)
