"""The smallest generators: untrained networks, made alike every time, in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from genkt.generative.generator import Generator
from genkt.generative.latent_transformer import LatentTransformer, TransformerConfig
from genkt.generative.vqgan import VQGAN, build_vqmodel

SIZE, NUM_CODES = 16, 32


def tiny_vqgan(size: int = SIZE, num_codes: int = NUM_CODES, seed: int = 0) -> VQGAN:
    """A VQGAN with random weights: tokens of 4 x 4 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_vqmodel(num_codes=num_codes, code_dim=4, channels=(8, 8, 8), size=size)
        model.quantize.embedding.weight.data.normal_()
    return VQGAN(model)


def tiny_transformer(vqgan: VQGAN, seed: int = 0) -> LatentTransformer:
    """A GPT of one layer over that VQGAN's grids."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = TransformerConfig.of(
            vqgan.num_codes, vqgan.grid, num_layers=1, num_heads=2, width=16
        )
        return LatentTransformer.build(config).eval().requires_grad_(False)


def tiny_generator(size: int = SIZE, seed: int = 0) -> Generator:
    """Both, as a generator."""
    vqgan = tiny_vqgan(size, seed=seed)
    return Generator(vqgan, tiny_transformer(vqgan, seed), "tiny")


def save_tiny_generator(directory: Path, size: int = SIZE) -> Path:
    """A folder that ``load_generator`` reads."""
    generator = tiny_generator(size)
    assert isinstance(generator.completer, LatentTransformer)
    generator.vqgan.save(directory / "vqgan")
    generator.completer.save(directory / "transformer")
    return directory
