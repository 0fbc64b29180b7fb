from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.kernels import (
    centred_unit_rows,
    kernel_distance,
    linear_kernel,
    rbf_kernel,
    tensor_product_kernel,
)

KERNELS = [linear_kernel, rbf_kernel]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_rows(features: Tensor) -> list[list[float]]:
    rows = features.tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    centred = [[x - m for x, m in zip(row, means, strict=True)] for row in rows]
    return [[x / math.sqrt(sum(y * y for y in row) + 1e-8) for x in row] for row in centred]


def slow_linear(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def slow_rbf(x: list[float], y: list[float]) -> float:
    return math.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def slow_distance(student: Tensor, teacher: Tensor, kernel: object) -> float:
    assert callable(kernel)
    phi, psi = slow_rows(student), slow_rows(teacher)
    total = 0.0
    for i in range(len(phi)):
        for j in range(len(phi)):
            total += (kernel(phi[i], phi[j]) - kernel(psi[i], psi[j])) ** 2
    return math.sqrt(total / len(phi) ** 2 + 1e-8) - 1e-4


def outer_products(image: Tensor, text: Tensor) -> Tensor:
    return (image[:, :, None] * text[:, None, :]).flatten(1)


def orthogonal(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(draw(width, width, seed=seed))[0]


@pytest.mark.parametrize(("kernel", "slow"), [(linear_kernel, slow_linear), (rbf_kernel, slow_rbf)])
def test_distance_equals_the_slow_one(kernel: object, slow: object) -> None:
    assert callable(kernel)
    phi, psi = draw(5, 3), 2 * draw(5, 7, seed=1) + 1
    value = kernel_distance(kernel(phi), kernel(psi))
    assert value.item() == pytest.approx(slow_distance(phi, psi, slow), abs=1e-9)
    assert value.item() > 0.1


def test_distance_is_the_papers_up_to_its_floor() -> None:
    k, other = linear_kernel(draw(6, 4)), linear_kernel(draw(6, 9, seed=1))
    paper = torch.linalg.matrix_norm(k - other) / 6
    assert paper.item() - 1e-4 <= kernel_distance(k, other).item() <= paper.item()


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(3, 8), width=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_kernel_properties(rows: int, width: int, seed: int) -> None:
    features = draw(rows, width, seed=seed)
    other = draw(rows, 4, seed=seed + 1)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    for kernel in KERNELS:
        k = kernel(features)
        assert kernel_distance(k, kernel(features.clone())).item() == 0
        moved = features @ orthogonal(width, seed + 2) + draw(width, seed=seed + 3)
        assert torch.allclose(kernel(moved), k, atol=1e-5)
        assert torch.allclose(kernel(features[order]), k[order][:, order], atol=1e-10)
        distance = kernel_distance(k, kernel(other))
        assert 0 <= distance.item() <= 2
        assert torch.equal(kernel_distance(kernel(other), k), distance)
        permuted = kernel_distance(kernel(features[order]), kernel(other[order]))
        assert torch.allclose(permuted, distance, atol=1e-10)


def test_one_factor_leaves_the_kernel_factors_by_row_do_not() -> None:
    features = draw(6, 4)
    for kernel in KERNELS:
        assert torch.allclose(kernel(100 * features), kernel(features), atol=1e-7)
        by_row = features * torch.linspace(1, 3, 6, dtype=torch.float64)[:, None]
        assert not torch.allclose(kernel(by_row), kernel(features), atol=1e-2)


def test_ranges_and_rbf_diagonal() -> None:
    features = draw(8, 3)
    assert linear_kernel(features).abs().max() <= 1 + 1e-12
    k = rbf_kernel(features.float())
    assert torch.equal(k.diagonal(), torch.ones(8))
    assert k.min() >= math.exp(-4) - 1e-6 and k.max() <= 1 + 1e-6


def test_two_rows_would_always_agree() -> None:
    """Why fewer than three rows are refused: the formula itself is blind there."""
    phi, psi = slow_rows(draw(2, 3)), slow_rows(draw(2, 5, seed=1))
    for i in range(2):
        for j in range(2):
            difference = slow_linear(phi[i], phi[j]) - slow_linear(psi[i], psi[j])
            assert abs(difference) < 1e-7


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel: object) -> None:
    assert callable(kernel)
    phi, psi = draw(4, 3).requires_grad_(), draw(4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: kernel_distance(kernel(x), kernel(y)), (phi, psi))
    image, text = draw(4, 2).requires_grad_(), draw(4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y: kernel_distance(tensor_product_kernel(x, y), linear_kernel(psi.detach())),
        (image, text),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_at_equality(kernel: object, dtype: torch.dtype) -> None:
    assert callable(kernel)
    features = draw(6, 4).to(dtype).requires_grad_()
    loss = kernel_distance(kernel(features), kernel(features.detach().clone()))
    loss.backward()
    assert loss.item() == 0 and features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 12345.678])
def test_identical_rows_are_finite(kernel: object, value: float) -> None:
    assert callable(kernel)
    same = torch.full((7, 5), value, requires_grad=True)
    loss = kernel_distance(kernel(same), kernel(draw(7, 4).float()))
    loss.backward()
    assert torch.isfinite(loss) and same.grad is not None
    assert torch.isfinite(same.grad).all()
    if value in (0.0, 1.0):  # their mean is exact, so the centred rows are exactly zero
        assert torch.equal(centred_unit_rows(same), torch.zeros(7, 5))


def test_some_identical_rows_are_finite() -> None:
    features = draw(6, 4)
    features[3:] = features[0]
    features.requires_grad_()
    loss = kernel_distance(linear_kernel(features), linear_kernel(draw(6, 3, seed=1)))
    loss.backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(3, 8), d_i=st.integers(1, 6), d_t=st.integers(1, 6), seed=st.integers(0, 2**31)
)
def test_tensor_product_equals_the_materialised(rows: int, d_i: int, d_t: int, seed: int) -> None:
    image, text = draw(rows, d_i, seed=seed), draw(rows, d_t, seed=seed + 1)
    materialised = outer_products(image, text)
    centred = materialised - materialised.mean(dim=0)
    # Rounding enters relative to the row that is normalised: rows on the mean amplify it.
    smallest = (centred.square().sum(1) / materialised.square().sum(1).max()).min().clamp(1e-8, 1)
    difference = (tensor_product_kernel(image, text) - linear_kernel(materialised)).abs().max()
    assert difference.item() <= 4e-15 / smallest.item()


def test_tensor_product_is_exact_to_1e_15() -> None:
    image, text = draw(16, 24), draw(16, 32, seed=1)
    # In extended precision: the materialised form in float64 is itself off by more than that.
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("this platform's long double is no wider than float64")
    rows = image.numpy().astype(np.longdouble)[:, :, None] * text.numpy()[:, None, :]
    rows = rows.reshape(16, -1)
    rows -= rows.mean(axis=0)
    rows /= np.sqrt((rows * rows).sum(axis=1, keepdims=True) + np.longdouble(1e-8))
    difference = np.abs(tensor_product_kernel(image, text).numpy() - rows @ rows.T).max()
    assert difference <= 1e-15


@pytest.mark.parametrize("value", [0.0, 1.0, 333.3])
def test_tensor_product_of_identical_rows_is_finite(value: float) -> None:
    image, text = torch.full((5, 3), value, requires_grad=True), torch.full((5, 4), 77.7)
    loss = kernel_distance(tensor_product_kernel(image, text), linear_kernel(draw(5, 2).float()))
    loss.backward()
    assert torch.isfinite(loss) and image.grad is not None
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("seed", range(10))
def test_tensor_product_survives_a_negative_rounded_norm(seed: int) -> None:
    image = (100 * draw(1, 7, seed=seed)).float().repeat(6, 1).requires_grad_()
    text = (100 * draw(1, 5, seed=seed + 50)).float().repeat(6, 1)
    k = tensor_product_kernel(image, text)
    k.sum().backward()
    assert torch.isfinite(k).all() and image.grad is not None
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_narrow(kernel: object, dtype: torch.dtype) -> None:
    assert callable(kernel)
    phi, psi = (300 * draw(8, 64)).to(dtype), draw(8, 32, seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = kernel_distance(kernel(phi), kernel(psi))
        product = tensor_product_kernel(phi, psi)
    assert value.dtype == product.dtype == torch.float32
    assert torch.equal(value, kernel_distance(kernel(phi.float()), kernel(psi.float())))
    assert torch.equal(product, tensor_product_kernel(phi.float(), psi.float()))


def test_nan_is_never_hidden() -> None:
    features = draw(4, 3)
    features[2, 1] = math.nan
    for kernel in KERNELS:
        assert kernel_distance(kernel(features), kernel(draw(4, 3))).isnan()
    assert tensor_product_kernel(features, draw(4, 3)).isnan().all()


def test_errors() -> None:
    for kernel in (*KERNELS, centred_unit_rows):
        with refused(key="features", got=2):
            kernel(draw(2, 4))
    with refused(key="image features", got=2):
        tensor_product_kernel(draw(2, 4), draw(2, 4))
    with refused(key="text features", got=3):
        tensor_product_kernel(draw(4, 2), draw(3, 2))
    with refused(key="features", got="shape [4, 2, 2]"):
        linear_kernel(draw(4, 2, 2))
    with refused(key="teacher kernel", got=[3, 3]):
        kernel_distance(linear_kernel(draw(4, 2)), linear_kernel(draw(3, 2)))
    with refused(key="student kernel", got=[4, 2]):
        kernel_distance(draw(4, 2), draw(4, 2))
    with refused(key="student kernel", got=2):
        kernel_distance(draw(2, 2), draw(2, 2))
