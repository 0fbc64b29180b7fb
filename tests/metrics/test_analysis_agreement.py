"""Agreement of two models, against slow float64 references."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from genkt.metrics.agreement import linear_cka, mean_kl, top1_agreement

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(2, 12), st.integers(1, 12), st.integers(1, 12))


def slow_cka(a: np.ndarray, b: np.ndarray) -> float:
    """HSIC of linear kernels with the centring matrix, as the definition has it."""
    n = len(a)
    centre = np.eye(n) - np.ones((n, n)) / n
    kernels = [centre @ x @ x.T @ centre for x in (a, b)]
    hsic = [np.trace(kernels[i] @ kernels[j]) for i, j in ((0, 1), (0, 0), (1, 1))]
    return float(hsic[0] / math.sqrt(hsic[1] * hsic[2]))


def features(size: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows, first, second = size
    return generator.normal(2, 1, (rows, first)), generator.normal(-1, 3, (rows, second))


@given(sizes, seeds)
@settings(max_examples=60, deadline=None)
def test_cka_is_the_definition(size: tuple[int, int, int], seed: int) -> None:
    """More samples than columns, fewer, and both: each way to compute it."""
    a, b = features(size, seed)
    found = linear_cka(a, b)
    assert found == pytest.approx(slow_cka(a, b), abs=1e-9)
    assert found == pytest.approx(linear_cka(b, a), abs=1e-12) and 0 <= found <= 1
    assert linear_cka(a, a) == pytest.approx(1, abs=1e-12)


@given(sizes, seeds, st.sampled_from([1e-170, 1e-3, 1.0, 1e200]))
@settings(max_examples=40, deadline=None)
def test_cka_sees_no_rotation_scaling_or_shift(
    size: tuple[int, int, int], seed: int, scale: float
) -> None:
    a, b = features(size, seed)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(a.shape[1],) * 2))
    assert linear_cka(scale * (a @ turn + 1.0), b) == pytest.approx(linear_cka(a, b), abs=1e-9)


def test_cka_takes_tensors_and_tells_independent_features_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4000, 8, generator=generator), torch.randn(4000, 8, generator=generator)
    assert linear_cka(a, b) < 0.01
    assert linear_cka(a.bfloat16(), a) == pytest.approx(1, abs=1e-3)
    half = torch.cat([a[:, :4], b[:, :4]], dim=1)
    assert 0.4 < linear_cka(a, half) < 0.6


def test_many_samples_make_no_matrix_of_their_pairs() -> None:
    a, b = features((20_000, 4, 6), 0)
    tracemalloc.start()
    linear_cka(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # 20 000 x 20 000 would be 3200 MB


def test_features_that_do_not_vary_have_no_cka() -> None:
    varied = features((5, 3, 3), 0)[0]
    for constant in (np.zeros((5, 2)), np.full((5, 2), 0.1), np.full((5, 3), 1e200)):
        assert math.isnan(linear_cka(constant, varied)) and math.isnan(linear_cka(varied, constant))
    assert math.isnan(linear_cka(varied[:1], varied[:1]))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 3)), "CKA"),
        (np.ones(3), np.ones((3, 3)), "CKA, first"),
        (np.ones((3, 3)), np.full((3, 1), np.nan), "CKA, second"),
        (np.ones((0, 3)), np.ones((0, 3)), "CKA, first"),
    ],
)
def test_cka_refuses(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with refused(message):
        linear_cka(a, b)


@given(st.integers(1, 10), st.integers(2, 6), seeds)
@settings(max_examples=40, deadline=None)
def test_kl_is_a_slow_sum_with_the_teacher_first(n: int, num_classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 5 * torch.randn(2, n, num_classes, generator=generator)
    slow = 0.0
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        log_s, log_t = (
            [z - max(row) - math.log(sum(math.exp(v - max(row)) for v in row)) for z in row]
            for row in (s, t)
        )
        slow += sum(math.exp(p) * (p - q) for p, q in zip(log_t, log_s, strict=True)) / n
    assert mean_kl(student, teacher) == pytest.approx(slow, rel=1e-9, abs=1e-12)
    assert mean_kl(student, student + 3.0) == pytest.approx(0, abs=1e-6)
    assert mean_kl(student, student) == 0


def test_top1_agreement() -> None:
    assert top1_agreement(np.array([0, 1, 2, 9]), np.array([0, 2, 2, 9])) == 0.75
    for other in (np.array([1]), np.empty(0, np.int64)):
        with refused(key="agreement"):
            top1_agreement(np.empty(0, np.int64), other)
