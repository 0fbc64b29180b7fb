from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import Tensor

from genkt.losses.vq import (
    MAX_WEIGHT,
    adaptive_weight,
    codebook_perplexity,
    commitment_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    perceptual_distance,
    psnr,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hinge_equals_the_slow_one() -> None:
    real, fake = draw(3, 1, 2, 2), draw(5, seed=1)
    expected = sum(max(0.0, 1 - x) for x in real.flatten().tolist()) / 12
    expected += sum(max(0.0, 1 + x) for x in fake.tolist()) / 5
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(expected / 2, abs=1e-12)
    assert hinge_discriminator_loss(real.abs() + 1, -fake.abs() - 1).item() == 0
    assert generator_adversarial_loss(fake).item() == pytest.approx(-fake.mean().item())


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
def test_adaptive_weight_balances_the_norms(scale: float, seed: int) -> None:
    nll, gan = draw(4, 3, seed=seed).requires_grad_(), scale * draw(4, 3, seed=seed + 1)
    weight = adaptive_weight(nll, gan)
    expected = np.linalg.norm(nll.detach().numpy()) / (np.linalg.norm(gan.numpy()) + 1e-4)
    assert weight.item() == pytest.approx(min(expected, MAX_WEIGHT), rel=1e-12)
    assert not weight.requires_grad and weight.ndim == 0


def test_adaptive_weight_is_cut() -> None:
    nll, nothing = draw(4) * 1e3, torch.zeros(4, dtype=torch.float64)
    assert adaptive_weight(nll, nothing).item() == 1e4
    assert adaptive_weight(nll, nothing, clamp=3.0).item() == 3.0
    assert adaptive_weight(nothing, nll).item() == 0
    # A half-precision norm would overflow: 1e4 elements of 1e4.
    large = torch.full((10_000,), 1e4, dtype=torch.float16)
    assert adaptive_weight(large, large).item() == pytest.approx(1, abs=1e-6)


def slow_perceptual(maps_a: list[Tensor], maps_b: list[Tensor]) -> float:
    per_map = []
    for a, b in zip(maps_a, maps_b, strict=True):
        total, positions = 0.0, 0
        for n in range(a.shape[0]):
            for y in range(a.shape[2]):
                for x in range(a.shape[3]):
                    u, v = a[n, :, y, x].numpy(), b[n, :, y, x].numpy()
                    u, v = u / math.sqrt(u @ u + 1e-6), v / math.sqrt(v @ v + 1e-6)
                    total, positions = total + float((u - v) @ (u - v)), positions + 1
        per_map.append(total / positions)
    return sum(per_map) / len(per_map)


def test_perceptual_equals_the_slow_one() -> None:
    maps_a, maps_b = (
        [draw(2, 3, 2, 2), draw(2, 5, 1, 3, seed=1)],
        [
            draw(2, 3, 2, 2, seed=2),
            draw(2, 5, 1, 3, seed=3),
        ],
    )
    expected = slow_perceptual(maps_a, maps_b)
    assert perceptual_distance(maps_a, maps_b).item() == pytest.approx(expected, abs=1e-12)
    # Tokens hold their channels last.
    tokens_a = [a.flatten(2).transpose(1, 2) for a in maps_a]
    tokens_b = [b.flatten(2).transpose(1, 2) for b in maps_b]
    assert perceptual_distance(tokens_a, tokens_b).item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 3), depth=st.integers(1, 5), seed=st.integers(0, 999))
def test_perceptual_is_zero_at_equality_symmetric_and_blind_to_scale(
    batch: int, depth: int, seed: int
) -> None:
    a, b = draw(batch, depth, 2, 2, seed=seed), draw(batch, depth, 2, 2, seed=seed + 1)
    assert perceptual_distance([a], [a]).item() == 0
    value = perceptual_distance([a], [b])
    assert torch.equal(value, perceptual_distance([b], [a])) and 0 <= value.item() <= 4
    assert perceptual_distance([a * 1e6], [a * 2e6]).item() < 1e-12


def test_perceptual_has_finite_gradients_where_there_are_no_features() -> None:
    nothing = torch.zeros(2, 3, 2, 2, requires_grad=True)
    perceptual_distance([nothing], [torch.ones(2, 3, 2, 2)]).backward()
    assert nothing.grad is not None and torch.isfinite(nothing.grad).all()
    assert nothing.grad.abs().max() <= 2 * 1000 / 8


def test_commitment_moves_the_latents_alone() -> None:
    latents, codes = draw(2, 3, 2, 2).requires_grad_(), draw(2, 3, 2, 2, seed=1).requires_grad_()
    value = commitment_loss(latents, codes)
    expected = np.mean((latents.detach().numpy() - codes.detach().numpy()) ** 2)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    value.backward()
    assert latents.grad is not None and codes.grad is None
    assert commitment_loss(latents, latents).item() == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_perplexity_lies_between_one_and_the_codes_alive(counts: list[int]) -> None:
    value = codebook_perplexity(torch.tensor(counts)).item()
    assert 1 - 1e-12 <= value <= sum(count > 0 for count in counts) + 1e-9
    shares = [count / sum(counts) for count in counts if count]
    assert value == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-12)
    assert codebook_perplexity(torch.tensor(counts[::-1])).item() == pytest.approx(value)


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    b = a.clone()
    b[0] = 255  # uint8 differences must not wrap
    assert psnr(a, b).item() == pytest.approx(10 * math.log10(2)) == psnr(b, a).item()
    assert psnr(a, a + 1).item() == pytest.approx(20 * math.log10(255))
    assert psnr(a, a).item() == math.inf


def test_gradients() -> None:
    checks: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
        (hinge_discriminator_loss, (draw(3, 2), draw(4, seed=1))),
        (generator_adversarial_loss, (draw(4),)),
        (
            lambda a, b: perceptual_distance([a, a[:, :2]], [b, b[:, 1:]]),
            (draw(2, 3, 2, 2), draw(2, 3, 2, 2, seed=1)),
        ),
        (lambda a: commitment_loss(a, draw(2, 3, seed=1)), (draw(2, 3),)),
    ]
    for function, inputs in checks:
        assert torch.autograd.gradcheck(function, [tensor.requires_grad_() for tensor in inputs])


def test_autocast_does_not_narrow() -> None:
    a, b = draw(2, 3, 2, 2).bfloat16(), draw(2, 3, 2, 2, seed=1).half()
    wide_a, wide_b = a.float(), b.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = [
            (perceptual_distance([a], [b]), perceptual_distance([wide_a], [wide_b])),
            (hinge_discriminator_loss(a, b), hinge_discriminator_loss(wide_a, wide_b)),
            (generator_adversarial_loss(a), generator_adversarial_loss(wide_a)),
            (commitment_loss(a, b), commitment_loss(wide_a, wide_b)),
            (adaptive_weight(a, b), adaptive_weight(wide_a, wide_b)),
        ]
    for narrow, wide in values:
        assert narrow.dtype == torch.float32 and torch.equal(narrow, wide)


def test_nan_is_never_hidden() -> None:
    a = draw(2, 3)
    bad = a.clone()
    bad[1, 1] = torch.nan
    assert hinge_discriminator_loss(a, bad).isnan() and generator_adversarial_loss(bad).isnan()
    assert perceptual_distance([a], [bad]).isnan() and commitment_loss(bad, a).isnan()
    assert adaptive_weight(bad, a).isnan() and adaptive_weight(a, bad).isnan()


def test_errors() -> None:
    a = draw(2, 3)
    with refused(key="real logits"):
        hinge_discriminator_loss(a.int(), a)
    with refused(key="fake logits", got="shape [0, 3]"):
        hinge_discriminator_loss(a, a[:0])
    with refused(key="fake logits", got="shape [0, 3]"):
        generator_adversarial_loss(a[:0])
    with refused(key="gan gradient", got=[1, 3]):
        adaptive_weight(a, a[:1])
    with refused(key="clamp", got=0):
        adaptive_weight(a, a, clamp=0)
    with refused(key="perceptual features", got="2 and 1"):
        perceptual_distance([a, a], [a])
    with refused(key="perceptual features", got="0 and 0"):
        perceptual_distance([], [])
    with refused(key="map 1", got=[2, 2]):
        perceptual_distance([a, a], [a, a[:, :2]])
    with refused(key="map 0", got="shape [6]"):
        perceptual_distance([a.flatten()], [a.flatten()])
    with refused(key="codes", got=[3, 2]):
        commitment_loss(a, a.T)
    with refused(key="latents", got="shape [0, 3]"):
        commitment_loss(a[:0], a[:0])
    with refused(key="counts", got="shape [2, 3]"):
        codebook_perplexity(a)
    for counts in ([0, 0], [1, -1], []):
        with refused("counts"):
            codebook_perplexity(torch.tensor(counts))
    with refused(key="pictures to compare", got=[3, 2]):
        psnr(a, a.T)
    with refused(key="pictures", got="shape [0, 3]"):
        psnr(a[:0], a[:0])
