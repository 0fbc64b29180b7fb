"""Batches of synthesized pictures: masks and seeds follow from the sources' ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genkt.config.synthesis_settings import (
    DiggSettings,
    InversionSettings,
    IrfSettings,
    SynthesisSettings,
)
from genkt.generative.completer import Completion, ImageCompleter, join_completions
from genkt.generative.deep_inversion import invert
from genkt.generative.generator import Generator
from genkt.generative.masks import MaskSettings, draw_mask, to_pixels
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.synthesis.plan_images import Group
from genkt.types import UserError

logger = logging.getLogger("genkt")

PIXELS_PER_TOKEN = 8
"""Grid of the masks of a completer without tokens."""


@dataclass(frozen=True)
class Made:
    """Synthesized pictures of some groups, one group after the other.

    Args:
        images: [n, 3, H, W] uint8.
        seeds: n seeds.
        tokens: [n, h, w] int64 and hidden: [n, h, w] bool (the drawn ones), or None.
        masks: [n, h, w] bool, the hidden part of the source, or None.
    """

    images: Tensor
    seeds: list[int]
    tokens: Tensor | None = None
    hidden: Tensor | None = None
    masks: Tensor | None = None


def source_mask(
    masks: MaskSettings, grid: tuple[int, int], seed: int, parent: str, mask_round: int
) -> Tensor:
    """[h, w] the tokens of a source that are hidden in one round."""
    return draw_mask(masks, grid, derive_seed(seed, parent, "mask", mask_round))


def mask_grid(generator: ImageCompleter) -> tuple[int, int]:
    """(h, w) that masks are drawn on."""
    if isinstance(generator, Generator):
        return generator.vqgan.grid
    return generator.size // PIXELS_PER_TOKEN, generator.size // PIXELS_PER_TOKEN


def make(
    settings: SynthesisSettings,
    generator: ImageCompleter,
    pictures: Tensor,
    parents: Sequence[str],
    groups: Sequence[Group],
) -> Made:
    """The pictures of some groups with equal numbers of samples.

    Args:
        pictures: [B, 3, size, size] uint8, the source of each group.
        parents: B ids of these.
    """
    method = settings.synthesis
    if isinstance(method, IrfSettings):
        return _reconstruct(generator, pictures, settings, parents)
    assert isinstance(method, DiggSettings)
    masks = torch.stack(
        [
            source_mask(method.masks, mask_grid(generator), settings.seed, parent, group.round)
            for group, parent in zip(groups, parents, strict=True)
        ]
    )
    seeds = [
        [derive_seed(settings.seed, parent, group.round, s) for s in range(group.num_samples)]
        for group, parent in zip(groups, parents, strict=True)
    ]
    return _complete(settings, method, generator, pictures, masks, seeds)


def _reconstruct(
    generator: ImageCompleter, pictures: Tensor, settings: SynthesisSettings, parents: Sequence[str]
) -> Made:
    if not isinstance(generator, Generator):
        raise UserError("synthesis=irf: expected a generator with a VQGAN, got one without")
    tokens = generator.vqgan.encode(pictures).cpu()
    images = generator.vqgan.decode(tokens).cpu()
    seeds = [derive_seed(settings.seed, parent, 0, 0) for parent in parents]
    return Made(images, seeds, tokens, torch.zeros_like(tokens, dtype=torch.bool))


def _complete(
    settings: SynthesisSettings, method: DiggSettings, generator: ImageCompleter,
    pictures: Tensor, masks: Tensor, seeds: list[list[int]],
) -> Made:  # fmt: skip
    """Complete every picture once per seed, ``batch_size`` completions at a time."""
    num_samples = len(seeds[0])
    covered = to_pixels(masks, generator.size // masks.shape[-1])
    most = max(1, settings.batch_size // len(pictures))  # samples of each picture at once
    done = [
        _fitting(generator, pictures, covered, [own[at : at + most] for own in seeds], method)
        for at in range(0, num_samples, most)
    ]
    tokens = [part.tokens for part in done if part.tokens is not None]
    hidden = done[0].hidden
    return Made(
        torch.cat([part.images for part in done], dim=1).flatten(0, 1),
        [seed for own in seeds for seed in own],
        torch.cat(tokens, dim=1).flatten(0, 1) if tokens else None,
        None if hidden is None else hidden.repeat_interleave(num_samples, dim=0),
        masks.repeat_interleave(num_samples, dim=0),
    )


def _fitting(
    generator: ImageCompleter, pictures: Tensor, covered: Tensor, seeds: list[list[int]],
    method: DiggSettings,
) -> Completion:  # fmt: skip
    """Completions, moved to the CPU; a batch that does not fit in memory is halved."""
    try:
        return generator.complete_images(pictures, covered, seeds, method.options)
    except torch.OutOfMemoryError as error:
        if len(pictures) == 1:
            raise UserError("out of memory with one source: lower batch_size") from error
        logger.warning(
            "out of memory with %d sources at once; a lower batch_size is faster", len(pictures)
        )
    torch.cuda.empty_cache()
    half = len(pictures) // 2
    parts = (slice(half), slice(half, None))
    return join_completions(
        [_fitting(generator, pictures[p], covered[p], seeds[p], method) for p in parts]
    )


def make_inverted(settings: SynthesisSettings, teacher: Backbone, groups: Sequence[Group]) -> Made:
    """Pictures of classes, one per group, for the groups of one inversion batch."""
    method = settings.synthesis
    assert isinstance(method, InversionSettings)
    seeds = [derive_seed(settings.seed, "inversion", group.start) for group in groups]
    targets = torch.tensor([group.source for group in groups])
    images = invert(teacher, targets, settings=method.inversion, seeds=seeds)
    return Made(images, seeds)


def mask_kind(mask: Tensor) -> str:
    """The name of a mask [h, w]: bottom, top, left, right, rectangle or scatter."""
    rows, columns = mask.any(dim=1), mask.any(dim=0)
    height, width = int(rows.sum()), int(columns.sum())
    if int(mask.sum()) != height * width:
        return "scatter"
    if width == len(columns) and height < len(rows):
        return "bottom" if rows[-1] else "top" if rows[0] else "rectangle"
    if height == len(rows) and width < len(columns):
        return "right" if columns[-1] else "left" if columns[0] else "rectangle"
    return "rectangle"
