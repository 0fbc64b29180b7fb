"""What trains and judges an image tokenizer (VQGAN): adversarial, perceptual and codebook terms.

Everything computes in float32 or wider, whatever autocast says. NaN inputs give NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from genkt.losses.numerics import no_autocast, require_floats, require_shape, widen
from genkt.types import UserError

EPS = 1e-6
"""Inside the norm of perceptual features: a position without any feature keeps a finite gradient
of at most 1 / sqrt(EPS) = 1000 per feature."""
RATIO_EPS = 1e-4
"""Added to the lower norm of the adaptive weight, as in taming-transformers."""
MAX_WEIGHT = 1e4
PEAK = 255.0


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half of mean max(0, 1 - real) + mean max(0, 1 + fake): 0 once both are beyond the margin.

    Source: Lim & Ye, "Geometric GAN"; the half is that of Esser et al., "Taming Transformers for
    High-Resolution Image Synthesis" (released code). Smallest valid batch: 1 logit each.

    Args:
        real_logits: [B, ...] the discriminator's answers on real pictures, one or more for each.
        fake_logits: [B', ...] its answers on reconstructed pictures.

    Returns:
        Scalar >= 0; 1 where all logits are 0.

    Raises:
        UserError: not floats, or empty.

    Example:
        >>> hinge_discriminator_loss(torch.zeros(2, 1), torch.zeros(2, 1)).item()
        1.0
    """
    _check_floats(real_logits, "real logits")
    _check_floats(fake_logits, "fake logits")
    with no_autocast(real_logits):
        real = functional.relu(1 - widen(real_logits)).mean()
        fake = functional.relu(1 + widen(fake_logits)).mean()
        return (real + fake) / 2


def generator_adversarial_loss(fake_logits: Tensor) -> Tensor:
    """-mean of the discriminator's logits on reconstructions: the generator's side of the hinge.

    Source: Lim & Ye, "Geometric GAN". Smallest valid batch: 1 logit.

    Args:
        fake_logits: [B, ...] the discriminator's answers on reconstructed pictures.

    Returns:
        Scalar of either sign.

    Raises:
        UserError: not floats, or empty.
    """
    _check_floats(fake_logits, "fake logits")
    with no_autocast(fake_logits):
        return -widen(fake_logits).mean()


def adaptive_weight(
    nll_gradient: Tensor, gan_gradient: Tensor, clamp: float = MAX_WEIGHT
) -> Tensor:
    """|nll gradient| / (|gan gradient| + 1e-4), cut to 0..clamp: makes both terms equally strong.

    Source: Esser et al., "Taming Transformers for High-Resolution Image Synthesis", Eq. 7. Differs
    from the paper: 1e-4 instead of 1e-6 and the cut, as in its released code; that code's factor
    of 0.8 is left to the caller, who multiplies the adversarial term by both.

    Args:
        nll_gradient: of the reconstruction term, at the decoder's last layer; any shape.
        gan_gradient: of the adversarial term, at the same weights.
        clamp: largest weight, > 0.

    Returns:
        Scalar in 0..clamp without a graph.

    Raises:
        UserError: not floats, different shapes, or a clamp that is not above 0.

    Example:
        >>> weight = adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0]))
        >>> round(weight.item(), 2)
        5.0
    """
    _check_floats(nll_gradient, "nll gradient")
    require_floats(gan_gradient, "gan gradient")
    require_shape(gan_gradient, tuple(nll_gradient.shape), "gan gradient")
    if not clamp > 0:
        raise UserError.of("clamp", "a number > 0", clamp)
    with torch.no_grad(), no_autocast(nll_gradient):
        above: Tensor = torch.linalg.vector_norm(widen(nll_gradient))
        below: Tensor = torch.linalg.vector_norm(widen(gan_gradient))
        return (above / (below + RATIO_EPS)).clamp(0, clamp)


def perceptual_distance(features_a: Sequence[Tensor], features_b: Sequence[Tensor]) -> Tensor:
    """Mean squared distance between unit feature vectors at the same positions, over all maps.

    Each vector x is divided by sqrt(|x|^2 + EPS). Per map: squared difference summed over the
    channels, mean over pictures and positions; then the mean over the maps.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    Eq. 1. Differs from the paper: any network's maps and no learned channel weights, the mean
    instead of the sum over maps, EPS inside the square root. Smallest valid batch: 1 picture.

    Args:
        features_a: one or more maps [B, D, H, W], token sets [B, T, D] or vectors [B, D].
        features_b: the same of the other pictures, shapes as in ``features_a``.

    Returns:
        Scalar in 0..4, 0 at equality.

    Raises:
        UserError: no maps, different numbers of maps, wrong types or shapes.

    Example:
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])
        >>> round(perceptual_distance([one], [other]).item(), 4)
        2.0
    """
    if not features_a or len(features_a) != len(features_b):
        raise UserError.of(
            "perceptual features",
            "the same number of maps of both, at least one",
            f"{len(features_a)} and {len(features_b)}",
        )
    distances = [
        _unit_distance(a, b, f"map {index}")
        for index, (a, b) in enumerate(zip(features_a, features_b, strict=True))
    ]
    return torch.stack(distances).mean()


def commitment_loss(latents: Tensor, codes: Tensor) -> Tensor:
    """Mean squared distance of the latents from their codes, which are constant here.

    With the arguments exchanged it is the codebook term: the codes drawn to constant latents.
    Source: van den Oord et al., "Neural Discrete Representation Learning", Eq. 3 (third and second
    term). Differs from the paper: the mean over all entries instead of the squared norm.

    Args:
        latents: what the encoder yields, any shape; receives the gradient.
        codes: the chosen code of each latent, same shape.

    Returns:
        Scalar >= 0; the caller multiplies it by its beta (0.25 in the paper).

    Raises:
        UserError: not floats, empty, or different shapes.
    """
    _check_floats(latents, "latents")
    require_floats(codes, "codes")
    require_shape(codes, tuple(latents.shape), "codes")
    with no_autocast(latents):
        return functional.mse_loss(widen(latents), widen(codes.detach()))


def codebook_perplexity(counts: Tensor) -> Tensor:
    """Effective number of codes in use: exp of the entropy of the codes' shares.

    Args:
        counts: [num_codes] how often each code was chosen, integers or floats >= 0.

    Returns:
        float64 scalar: 1 where one code is always chosen, num_codes where all are equally frequent.

    Raises:
        UserError: not a vector, a negative count, or nothing counted.

    Example:
        >>> round(codebook_perplexity(torch.tensor([5, 5, 0, 0])).item(), 6)
        2.0
    """
    if counts.ndim != 1:
        raise UserError.of("counts", "[num_codes]", f"shape {list(counts.shape)}")
    counts = counts.double()
    if counts.numel() == 0 or (counts < 0).any() or counts.sum() == 0:
        raise UserError("counts: expected numbers >= 0 that are not all 0")
    shares = counts / counts.sum()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of two sets of pictures, from the mean squared error over all.

    Pooling over the set, not averaging over pictures, keeps one exact picture from making the
    result infinite.

    Args:
        a: pictures [B, 3, H, W], uint8 or floats in 0..255.
        b: the same shape.

    Returns:
        float64 scalar in dB, infinity where both are equal.

    Raises:
        UserError: different shapes, or empty.

    Example:
        >>> black = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        >>> psnr(black, black + 255).item()
        0.0
    """
    if a.numel() == 0:
        raise UserError.of("pictures", "at least one value", f"shape {list(a.shape)}")
    require_shape(b, tuple(a.shape), "pictures to compare")
    return 10 * torch.log10(PEAK**2 / (a.double() - b.double()).square().mean())


def _check_floats(tensor: Tensor, name: str) -> None:
    require_floats(tensor, name)
    if tensor.numel() == 0:
        raise UserError.of(name, "at least one value", f"shape {list(tensor.shape)}")


def _unit_distance(a: Tensor, b: Tensor, name: str) -> Tensor:
    _check_floats(a, name)
    require_floats(b, name)
    require_shape(b, tuple(a.shape), name)
    if not 2 <= a.ndim <= 4:
        raise UserError.of(name, "[B, D, H, W], [B, T, D] or [B, D]", f"shape {list(a.shape)}")
    channels = 1 if a.ndim == 4 else -1
    with no_autocast(a):
        difference = _unit(widen(a), channels) - _unit(widen(b), channels)
        return difference.square().sum(dim=channels).mean()


def _unit(features: Tensor, channels: int) -> Tensor:
    return features * (features.square().sum(dim=channels, keepdim=True) + EPS).rsqrt()
