"""Sheets of what a generator makes: reconstructions and completions, for logs and cards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from genkt.generative.generator import Generator
from genkt.generative.vqgan import VQGAN
from genkt.report.kit.grid import picture_grid

COLUMNS = 12


def reconstruction_sheet(vqgan: VQGAN, images: Tensor) -> Image.Image:
    """Originals above their reconstructions, twelve per row."""
    decoded = vqgan.decode(vqgan.encode(images)).cpu()
    rows = []
    for start in range(0, len(images), COLUMNS):
        rows.append(as_pictures(images[start : start + COLUMNS]))
        rows.append(as_pictures(decoded[start : start + COLUMNS]))
    return picture_grid(rows)


def completion_sheet(
    generator: Generator, images: Tensor, *, num_samples: int = 8,
    sides: Sequence[str] = ("bottom",), seed: int = 0,
) -> Image.Image:  # fmt: skip
    """A row per picture and hidden half: the picture, what is visible of it, its completions."""
    rows = []
    for side in sides:
        masks = half_masks(len(images), generator.size, side)
        shown = images.clone()
        shown[masks[:, None].expand_as(shown)] = 128
        completed = generator.complete(images, masks, num_samples=num_samples, seed=seed).images
        for picture, masked, samples in zip(images, shown, completed, strict=True):
            rows.append(as_pictures(torch.stack([picture, masked, *samples])))
    return picture_grid(rows, ["source", "visible", "completed"])


def half_masks(num: int, size: int, side: str) -> Tensor:
    """[num, size, size] masks that hide the half at one side."""
    mask = torch.zeros(num, size, size, dtype=torch.bool)
    half = size // 2
    place = {
        "bottom": (slice(half, None), slice(None)), "top": (slice(half), slice(None)),
        "right": (slice(None), slice(half, None)), "left": (slice(None), slice(half)),
    }[side]  # fmt: skip
    mask[(slice(None), *place)] = True
    return mask


def as_pictures(images: Tensor) -> list[Image.Image]:
    """uint8 [N, 3, H, W] as pictures."""
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
