"""Views with random colours as well, for training without labels."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genkt.data.views import ViewDataset, ViewSpec
from genkt.io import derive_seed

LUMA = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

_JITTERED, _GREY = 0.8, 0.2


@dataclass(frozen=True)
class JitterSpec(ViewSpec):
    """Which views of a picture exist, colours included.

    Args:
        color_jitter: strength s of ``jitter``, 0..1; 0: colours stay.
    """

    color_jitter: float = 0.0


class JitterViews(ViewDataset):
    """A ``ViewDataset`` that also draws the colours of a view, before its geometry.

    The colours are drawn from ``derive_seed(spec.seed, sample_id, view_index, "color")``.
    """

    spec: JitterSpec

    def _render(self, key: tuple[int, int], image: Image.Image) -> tuple[Tensor, ...]:
        seed = derive_seed(self.spec.seed, self.images.ids[key[0]], key[1], "color")
        return super()._render(key, jitter(image, self.spec.color_jitter, seed))


def jitter(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Change brightness, contrast, saturation and hue at random, or make the picture grey.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
    Appendix A: with probability 0.8 brightness, contrast and saturation change by factors of
    1 +- 0.8 s and the hue by +- 0.2 s of a turn; with probability 0.2 the picture becomes grey.
    Differs from the paper: the order is fixed, the hue turns about the grey axis of RGB (so that
    one matrix does everything), and nothing is blurred.

    Args:
        image: RGB.
        strength: s, 0..1; at 0 the picture is returned as it is.
        seed: of every draw.
    """
    if not strength:
        return image
    rng = random.Random(seed)
    # Every number is drawn whether or not it is used: the order of draws is the same for all.
    brightness, contrast, saturation = (
        rng.uniform(1 - 0.8 * strength, 1 + 0.8 * strength) for _ in range(3)
    )
    turn = rng.uniform(-0.2 * strength, 0.2 * strength)
    jittered, grey = rng.random() < _JITTERED, rng.random() < _GREY
    if not jittered:
        brightness, contrast, saturation, turn = 1.0, 1.0, 1.0, 0.0
    if grey:
        saturation = 0.0
    if not (jittered or grey):
        return image
    mean = brightness * float(np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) @ LUMA)
    colours = _hue(turn) @ _saturation(saturation)
    offset = (1 - contrast) * mean  # grey, which neither saturation nor hue moves
    rows = np.column_stack([brightness * contrast * colours, np.full(3, offset)])
    matrix: Any = tuple(rows.ravel().tolist())
    return image.convert("RGB", matrix)


def _saturation(factor: float) -> NDArray[np.float64]:
    """[3, 3] between grey (0), the picture itself (1) and beyond."""
    return factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))


def _hue(turn: float) -> NDArray[np.float64]:
    """[3, 3] rotation of RGB about its grey axis, 1 being a full turn."""
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cos * np.eye(3) + (1 - cos) / 3 * np.ones((3, 3)) + sin * cross
