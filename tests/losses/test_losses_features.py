from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.features import feature_regression, reverse_feature_regression


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_regression(source: Tensor, target: Tensor, weight: Tensor, bias: Tensor) -> float:
    total = 0.0
    num_rows, num_outputs = target.shape
    for i in range(num_rows):
        for j in range(num_outputs):
            predicted = bias[j].item()
            for k in range(source.shape[1]):
                predicted += weight[j, k].item() * source[i, k].item()
            total += (predicted - target[i, j].item()) ** 2
    return total / (num_rows * num_outputs)


def test_both_directions_equal_the_slow_one() -> None:
    phi, psi = draw(4, 3), draw(4, 5, seed=1)
    weight, bias = draw(5, 3, seed=2), draw(5, seed=3)
    value = feature_regression(phi, psi, weight=weight, bias=bias)
    assert value.item() == pytest.approx(slow_regression(phi, psi, weight, bias), abs=1e-9)
    weight, bias = draw(3, 5, seed=4), draw(3, seed=5)
    value = reverse_feature_regression(phi, psi, weight=weight, bias=bias)
    assert value.item() == pytest.approx(slow_regression(psi, phi, weight, bias), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 5), d_s=st.integers(1, 6), d_t=st.integers(1, 6), seed=st.integers(0, 999)
)
def test_zero_at_equality_and_row_order(rows: int, d_s: int, d_t: int, seed: int) -> None:
    phi, weight, bias = draw(rows, d_s, seed=seed), draw(d_t, d_s, seed=seed + 1), draw(d_t)
    exact = phi @ weight.T + bias
    assert feature_regression(phi, exact, weight=weight, bias=bias).item() < 1e-25
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    psi = draw(rows, d_t, seed=seed + 2)
    value = feature_regression(phi, psi, weight=weight, bias=bias)
    permuted = feature_regression(phi[order], psi[order], weight=weight, bias=bias)
    assert torch.allclose(value, permuted, rtol=1e-12)


def test_gradients() -> None:
    phi, psi = draw(3, 2).requires_grad_(), draw(3, 4, seed=1)
    forward = (phi, draw(4, 2, seed=2).requires_grad_(), draw(4, seed=3).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, w, b: feature_regression(x, psi, weight=w, bias=b), forward
    )
    backward = (phi, draw(2, 4, seed=2).requires_grad_(), draw(2, seed=3).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, w, b: reverse_feature_regression(x, psi, weight=w, bias=b), backward
    )


def test_autocast_does_not_narrow() -> None:
    phi, psi = draw(4, 3).bfloat16(), draw(4, 5, seed=1).half()
    weight, bias = draw(5, 3, seed=2).float(), draw(5, seed=3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = feature_regression(phi, psi, weight=weight, bias=bias)
    assert value.dtype == torch.float32
    assert torch.equal(
        value, feature_regression(phi.float(), psi.float(), weight=weight, bias=bias)
    )


def test_nan_is_never_hidden() -> None:
    psi = draw(3, 2)
    psi[1, 1] = torch.nan
    assert feature_regression(draw(3, 2), psi, weight=draw(2, 2), bias=draw(2)).isnan()


def test_errors() -> None:
    phi, psi, weight, bias = draw(3, 2), draw(3, 4), draw(4, 2), draw(4)
    with refused(key="teacher features", got=2):
        feature_regression(phi, psi[:2], weight=weight, bias=bias)
    with refused(key="weight", got=[2, 4]):
        feature_regression(phi, psi, weight=weight.T, bias=bias)
    with refused(key="bias", got=[4]):
        reverse_feature_regression(phi, psi, weight=weight.T, bias=bias)
    with refused(key="student features", got=0):
        feature_regression(phi[:0], psi[:0], weight=weight, bias=bias)
    with refused(key="student features", got="shape [2]"):
        reverse_feature_regression(phi[0], psi, weight=weight.T, bias=bias)
