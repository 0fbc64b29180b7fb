"""Typed settings of ``genkt prime``; ``configs/prime.yaml`` holds the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from genkt.settings.bounds import (
    BatchSize,
    Count,
    CountOrNone,
    Depth,
    NotNegative,
    Pixels,
    Rate,
    Seconds,
    Seed,
    Share,
    Width,
)
from genkt.settings.faults import Fault, SettingsError
from genkt.types import Range


@dataclass(frozen=True)
class PerceptualSettings:
    """``vqgan.perceptual``: what beside pixels makes two pictures alike.

    Args:
        kind: ``teacher`` (a frozen model's features), ``lpips`` (from two files) or ``none``.
        teacher: timm name, ``genkt:NAME`` or ``local-dir:PATH``.
        pretrained: with its weights; without, its features are those of a random network.
        lpips_vgg, lpips_linear: files, see ``genkt.generative.perceptual.Lpips``.
        weight: of the term.
    """

    kind: Literal["teacher", "lpips", "none"]
    teacher: str
    pretrained: bool
    lpips_vgg: str | None
    lpips_linear: str | None
    weight: NotNegative


@dataclass(frozen=True)
class GanSettings:
    """``vqgan.gan``: the patch discriminator.

    Args:
        start: share of the steps after which it counts; 1 is never.
        warmup: share of the steps before that in which it learns without counting.
        weight: factor of the adaptive weight (0.8 in the paper's settings).
        channels, layers: of taming's ``NLayerDiscriminator``.
        lr: of its Adam.
    """

    start: Share
    warmup: Share
    weight: NotNegative
    channels: Width
    layers: Depth
    lr: Rate


@dataclass(frozen=True)
class VQGANSettings:
    """``vqgan``: the network and its training.

    Args:
        weights: a VQGAN folder to start from (with steps=0: to keep as it is), or None.
        channels, layers, num_codes, code_dim: see ``build_vqmodel``.
        steps, batch_size, lr, weight_decay, warmup: AdamW, warm-up, cosine to zero.
        commitment: weight of the commitment loss.
        codebook_decay: of the codes' moving averages.
        dead_below: codes chosen less often than this a batch (on average) start anew.
        precision: bf16 autocast or fp32.
    """

    weights: str | None
    channels: tuple[Width, ...]
    layers: Depth
    num_codes: Annotated[int, Range(2, 2**20)]
    code_dim: Width
    steps: CountOrNone
    batch_size: Annotated[int, Range(2, 2**20)]
    lr: Rate
    weight_decay: NotNegative
    warmup: Share
    commitment: NotNegative
    codebook_decay: Share
    dead_below: NotNegative
    precision: Literal["bf16", "fp32"]
    perceptual: PerceptualSettings
    gan: GanSettings


@dataclass(frozen=True)
class TransformerSettings:
    """``transformer``: the latent transformer and its training.

    Args:
        layers, heads, width, dropout: of taming's ``GPT``.
        scans: directions it learns; each picture of a batch is read in one of them.
        condition: what the start token tells beside the scan: nothing, the ``class`` (upstream
            must be one folder of class folders, or glyphs), or the ``image``: which of
            ``num_clusters`` kinds of pictures, by the codes it is made of.
        num_clusters: for condition=image.
        steps, batch_size, lr, weight_decay, warmup: AdamW, warm-up, cosine to zero.
        ema: decay of the averaged weights that are kept.  precision: bf16 autocast or fp32.
    """

    layers: Depth
    heads: Depth
    width: Width
    dropout: Share
    scans: tuple[str, ...]
    condition: Literal["none", "class", "image"]
    num_clusters: Annotated[int, Range(2, 10**6)]
    steps: CountOrNone
    batch_size: BatchSize
    lr: Rate
    weight_decay: NotNegative
    warmup: Share
    ema: Share
    precision: Literal["bf16", "fp32"]


@dataclass(frozen=True)
class PrimeConfig:
    """Everything ``genkt prime`` needs; ``configs/prime.yaml`` holds the defaults.

    Args:
        out: run folder; the generator goes to ``out/generator``.
        upstream: ``glyphs`` (built in), or a folder or list of folders of images.
        size: side in pixels of the pictures.
        features: model in whose features the Frechet distance is measured.
        eval_every, log_every: in steps.
        save_seconds: least time between resumable states.
    """

    out: str
    upstream: str | list[str]
    size: Pixels
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    features: str
    overwrite: bool
    eval_every: Count
    log_every: Count
    save_seconds: Seconds
    vqgan: VQGANSettings
    transformer: TransformerSettings

    def __post_init__(self) -> None:
        if self.vqgan.steps == 0 and self.vqgan.weights is None:
            text = "0 keeps an existing VQGAN, give vqgan.weights=FOLDER too"
            raise SettingsError([Fault("vqgan.steps", text, "together")])
