"""Small settings of ``genkt prime`` that the tests share."""

from __future__ import annotations

from pathlib import Path

from tiny import write_images

from genkt.config.prime_settings import PrimeConfig
from genkt.config.read_config import read_config

SMALL = [
    "size=16", "eval_every=100", "log_every=1", "save_seconds=0", "device=cpu",
    "vqgan.channels=[8,8]", "vqgan.num_codes=16", "vqgan.code_dim=4", "vqgan.steps=3",
    "vqgan.batch_size=8", "vqgan.precision=fp32", "vqgan.perceptual.kind=none",
    "vqgan.gan.start=0.4", "vqgan.gan.channels=4", "vqgan.gan.layers=1",
    "transformer.layers=1", "transformer.heads=2", "transformer.width=16", "transformer.steps=3",
    "transformer.batch_size=8", "transformer.precision=fp32",
]  # fmt: skip


def prime_words(out: Path, *words: str) -> list[str]:
    """A run of a few seconds on a folder of 24 pictures, written beside ``out``."""
    root = out.parent / "upstream"
    if not root.exists():
        write_images(root)
    return [f"upstream={root}", *SMALL, f"out={out}", *words]


def prime_config(out: Path, *words: str) -> PrimeConfig:
    """The same as a checked configuration."""
    return read_config(PrimeConfig, "prime", prime_words(out, *words))
